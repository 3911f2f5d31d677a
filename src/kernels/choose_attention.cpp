// docs/kernels/attention.md draws the tiles and derives the budgets.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <optional>

#include "interface/attention.h"
#include "kernels/attention_shape.h"
#include "kernels/forms.h"
#include "kernels/grid.h"
#include "kernels/loops.h"

namespace tessera {
namespace {

constexpr std::uint32_t kGroup = 128;  // the floor; more rows a workgroup would need more shared memory too
// Vec4 of the output that a lane holds, over its rows: 16 spill on Intel (256 bytes of registers a lane).
constexpr std::uint32_t kMostOutput = 8;
// Workgroups that fill a large device: 132 processors with four groups of 128 each, as on an H100.
constexpr std::uint32_t kFill = 512;
constexpr std::uint32_t kKeysASplit = 128;  // of the context, at least: twice kSplitMinKeys
constexpr std::uint32_t kMostSplits = 256;
// A processor's cores, each with a few workgroups; loading q again costs more than idling a little.
constexpr std::uint32_t kFillSoftware = 64;
// A mask may leave the keys of a few splits alone, and a software driver walks the code of the others too. Of
// a tensor no key is left out, but what it gives is what a user's function gives, bit by bit.
constexpr std::uint32_t kFillMasked = 16;
// attention_keys: vec4 of q and of the output that a lane holds: lavapipe 25 compiles 64 for 7 s, 128 for 20.
constexpr std::uint32_t kMostKeysVectors = 64;
// Shared memory a workgroup may take where there is more: 48 KiB leave room for two on 100 KiB.
constexpr std::uint32_t kMostShared = 48 * 1024;

std::uint32_t as_u32(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

std::uint32_t group_of(const Limits& limits) {
  return std::min(
      {kGroup, std::bit_floor(limits.max_group_invocations), std::bit_floor(limits.max_group_size[0])});
}

std::uint32_t head_groups(const AttentionShape& s) { return s.attrs.heads / folded_heads(s); }

Error too_many(const AttentionShape& s) {
  return {Code::unsupported, describe(s) + ": more workgroups than maxComputeWorkGroupCount allows"};
}
Error too_little_shared(const AttentionShape& s) {
  return {Code::unsupported, describe(s) + ": too little shared memory for any tile"};
}
bool fits(const Dispatch& d, const Limits& limits) {
  return d.grid[0] <= limits.max_group_count[0] && d.grid[1] <= limits.max_group_count[1] &&
         d.grid[2] <= limits.max_group_count[2];
}

struct TileSizes {
  std::uint32_t group, col_groups, row_tile, col_tile, chunk, q_whole, v_cols, dim4, v_dim4;
  std::uint32_t rows() const { return group / col_groups * row_tile; }
  std::uint32_t cols() const { return col_groups * col_tile; }
  // The shared arrays of lib/attention_tile.glsl and attention.comp.
  std::uint64_t shared_bytes() const {
    const std::uint64_t q_pitch = (q_whole ? as_u32(ceil_div(dim4, chunk)) * chunk : chunk) | 1;
    const std::uint64_t v_pitch = ceil_div(v_dim4, col_groups) * col_groups;
    const std::uint64_t kv = std::max(cols() * std::uint64_t{chunk | 1}, v_cols * v_pitch);
    return 16 * (rows() * q_pitch + kv + rows() * std::uint64_t{(cols() / 4) | 1}) +
           std::uint64_t{rows()} * (4 * col_groups + 12);
  }
};

// Tries V staged in fewer and fewer columns.
bool fit(TileSizes& t, std::uint64_t budget) {
  for (t.v_cols = t.cols(); t.v_cols >= 4; t.v_cols /= 2)
    if (t.shared_bytes() <= budget) return true;
  return false;
}

// The tallest tile first, with whole q rows before staged ones and large chunks before small ones.
std::optional<TileSizes> choose_tile(std::uint64_t folded_rows, std::uint32_t dim, std::uint32_t v_dim,
                                     const Limits& limits) {
  TileSizes t{};
  t.group = group_of(limits);
  t.dim4 = as_u32(ceil_div(dim, 4));
  t.v_dim4 = as_u32(ceil_div(v_dim, 4));
  t.col_groups = std::max(t.dim4, t.v_dim4) > 16 ? 16 : 8;
  t.col_tile = 32 / t.col_groups;
  if (t.group < t.col_groups) return std::nullopt;
  const std::uint64_t budget = std::min(limits.max_shared_bytes, kMostShared);
  const auto most_rows = std::bit_floor(kMostOutput / as_u32(ceil_div(t.v_dim4, t.col_groups)));
  for (std::uint32_t least_chunk : {8u, 2u, 1u})
    for (t.row_tile = std::min(4u, most_rows); t.row_tile > 0; t.row_tile /= 2) {
      if (t.row_tile > 1 && t.rows() / 2 >= folded_rows) continue;
      for (t.q_whole = 2; t.q_whole-- > 0;)
        for (std::uint32_t chunk : {t.dim4, 32u, 16u, 8u, 4u, 2u, 1u}) {
          t.chunk = chunk;
          if (chunk > t.dim4 || chunk < std::min(least_chunk, t.dim4)) continue;
          if (fit(t, budget)) return t;
        }
    }
  return std::nullopt;
}

Result<void> choose_tiles(const AttentionShape& s, const Target& target, AttentionChoice& out) {
  const AttentionAttrs& a = s.attrs;
  const Limits& limits = target.limits;
  const std::uint64_t folded = folded_rows(s);
  const auto t = choose_tile(folded, a.head_dim, a.v_dim, limits);
  if (!t) return too_little_shared(s);
  const std::uint64_t tiles = row_tiles(s, t->rows());
  if (tiles > limits.max_group_count[0]) return too_many(s);
  Dispatch d;
  d.kernel = KernelId::attention;
  d.spec = attention_specs(s, t->group);
  d.spec.insert(d.spec.end(), {t->col_groups, t->row_tile, t->col_tile, t->chunk, t->q_whole, t->v_cols});
  d.params = words_of(attention_params(s, t->rows(), 1));
  d.operands = attention_operands(s);
  d.grid = {as_u32(tiles), head_groups(s), a.batch};
  d.tile_rows = t->rows();
  d.tile_keys = t->cols();
  if (!fits(d, limits)) return too_many(s);
  TSR_CHECK(check_loops(d, limits, describe(s)));
  count_attention(s, d);
  out.dispatches.push_back(std::move(d));
  return {};
}

struct SplitSizes {
  std::uint32_t group, parts, dim_lanes, rows, dim4, v_dim4;
  bool cosine, user;
  // The shared arrays of attention_split.comp.
  std::uint64_t shared_bytes() const {
    return std::uint64_t{rows} * (16 * (dim4 + group) + 8 * (group / dim_lanes)) + (cosine ? 16 * group : 0) +
           (user ? 16 : 0);
  }
};

SplitSizes split_sizes(const AttentionShape& s, std::uint64_t folded_rows, const Limits& limits) {
  SplitSizes t{};
  t.group = group_of(limits);
  t.dim4 = as_u32(ceil_div(s.attrs.head_dim, 4));
  t.v_dim4 = as_u32(ceil_div(s.attrs.v_dim, 4));
  t.cosine = s.attrs.score == AttentionScore::cosine;
  t.user = s.attrs.user != nullptr;
  t.parts = std::min(8u, std::bit_floor(t.dim4));  // 8 lanes read 128 bytes of a key side by side
  // Lanes before vec4: with two vec4 a lane and four rows, Adreno spills.
  t.dim_lanes = std::min({64u, std::bit_ceil(t.v_dim4), t.group});
  const std::uint64_t dim_tile = ceil_div(t.v_dim4, t.dim_lanes);
  t.rows = as_u32(std::min(std::bit_ceil(folded_rows), std::bit_floor(kMostOutput / dim_tile)));
  while (t.rows > 1 && t.shared_bytes() > limits.max_shared_bytes) t.rows /= 2;
  return t;
}

// Splits that a merge has room for.
std::uint32_t most_merged(const Limits& limits) {
  return std::min(kMostSplits, limits.max_shared_bytes / 16);
}

// Of any number of splits by one pipeline: sequences grow.
Dispatch merge_of(const AttentionShape& s, std::uint32_t splits, const Limits& limits) {
  const AttentionAttrs& a = s.attrs;
  const std::uint32_t dim4 = as_u32(ceil_div(a.v_dim, 4));
  const std::uint32_t dim_lanes = std::min(group_size(dim4, 64, limits), std::bit_ceil(dim4));
  Dispatch d;
  d.kernel = KernelId::attention_merge;
  d.spec = attention_specs(s, group_size(64, 64, limits));
  d.spec.insert(d.spec.end(), {dim_lanes, most_merged(limits)});
  d.params = words_of(attention_params(s, 1, splits));
  d.operands = attention_operands(s);
  for (OperandIndex& operand : d.operands) {
    const auto i = static_cast<std::uint32_t>(&operand - d.operands.data());
    if (i == shader::kAttentionK || i == shader::kAttentionV || i == shader::kAttentionMask ||
        i == shader::kAttentionBias || i == shader::kAttentionSlopes || i == shader::kAttentionTable)
      operand = kNoOperand;
  }
  d.operands[shader::kMergePartials] = kScratchOperand;
  d.grid = {a.heads, a.q_len, a.batch};
  const double rows = double(a.batch) * a.q_len * a.heads;
  d.bytes = rows * (splits * 16.0 * (dim4 + 1) + a.v_dim * double(info(s.y_type).block_bytes));
  d.flops = rows * splits * 2.0 * a.v_dim;
  return d;
}

// Keys that are walked over for some rows, at most. Rows of one tile may lie in documents that are far apart.
std::uint64_t most_keys(const AttentionShape& s) {
  const AttentionAttrs& a = s.attrs;
  const bool prefix = a.prefix_length != 0 || s.operands.prefixes;
  if (a.window_left == kNoWindow || a.causal == Causal::none || s.operands.documents != 0 || prefix)
    return a.kv_len;
  return std::min<std::uint64_t>(a.kv_len, std::uint64_t{a.window_left} + a.q_len);
}

std::uint64_t partial_bytes(const AttentionShape& s) {  // of a split
  const AttentionAttrs& a = s.attrs;
  return 16ull * a.batch * a.q_len * a.heads * (ceil_div(a.v_dim, 4) + 1);
}

std::uint32_t most_splits(const AttentionShape& s, std::uint32_t rows, const Limits& limits) {
  return as_u32(std::max<std::uint64_t>(
      1, std::min<std::uint64_t>({most_merged(limits), limits.max_group_count[0] / row_tiles(s, rows),
                                  limits.max_storage_range / partial_bytes(s)})));
}

// Enough for `fill` workgroups of `rows` folded rows, of no fewer than kKeysASplit keys each.
std::uint32_t splits_of(const AttentionShape& s, std::uint32_t rows, std::uint32_t fill,
                        const Limits& limits) {
  const std::uint64_t groups = std::uint64_t{s.attrs.batch} * head_groups(s) * row_tiles(s, rows);
  return as_u32(std::max<std::uint64_t>(
      1, std::min<std::uint64_t>(
             {ceil_div(fill, groups), ceil_div(most_keys(s), kKeysASplit), most_splits(s, rows, limits)})));
}

// `splits`, or as many more as the driver lets loops over the keys of one come to their end.
std::uint32_t enough_splits(const AttentionShape& s, std::uint32_t rows, std::uint32_t splits, Dispatch d,
                            const Limits& limits) {
  for (const std::uint32_t most = most_splits(s, rows, limits);; splits = std::min(2 * splits, most)) {
    d.params = words_of(attention_params(s, rows, splits));
    if (splits >= most || loops_end(d, limits)) return splits;
  }
}

// The dispatch over (splits of each tile of `rows`, KV heads, batch), and the merge of several splits.
Result<void> add_splits(const AttentionShape& s, std::uint32_t rows, std::uint32_t splits, Dispatch d,
                        const Limits& limits, AttentionChoice& out) {
  d.params = words_of(attention_params(s, rows, splits));
  d.operands = attention_operands(s);
  d.grid = {as_u32(row_tiles(s, rows) * splits), head_groups(s), s.attrs.batch};
  TSR_CHECK(check_loops(d, limits, describe(s)));
  count_attention(s, d);
  if (!fits(d, limits)) return too_many(s);
  if (splits == 1) {
    out.dispatches.push_back(std::move(d));
    return {};
  }
  Dispatch merge = merge_of(s, splits, limits);
  if (!fits(merge, limits)) return too_many(s);
  d.operands[shader::kAttentionOut] = kScratchOperand;
  d.operands[shader::kAttentionLse] = d.operands[shader::kAttentionSinks] = kNoOperand;
  out.scratch.push_back(partial_bytes(s) * splits);
  out.dispatches.push_back(std::move(d));
  out.dispatches.push_back(std::move(merge));
  return {};
}

Result<void> choose_splits(const AttentionShape& s, const Target& target, AttentionChoice& out) {
  const Limits& limits = target.limits;
  const SplitSizes t = split_sizes(s, folded_rows(s), limits);
  if (t.shared_bytes() > limits.max_shared_bytes) return too_little_shared(s);
  if (row_tiles(s, t.rows) > limits.max_group_count[0]) return too_many(s);
  Dispatch d;
  d.kernel = KernelId::attention_split;
  d.spec = attention_specs(s, t.group);
  d.spec.insert(d.spec.end(), {t.parts, t.dim_lanes, t.rows, 0});
  const std::uint32_t splits = enough_splits(s, t.rows, splits_of(s, t.rows, kFill, limits), d, limits);
  d.spec[shader::kSplitSpecDirect] = splits == 1;
  return add_splits(s, t.rows, splits, std::move(d), limits, out);
}

// Tiles; of so many keys that the device's driver would end the loops, splits as of few rows.
Result<void> choose_rows(const AttentionShape& s, const Target& target, AttentionChoice& out) {
  Result<void> tiles = choose_tiles(s, target, out);
  if (tiles.ok() || target.limits.max_loop_iterations == Limits{}.max_loop_iterations) return tiles;
  return choose_splits(s, target, out).ok() ? Result<void>{} : tiles;
}

// 0: too long a code, or no faster than the forms for GPUs.
std::uint32_t keys_rows(const AttentionShape& s) {
  const AttentionAttrs& a = s.attrs;
  const std::uint64_t folded = folded_rows(s);
  const std::uint32_t wide = attention_wide(s),
                      all = 1u << shader::kAttentionQ | 1u << shader::kAttentionK | 1u << shader::kAttentionV;
  // tanh is as long as four products. A single row of them, head_dim 32, takes lavapipe 22 170 ms (512 x 512,
  // 8 heads), tiles take 75; two of 16 take 42 and 62.
  const bool additive = a.score == AttentionScore::additive;
  const std::uint64_t vectors = (ceil_div(a.head_dim, 4) + ceil_div(a.v_dim, 4)) *
                                ((wide & all) == all || s.kv_type == DType::q8_0 ? 1 : 4) *
                                (additive ? 4 : 1);
  if (additive && 2 * vectors > kMostKeysVectors) return 0;
  // Up to four rows are one read of the keys; of many, with more than two registers leave the nearest cache.
  const std::uint64_t wanted = folded <= 4 ? std::bit_ceil(folded) : 2;
  return as_u32(std::min(wanted, std::bit_floor(kMostKeysVectors / vectors)));
}

// A lane a key: only where shared memory is no nearer than any other and registers are memory.
bool takes_keys(const AttentionShape& s, const Target& target) {
  const std::uint32_t rows = keys_rows(s);
  return target.caps.software && target.caps.subgroup_arithmetic && one_subgroup_size(target) && rows > 0 &&
         row_tiles(s, rows) <= target.limits.max_group_count[0];
}

Result<void> choose_keys(const AttentionShape& s, const Target& target, AttentionChoice& out) {
  if (!takes_keys(s, target))
    return Error{
        Code::unsupported,
        "a lane a key is for software drivers with subgroups of one size, and heads that fit a lane"};
  const std::uint32_t rows = keys_rows(s), lanes = target.limits.subgroup_size;
  const bool masked = s.operands.mask || (s.attrs.user != nullptr && !s.attrs.user->mask.empty());
  const std::uint32_t fill = masked ? kFillMasked : kFillSoftware;
  Dispatch d;
  d.kernel = KernelId::attention_keys;
  d.tile_rows = rows;
  d.tile_keys = lanes;
  d.spec = attention_specs(s, lanes);
  d.spec.insert(d.spec.end(), {rows, 0});
  const std::uint32_t splits =
      enough_splits(s, rows, splits_of(s, rows, fill, target.limits), d, target.limits);
  d.spec[shader::kKeysSpecDirect] = splits == 1;
  if (target.caps.subgroup_size_control) d.subgroup_size = lanes;
  return add_splits(s, rows, splits, std::move(d), target.limits, out);
}

Result<Dispatch> choose_scores(const AttentionShape& s, OperandIndex lse, OperandIndex to,
                               const Limits& limits) {
  const AttentionAttrs& a = s.attrs;
  const auto t = choose_tile(a.score_rows, a.head_dim, 1, limits);
  if (!t) return too_little_shared(s);
  Dispatch d;
  d.kernel = KernelId::attention_scores;
  d.spec = attention_specs(s, t->group);
  d.spec.insert(d.spec.end(), {t->col_groups, t->row_tile, t->col_tile, t->chunk, t->q_whole});
  d.params = words_of(attention_params(s, t->rows(), 1));
  d.operands = attention_operands(s);
  d.operands[shader::kAttentionV] = d.operands[shader::kAttentionSinks] = kNoOperand;
  d.operands[shader::kAttentionOut] = to;
  d.operands[shader::kAttentionLse] = lse;
  const std::uint64_t slots = std::uint64_t{a.batch} * score_slots(a);
  if (slots > limits.max_group_count[2]) return too_many(s);
  d.grid = {as_u32(ceil_div(std::max(a.kv_len, 1u), t->cols())), as_u32(ceil_div(a.score_rows, t->rows())),
            as_u32(slots)};
  if (!fits(d, limits)) return too_many(s);
  TSR_CHECK(check_loops(d, limits, describe(s)));
  // Raw and capped scores are there of every key.
  const double all = double(a.score_rows) * a.kv_len;
  const bool hidden = a.scores == AttentionScores::masked || are_weights(a.scores);
  const double pairs = hidden ? visible_keys(a, a.score_row, a.score_rows).pairs : all;
  d.flops = 2 * double(a.batch) * a.score_heads * pairs * a.head_dim;
  d.bytes = 4 * double(slots) * all;
  return d;
}

// Before the dispatches of `out`: all scores, and of each row bits of the keys that it keeps.
Result<void> keep_top_k(const AttentionShape& s, const Limits& limits, AttentionChoice& out) {
  const AttentionAttrs& a = s.attrs;
  AttentionShape all = s;
  all.attrs.top_k = all.attrs.score_head = all.attrs.score_row = 0;
  all.attrs.scores = AttentionScores::masked;
  all.attrs.score_heads = a.heads;
  all.attrs.score_rows = a.q_len;
  const auto scores = static_cast<OperandIndex>(kScratchOperand + out.scratch.size());
  const auto bits = static_cast<OperandIndex>(scores + 1);
  const std::uint64_t rows = std::uint64_t{a.batch} * a.heads * a.q_len;
  TSR_TRY(Dispatch score, choose_scores(all, kNoOperand, scores, limits));
  Dispatch d;
  d.kernel = KernelId::attention_keep;
  d.spec = attention_specs(s, group_of(limits));
  d.params = words_of(attention_params(s, 1, 1));
  d.operands.assign(shader::kAttentionBindings, kNoOperand);
  const std::vector<OperandIndex> operands = attention_operands(s);
  for (const std::uint32_t binding : {shader::kAttentionState, shader::kAttentionParams})
    d.operands[binding] = operands[binding];
  d.operands[shader::kKeepScores] = scores;
  d.operands[shader::kAttentionOut] = bits;
  d.grid = {a.q_len, a.heads, a.batch};
  if (!fits(d, limits)) return too_many(s);
  TSR_CHECK(check_loops(d, limits, describe(s)));
  d.bytes = 4.0 * double(rows) * a.kv_len;
  for (Dispatch& other : out.dispatches)
    if (other.kernel != KernelId::attention_merge) other.operands[shader::kAttentionKeep] = bits;
  out.scratch.push_back(rows * a.kv_len * 4);
  out.scratch.push_back(rows * ceil_div(a.kv_len, 32) * 4);
  out.dispatches.insert(out.dispatches.begin(), {std::move(score), std::move(d)});
  return {};
}

template <auto choose>
Result<void> add_matrix(const AttentionShape& s, const Target& target, AttentionChoice& out) {
  TSR_TRY(Dispatch d, choose(s, target));
  out.dispatches.push_back(std::move(d));
  return {};
}

using Form = FormOf<AttentionShape, AttentionChoice>;
// In the order of preference where nothing was measured.
constexpr Form kForms[] = {{"attention_coopmat2", &add_matrix<choose_attention_coopmat2>},
                           {"attention_coopmat", &add_matrix<choose_attention_coopmat>},
                           {"attention_keys", &choose_keys, true},
                           {"attention", &choose_rows}};
constexpr Form kFewRowsForms[] = {{"attention_keys/few_rows", &choose_keys, true},
                                  {"attention_split/few_rows", &choose_splits}};
constexpr auto kRateNames = rate_names_of(kForms, kFewRowsForms);

}  // namespace

std::span<const std::string_view> attention_rate_names() { return kRateNames; }

Result<AttentionChoice> choose_attention(const AttentionShape& shape, const Target& target) {
  TSR_TRY(AttentionShape s, checked(shape, target.limits));
  AttentionChoice out;
  OperandIndex lse = shape.operands.lse ? OperandIndex{shader::kAttentionLse} : kNoOperand;
  const bool own_lse = are_weights(s.attrs.scores) && !s.operands.lse;
  s.operands.lse = s.operands.lse || own_lse;
  if (has_few_rows(s)) {
    for (const char* form : {"attention_coopmat2", "attention_coopmat"})
      out.refused.push_back({form, "few rows: the keys are split instead"});
    TSR_CHECK(choose_form(std::span<const Form>(kFewRowsForms), s, target, out));
  } else {
    TSR_CHECK(choose_form(std::span<const Form>(kForms), s, target, out));
  }
  if (own_lse) {
    lse = static_cast<OperandIndex>(kScratchOperand + out.scratch.size());
    out.scratch.push_back(std::uint64_t{s.attrs.batch} * s.attrs.heads * s.attrs.q_len * 4);
    out.dispatches.back().operands[shader::kAttentionLse] = lse;
  }
  if (s.attrs.scores != AttentionScores::none) {
    TSR_TRY(Dispatch scores, choose_scores(s, are_weights(s.attrs.scores) ? lse : kNoOperand,
                                           kAttentionScoresOperand, target.limits));
    out.dispatches.push_back(std::move(scores));
  }
  if (s.attrs.top_k != 0) TSR_CHECK(keep_top_k(s, target.limits, out));
  if (s.attrs.user != nullptr) TSR_CHECK(add_user_functions(s, target.limits, out));
  return out;
}

}  // namespace tessera
