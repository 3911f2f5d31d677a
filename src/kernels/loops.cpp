#include "kernels/loops.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

#include "interface/attention.h"
#include "interface/elementwise.h"
#include "interface/embedding.h"
#include "interface/feed_forward.h"
#include "interface/linear_attention.h"
#include "interface/matmul.h"
#include "interface/mlp.h"
#include "interface/norm.h"
#include "interface/probe.h"
#include "interface/rope.h"
#include "interface/sample.h"
#include "interface/softmax.h"
#include "kernels/grid.h"
#include "kernels/layout.h"

namespace tessera {
namespace {

using namespace shader;

// Such a driver (Mesa's llvmpipe) counts each time that it reaches a loop's end, and walks code whose lanes
// are all done as well: a loop's last, failing test goes through the body once more, and of a branch not
// taken each loop is walked once. Loops that are unrolled cost nothing.
struct Loops {
  std::uint64_t all = 0, skipped = 0;  // counted when walked, and when walked with no lane alive
  Loops operator+(Loops b) const { return {all + b.all, skipped + b.skipped}; }
  Loops operator*(std::uint64_t times) const { return {all * times, skipped * times}; }
};

Loops loop(std::uint64_t times, Loops body = {}) {
  return {times * (1 + body.all) + 1 + body.skipped, 1 + body.skipped};
}
Loops either(Loops a, Loops b) {
  return {std::max(a.all + b.skipped, a.skipped + b.all), a.skipped + b.skipped};
}

template <typename Push>
std::uint32_t push_of(const Dispatch& d, std::size_t offset) {
  return d.push[offset / 4];
}
#define TSR_PUSH(Push, member) push_of<Push>(d, offsetof(Push, member))

// lib/reduce.glsl, of `values` over `group` lanes, either way.
Loops reduce(std::uint64_t values, std::uint32_t group) {
  const Loops each = loop(values);
  return each * 3 + loop(values, loop(group)) + loop(static_cast<std::uint64_t>(std::bit_width(group)), each);
}

// Of a chunk in `pieces` of straight code: one needs no loop.
Loops pieces_of(std::uint64_t pieces) { return pieces > 1 ? loop(pieces) : Loops{}; }

std::uint64_t k_of(const Dispatch& d) { return TSR_PUSH(MatmulPush, k); }
std::uint64_t chunk_of(const Dispatch& d) { return chunk_elems(static_cast<DType>(d.spec[kMatmulSpecType])); }
std::uint64_t matrices_of(const Dispatch& d) { return (d.spec[kMatmulSpecFlags] & kMatmulFlagGated) ? 2 : 1; }

Loops matmul_lanes(const Dispatch& d) {
  const std::uint64_t chunk = chunk_of(d), lanes = d.spec[kMatmulSpecGroup], rows = d.spec[kMatvecSpecRows];
  const std::uint64_t sums = matrices_of(d) * d.spec[kMatvecSpecColumns] * rows;
  const std::uint64_t parts = chunk > 4 * lanes ? chunk / lanes / 4 : 1, step = parts * lanes * 4;
  const Loops multiply = pieces_of(sums * chunk > 1024 && chunk > 16 && parts == 1 ? chunk / 16 : 1);
  const Loops chunks = loop(step / chunk, multiply);
  const bool straight = sums * step <= 512 && step / chunk > 1;
  const Loops body =
      straight ? either(multiply * (step / chunk), Loops{chunks.skipped, chunks.skipped}) : chunks;
  const Loops rest = straight ? either(multiply * (step / chunk), chunks) : Loops{};
  return loop(ceil_div(k_of(d), step), body) + rest + loop(std::bit_width(lanes)) * rows + loop(rows);
}

Loops matvec(const Dispatch& d) {
  const std::uint64_t chunk = chunk_of(d), rows = d.spec[kMatvecSpecRows];
  const std::uint64_t sums = matrices_of(d) * d.spec[kMatvecSpecColumns] * rows + rows;
  const Loops body = loop(chunk > 8 ? chunk / 8 : 1);
  return loop(ceil_div(k_of(d), d.spec[kMatmulSpecGroup] * chunk), body) +
         reduce(sums, d.spec[kMatmulSpecGroup]) + loop(rows);
}

Loops matmul_dot_few(const Dispatch& d) {
  const std::uint64_t sums = matrices_of(d) * d.spec[kMatvecSpecColumns] * d.spec[kMatvecSpecRows];
  return loop(ceil_div(k_of(d), std::uint64_t{32} * d.spec[kMatmulSpecGroup])) +
         reduce(sums, d.spec[kMatmulSpecGroup]);
}

Loops tile(const Dispatch& d) {
  const std::uint32_t k = d.spec[kTileSpecK];
  return loop(ceil_div(k_of(d), k) + 1, loop(k / 4) * matrices_of(d)) +
         loop(d.spec[kTileSpecLaneM] * d.spec[kTileSpecLaneN] / 4);
}

Loops feed_forward_lanes(const Dispatch& d) {
  const std::uint64_t lanes = d.spec[kFeedForwardSpecGroup], rows = d.spec[kFeedForwardSpecLaneRows];
  const std::uint64_t chunk = chunk_elems(static_cast<DType>(d.spec[kFeedForwardSpecType]));
  const std::uint64_t loads = (d.spec[kFeedForwardSpecFlags] & kFeedForwardFlagGated) ? 8 : 4;
  const auto chunks = [&](std::uint64_t sums, std::uint64_t pieces) {
    return loop(4 * lanes / chunk, pieces_of(sums * chunk <= 512 || chunk <= 8 ? 1 : pieces));
  };
  const Loops first = loop(ceil_div(TSR_PUSH(FeedForwardPush, k), 4 * lanes), chunks(loads * rows, 2));
  const Loops second = chunks(std::uint64_t{d.spec[kFeedForwardSpecColumns]} * rows, chunk / 8);
  return loop(TSR_PUSH(FeedForwardPush, share), first + second);
}

Loops feed_forward(const Dispatch& d) {
  const std::uint64_t group = d.spec[kFeedForwardSpecGroup], lanes_m = d.spec[kFeedForwardSpecLanesM];
  const std::uint64_t chunk = chunk_elems(static_cast<DType>(d.spec[kFeedForwardSpecType]));
  const std::uint64_t units =
      group / lanes_m * ((d.spec[kFeedForwardSpecFlags] & kFeedForwardFlagGated) ? 2 : 4);
  const std::uint64_t rows = lanes_m * d.spec[kFeedForwardSpecLaneRows];
  const Loops multiply = loop(chunk > 8 ? chunk / 4 : 1);
  const Loops first = loop(ceil_div(TSR_PUSH(FeedForwardPush, k), chunk), multiply);
  const Loops second = loop(ceil_div(units, chunk), multiply) * (d.spec[kFeedForwardSpecColumns] / 4);
  return loop(ceil_div(rows * d.spec[kFeedForwardSpecXVec4], group)) +
         loop(TSR_PUSH(FeedForwardPush, share), first + second);
}

Loops mlp(const Dispatch& d) {
  const bool lanes = d.kernel == KernelId::mlp_lanes;
  const std::uint64_t group = d.spec[kMlpSpecGroup], row_vec4 = d.spec[kMlpSpecVec4];
  const std::uint64_t rows = d.spec[kMlpSpecLaneRows],
                      lanes_n = lanes ? group : group / d.spec[kMlpSpecLanesM];
  const std::uint64_t chunk = chunk_elems(static_cast<DType>(d.spec[kMlpSpecType]));
  const std::uint64_t step = lanes ? 4 * group : chunk;  // of k
  const Loops body = lanes ? loop(4 * group / chunk, pieces_of(4 * rows * chunk <= 512 || chunk <= 8 ? 1 : 2))
                           : loop(chunk > 8 ? chunk / 4 : 1);
  std::uint64_t all = 0;
  for (std::size_t at = 0; at < d.params.size(); at += kMlpLayerWords) {
    const std::uint64_t k = d.params[at + kMlpLayerK], n = d.params[at + kMlpLayerN];
    all += 1 + loop(ceil_div(n, 4 * lanes_n), loop(ceil_div(k, step), body)).all;
  }
  const Loops none = loop(0, loop(0, loop(0, body)));
  const std::uint64_t loads =
      lanes ? ceil_div(row_vec4, group) : ceil_div(group / lanes_n * rows * row_vec4, group);
  return Loops{all + none.all, none.skipped} + loop(loads);
}

Loops norm(const Dispatch& d) {
  const std::uint32_t group = d.spec[kNormSpecGroup];
  return (loop(ceil_div(TSR_PUSH(NormPush, dim), group)) + reduce(1, group)) * 3;
}

Loops softmax(const Dispatch& d) {
  const std::uint32_t lanes = d.spec[kSoftmaxSpecGroup] / d.spec[kSoftmaxSpecColumns];
  return (loop(ceil_div(TSR_PUSH(SoftmaxPush, n), lanes)) + loop(std::bit_width(lanes))) * 3;
}

Loops sample(const Dispatch& d) {
  constexpr std::uint64_t kMarked = 16384, kDigits = 256, kBlock = 16, kStages = 5;  // of sample.comp
  const std::uint64_t vocab = TSR_PUSH(SamplePush, vocab), context = TSR_PUSH(SamplePush, context);
  const std::uint32_t group = d.spec[kSampleSpecGroup];
  const Loops prepare =
      loop(ceil_div(vocab, kMarked), loop(ceil_div(kMarked / 32, group)) + loop(ceil_div(context, group)) +
                                         loop(ceil_div(kMarked, group)));
  const Loops digits = loop(ceil_div(kDigits, group)) + loop(ceil_div(vocab, group)) +
                       loop(ceil_div(kDigits / kBlock, group), loop(kBlock)) + loop(kDigits / kBlock) * 3;
  return prepare + loop(std::bit_width(group)) + loop(kStages, loop(4, digits)) + loop(10);
}

// What the forms of attention share.
struct Seen {
  std::uint64_t group, dim4, v_dim4, keys, rows;
  bool cosine;
  Loops document, list, store;
};

AttentionParams params_of(const Dispatch& d) {
  AttentionParams p{};
  static_assert(sizeof(p) % 4 == 0);
  std::array<std::uint32_t, sizeof(p) / 4> words{};
  std::copy_n(d.params.begin(), std::min(d.params.size(), words.size()), words.begin());
  return std::bit_cast<AttentionParams>(words);
}

Seen seen_of(const Dispatch& d, const AttentionParams& p) {
  const std::uint32_t flags = d.spec[kAttentionSpecFlags];
  Seen s{d.spec[kAttentionSpecGroup],
         ceil_div(d.spec[kAttentionSpecDim], 4),
         ceil_div(d.spec[kAttentionSpecVDim], 4),
         p.kv_len,
         p.q_len,
         (flags & kAttentionCosine) != 0,
         {},
         {},
         loop(4)};
  // The rows of a tile may lie in documents that are far apart, or see a prefix.
  if ((flags & kAttentionCausal) != 0 && p.window_left != kNoWindow &&
      (flags & (kAttentionHasDocuments | kAttentionHasPrefix)) == 0)
    s.keys = std::min<std::uint64_t>(s.keys, std::uint64_t{p.window_left} + p.q_len);
  if ((flags & kAttentionHasLists) != 0) s.list = loop(std::bit_width(p.list_most)) * 2;
  if ((flags & kAttentionHasDocuments) != 0) s.document = loop(std::bit_width(p.documents));
  return s;
}

// Of a split, as split_keys() of lib/attention.glsl has them.
std::uint64_t split_keys(const Seen& s, const AttentionParams& p) {
  return std::min(s.keys, std::max<std::uint64_t>(kSplitMinKeys,
                                                  ceil_div(ceil_div(s.keys, std::max(p.splits, 1u)), 4) * 4));
}

Loops attention_tiles(const Dispatch& d) {
  const Seen s = seen_of(d, params_of(d));
  const std::uint64_t col_groups = d.spec[kAttentionSpecColGroups], row_tile = d.spec[kAttentionSpecRowTile];
  const std::uint64_t cols = col_groups * d.spec[kAttentionSpecColTile],
                      rows = s.group / col_groups * row_tile;
  const std::uint64_t chunk = d.spec[kAttentionSpecChunk], chunks = ceil_div(s.dim4, chunk);
  const Loops stage_q = loop(ceil_div(rows * chunk, s.group)),
              stage_k = loop(ceil_div(cols * chunk, s.group));
  const Loops scores = loop(chunks, stage_k + (d.spec[kAttentionSpecQWhole] != 0 ? Loops{} : stage_q) +
                                        loop(chunk % 4 == 0 ? chunk / 4 : chunk));
  const Loops begin = loop(ceil_div(rows, s.group), s.document) + s.document * 2 + s.list +
                      loop(ceil_div(rows * chunks * chunk, s.group));
  const std::uint64_t elements = row_tile * d.spec[kAttentionSpecColTile];
  if (d.kernel == KernelId::attention_scores) {
    const bool average = params_of(d).score_kind == kScoresAverage;
    return begin + loop(average ? params_of(d).score_heads : 1, scores + s.list * elements);
  }
  const std::uint64_t v_cols = d.spec[kAttentionSpecVCols];
  const Loops across = loop(col_groups / 4) * row_tile;
  const Loops weigh_v =
      loop(ceil_div(cols, v_cols), loop(ceil_div(v_cols * s.v_dim4, s.group)) + loop(v_cols / 4));
  return begin + loop(ceil_div(s.keys, cols), scores + across + weigh_v) + across +
         s.store * (row_tile * ceil_div(s.v_dim4, col_groups));
}

Loops attention_split(const Dispatch& d) {
  const AttentionParams p = params_of(d);
  const Seen s = seen_of(d, p);
  const std::uint64_t parts = d.spec[kSplitSpecParts], dim_lanes = d.spec[kSplitSpecDimLanes];
  const std::uint64_t rows = d.spec[kSplitSpecRows], quads = s.group / parts, key_lanes = s.group / dim_lanes;
  const std::uint64_t d_step = s.dim4 % (4 * parts) == 0 ? 4 : s.dim4 % (2 * parts) == 0 ? 2 : 1;
  const Loops sum = loop(parts) * (s.cosine ? 2 : 1);
  const Loops body = loop(ceil_div(s.dim4, d_step * parts)) +
                     loop(ceil_div(rows * quads, s.group), sum + s.document) +
                     loop(ceil_div(quads, key_lanes));
  const Loops load = loop(ceil_div(rows * s.dim4, s.group));
  const Loops begin = s.document * 2 + s.list + load +
                      (s.cosine ? loop(ceil_div(rows, s.group), loop(s.dim4)) + load : Loops{});
  const Loops merge = loop(ceil_div(s.v_dim4, dim_lanes),
                           loop(ceil_div(rows * dim_lanes, s.group), loop(key_lanes) * 2 + s.store));
  return begin + loop(ceil_div(split_keys(s, p), 4 * quads), body) + merge;
}

Loops attention_keys(const Dispatch& d) {
  const AttentionParams p = params_of(d);
  const Seen s = seen_of(d, p);
  const std::uint64_t rows = d.spec[kKeysSpecRows];
  return s.document * (4 + rows) + s.list * 2 + loop(ceil_div(split_keys(s, p), s.group)) +
         s.store * (rows * s.v_dim4);
}

Loops attention_merge(const Dispatch& d) {
  const AttentionParams p = params_of(d);
  const Seen s = seen_of(d, p);
  const std::uint64_t splits = p.splits, dim_lanes = d.spec[kMergeSpecDimLanes];
  const std::uint64_t split_lanes = s.group / dim_lanes;
  return s.document * 2 + s.list + loop(ceil_div(splits, s.group)) + loop(splits) * 2 +
         loop(ceil_div(s.v_dim4, dim_lanes),
              loop(ceil_div(splits, split_lanes)) + loop(split_lanes) + s.store);
}

Loops mask_tiles(const Dispatch& d) {
  const std::uint64_t cols = d.spec[kMaskTilesSpecCols], lanes = d.spec[kMaskTilesSpecLanes];
  const std::uint64_t words = ceil_div(ceil_div(params_of(d).kv_len, cols), 16);
  return loop(ceil_div(words, d.spec[kAttentionSpecGroup] / lanes),
              loop(ceil_div(16 * cols, lanes), loop(d.spec[kMaskTilesSpecRows])));
}

Loops attention_keep(const Dispatch& d) {
  constexpr std::uint64_t kDigits = 256, kPasses = 8;  // of attention_keep.comp
  const Seen s = seen_of(d, params_of(d));
  const std::uint64_t keys = params_of(d).kv_len;
  return s.document * 2 +
         loop(kPasses, loop(ceil_div(kDigits, s.group)) + loop(ceil_div(keys, s.group)) + loop(kDigits)) +
         loop(ceil_div(ceil_div(keys, 32), s.group), loop(32));
}

// On matrix units: padded dimensions are at most a block of 64 longer, and a subgroup has four lanes at
// least.
Loops attention_matrix(const Dispatch& d) {
  const Seen s = seen_of(d, params_of(d));
  const std::uint64_t rows = d.tile_rows, keys = d.tile_keys, pad4 = 16;
  const Loops norms = s.cosine ? loop(ceil_div(std::max(rows, keys), s.group), loop(s.dim4)) : Loops{};
  const Loops strip = loop(ceil_div(rows, 4));
  const Loops body = norms + loop(ceil_div(keys * (s.dim4 + pad4), s.group)) +
                     loop(ceil_div(keys * (s.v_dim4 + pad4) / 4, s.group)) + strip * 2;
  const Loops begin = loop(ceil_div(rows, s.group), s.document + norms) + s.document * 2 + s.list +
                      loop(ceil_div(rows * (s.dim4 + pad4), s.group)) + loop(ceil_div(256, s.group));
  return begin + loop(ceil_div(s.keys, keys), body) + strip +
         loop(ceil_div(rows * (s.v_dim4 + pad4), 4), s.store);
}

Loops linear_attention(const Dispatch& d) {
  const auto spec = [&](std::uint32_t i) { return std::uint64_t{d.spec[i]}; };
  const std::uint64_t group = spec(kLinearSpecGroup), chunk = spec(kLinearSpecChunk),
                      rows = spec(kLinearSpecRows);
  const std::uint64_t parts = spec(kLinearSpecParts), cols4 = spec(kLinearSpecCols4),
                      k = spec(kLinearSpecKDim);
  const std::uint64_t flags = spec(kLinearSpecFlags), k4 = ceil_div(k, 4), blocks = chunk / rows;
  const std::uint64_t width4 = cols4 + ((flags & kLinearFlagNormalise) != 0 ? 1 : 0);
  const auto over = [&](std::uint64_t items, Loops body = {}) { return loop(ceil_div(items, group), body); };
  const Loops four = loop(4), elements = over(chunk * k4, four + four);
  const Loops product = loop(rows) + loop(ceil_div(k4, parts), loop(rows)) +
                        loop(rows, loop(ceil_div(chunk, parts))) + loop(rows, loop(parts));
  const auto products = [&](std::uint64_t columns, Loops body) {
    return loop(ceil_div(blocks * columns, group / parts), product + body);
  };
  const Loops dots = over(chunk * chunk, loop(k4));
  Loops load = elements + over(chunk * width4, four) + over(chunk), correct, update,
        state = over(4 * k4 * width4, four);
  if ((flags & kLinearFlagGated) != 0)
    load = load + (flags & kLinearFlagDecayByDim ? over(k4, loop(chunk, four)) : over(chunk, loop(chunk)));
  if ((flags & kLinearFlagDelta) != 0)
    correct = elements + dots + products(width4, loop(rows)) + over(width4, loop(chunk, loop(chunk)));
  if ((flags & kLinearFlagUpdate) != 0) update = load + correct + elements + over(k4 * width4, loop(chunk));
  Loops output;
  if ((flags & kLinearFlagOutput) != 0) {
    const Loops row = loop(rows, four);
    output = loop(TSR_PUSH(LinearAttentionPush, heads) / TSR_PUSH(LinearAttentionPush, kv_heads),
                  elements * 2 + dots + products(cols4, row) + products(1, row));
  }
  return state * 2 + loop(ceil_div(TSR_PUSH(LinearAttentionPush, rows), chunk), update + output);
}

Loops linear_attention_lanes(const Dispatch& d) {
  const std::uint64_t heads = TSR_PUSH(LinearAttentionPush, heads) / TSR_PUSH(LinearAttentionPush, kv_heads);
  const std::uint64_t own = ceil_div(d.spec[kLinearSpecKDim], d.spec[kLinearSpecParts]);
  const Loops four = loop(4);  // elements of a vec4
  return four * (2 * own) + loop(TSR_PUSH(LinearAttentionPush, rows), four + loop(heads, four));
}

Loops loops_of(const Dispatch& d) {
  switch (d.kernel) {
    case KernelId::embedding:
      return loop(ceil_div(TSR_PUSH(EmbeddingPush, dim), std::uint64_t{8} * d.spec[kEmbeddingSpecGroup]),
                  loop(4));
    case KernelId::norm:
    case KernelId::norm_subgroup: return norm(d);
    case KernelId::matvec:
    case KernelId::matvec_subgroup: return matvec(d);
    case KernelId::matmul_lanes: return matmul_lanes(d);
    case KernelId::tile: return tile(d);
    case KernelId::matmul_coopmat: return loop(ceil_div(k_of(d), d.spec[kFragmentSpecTileK]));
    case KernelId::matmul_coopmat2: return loop(ceil_div(k_of(d), d.spec[kWholeSpecTileK]));
    case KernelId::matmul_dot: return loop(ceil_div(k_of(d), 32));
    case KernelId::matmul_dot_few: return matmul_dot_few(d);
    case KernelId::feed_forward: return feed_forward(d);
    case KernelId::feed_forward_lanes: return feed_forward_lanes(d);
    case KernelId::feed_forward_merge: return loop(TSR_PUSH(FeedForwardPush, splits));
    case KernelId::mlp:
    case KernelId::mlp_lanes: return mlp(d);
    case KernelId::elementwise: return loop(kElementwisePerLane);
    case KernelId::softmax: return softmax(d);
    case KernelId::rope_append:
    case KernelId::kv_append: return loop(16) * 6;  // magnitudes of blocks
    case KernelId::attention:
    case KernelId::attention_scores: return attention_tiles(d);
    case KernelId::attention_coopmat:
    case KernelId::attention_coopmat_half:
    case KernelId::attention_coopmat2: return attention_matrix(d);
    case KernelId::attention_split: return attention_split(d);
    case KernelId::attention_keys: return attention_keys(d);
    case KernelId::attention_keep: return attention_keep(d);
    case KernelId::attention_merge: return attention_merge(d);
    case KernelId::linear_attention: return linear_attention(d);
    case KernelId::linear_attention_lanes: return linear_attention_lanes(d);
    case KernelId::mask_tiles: return mask_tiles(d);
    case KernelId::probe: return loop(TSR_PUSH(ProbePush, loops));
    case KernelId::sample: return sample(d);
    case KernelId::quantise_rows:
    case KernelId::rope:
    case KernelId::last_row:
    case KernelId::advance:
    case KernelId::count: break;
  }
  return {};
}

}  // namespace

std::uint64_t loop_iterations(const Dispatch& dispatch) { return loops_of(dispatch).all; }

Result<void> check_loops(const Dispatch& dispatch, const Limits& limits, const std::string& what) {
  const std::uint64_t count = loop_iterations(dispatch);
  if (count <= limits.max_loop_iterations) return {};
  return Error{Code::unsupported,
               what + ": " + std::string(kernel(dispatch.kernel).name) + " has " + std::to_string(count) +
                   " iterations of loops a lane, and this device's driver ends them after " +
                   std::to_string(limits.max_loop_iterations) + " (max_loop_iterations)"};
}

}  // namespace tessera
