#include "kernels/attention_shape.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "interface/attention.h"
#include "kernels/grid.h"
#include "kernels/layout.h"

namespace tessera {
namespace {

constexpr std::uint32_t kMostPositions = 1u << 30;  // positions are int on the device

std::uint32_t as_u32(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

bool is_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

using Extents = std::array<std::uint64_t, 4>;
Extents q_extents(const AttentionAttrs& a) { return {a.batch, a.heads, a.q_len, a.head_dim}; }
Extents y_extents(const AttentionAttrs& a) { return {a.batch, a.heads, a.q_len, a.v_dim}; }
Extents kv_extents(const AttentionShape& s, std::uint32_t dim) {
  const AttentionAttrs& a = s.attrs;
  if (a.block_size != 0) return {s.blocks, a.kv_heads, a.block_size, dim};
  return {a.batch, a.kv_heads, a.kv_len, dim};
}

// Bytes from the first to the last element; too many to count: the largest number.
std::uint64_t extent_bytes(const Strides& strides, const Extents& extents, DType type) {
  double last = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    if (extents[i] == 0) return 0;
    last += static_cast<double>(strides[i]) * static_cast<double>(extents[i] - 1);
  }
  const double bytes = type == DType::q8_0 ? (last + 1) / static_cast<double>(extents[3]) *
                                                 static_cast<double>(device_row_bytes(type, extents[3]))
                                           : (last + 1) * info(type).block_bytes;
  return bytes < 0x1p62 ? static_cast<std::uint64_t>(bytes) : ~std::uint64_t{0};
}

bool all_wide(const Strides& strides, const Extents& extents, std::uint32_t width) {
  bool wide = extents[3] % width == 0 && strides[3] == 1;
  for (std::size_t i = 0; i < 3; ++i) wide = wide && (extents[i] <= 1 || strides[i] % width == 0);
  return wide;
}

struct Checker {
  const AttentionShape& s;
  const Limits& limits;

  Error invalid(const std::string& why) const { return {Code::invalid_argument, describe(s) + ": " + why}; }
  Error unsupported(const std::string& why) const { return {Code::unsupported, describe(s) + ": " + why}; }

  Result<void> sizes() const {
    const AttentionAttrs& a = s.attrs;
    if (a.batch == 0 || a.q_len == 0 || a.heads == 0 || a.kv_heads == 0 || a.head_dim == 0 || a.v_dim == 0)
      return invalid("an empty shape");
    if (a.heads % a.kv_heads != 0) return invalid("heads are no multiple of KV heads");
    if (a.head_dim > kMaxHeadDim || a.v_dim > kMaxHeadDim)
      return unsupported("a head_dim above " + std::to_string(kMaxHeadDim));
    if (a.q_len > kMostPositions || a.kv_len > kMostPositions) return unsupported("more than 2^30 positions");
    if (!std::isfinite(a.scale) || !(a.softcap >= 0) || !std::isfinite(a.softcap))
      return invalid("the scale or the soft-cap is no number");
    return {};
  }

  Result<void> types() const {
    if (!is_float(s.q_type) || !is_float(s.y_type)) return unsupported("q and y must be F32, F16 or BF16");
    if (!is_float(s.kv_type) && s.kv_type != DType::q8_0)
      return unsupported("keys and values must be F32, F16, BF16 or Q8_0");
    const AttentionAttrs& a = s.attrs;
    if (s.kv_type == DType::q8_0) {
      if (a.head_dim % 32 != 0 || a.v_dim % 32 != 0)
        return unsupported("Q8_0 needs head_dim in multiples of 32");
      if (!rows_of_blocks(a.k_strides, a.head_dim) || !rows_of_blocks(a.v_strides, a.v_dim))
        return unsupported("strides of Q8_0 that are no whole rows");
    }
    const AttentionOperands& o = s.operands;
    if (o.mask && !is_float(*o.mask) && *o.mask != DType::u8)
      return unsupported("a mask must be U8, F32, F16 or BF16");
    if (o.bias && !is_float(*o.bias)) return unsupported("a bias must be F32, F16 or BF16");
    return {};
  }

  static bool rows_of_blocks(const Strides& strides, std::uint32_t dim) {
    return strides[3] == 1 && strides[0] % dim == 0 && strides[1] % dim == 0 && strides[2] % dim == 0;
  }

  Result<void> options() const {
    const AttentionAttrs& a = s.attrs;
    const AttentionOperands& o = s.operands;
    if (o.state && (o.lengths || o.documents != 0)) return invalid("a state leaves no lengths and documents");
    if (o.documents != 0 && (a.batch != 1 || a.block_size != 0))
      return invalid("documents are of one sequence without pages");
    if ((a.block_size != 0) != o.table) return invalid("a block size and a table need each other");
    if (a.block_size != 0 && (s.blocks == 0 || a.kv_len % a.block_size != 0))
      return invalid("kv_len is no multiple of the block size, or there are no blocks");
    if (a.ring) {
      if (!o.state || a.causal != Causal::bottom_right || a.block_size != 0)
        return invalid("a ring cache needs a state and bottom-right causality, and no pages");
      if (a.window_left == kNoWindow || std::uint64_t{a.window_left} + a.q_len > a.kv_len)
        return invalid("a ring cache needs a window that leaves window_left + q_len <= kv_len");
      if (a.scores != AttentionScores::none || o.mask || o.bias)
        return unsupported("a mask, a bias or scores of a ring cache");
    }
    TSR_CHECK(lists());
    TSR_CHECK(prefixes_and_relative());
    if (a.scores != AttentionScores::none && (std::uint64_t{a.score_head} + a.score_heads > a.heads ||
                                              std::uint64_t{a.score_row} + a.score_rows > a.q_len))
      return invalid("scores of heads or rows that it does not have");
    return {};
  }

  Result<void> prefixes_and_relative() const {
    const AttentionAttrs& a = s.attrs;
    const AttentionOperands& o = s.operands;
    if ((a.prefix_length != 0 || o.prefixes) && a.causal == Causal::none)
      return invalid("a prefix needs causality");
    if (o.prefixes && (a.prefix_length != 0 || o.documents != 0))
      return invalid("prefixes of sequences leave no other prefix and no documents");
    if (a.ring && a.top_k != 0) return unsupported("top_k of a ring cache");
    if (a.ring && (a.prefix_length != 0 || o.prefixes)) return unsupported("a prefix of a ring cache");
    if (a.relative == RelativeBias::none) return {};
    if (o.slopes) return unsupported("slopes beside a relative bias");
    if (a.relative == RelativeBias::distance) return {};
    if (a.relative_size == 0 || a.q_len % a.relative_size != 0 || a.q_len != a.kv_len)
      return invalid("the window of a relative bias has not q_len = kv_len places");
    return {};
  }

  Result<void> lists() const {
    const AttentionAttrs& a = s.attrs;
    const bool there = s.operands.list_words != 0;
    if (there != (a.q_block != 0) || there != (a.k_block != 0))
      return invalid("lists and the sizes of their blocks need each other");
    if (!there) return {};
    if (a.ring) return unsupported("block lists of a ring cache");
    if (list_firsts(a) > s.operands.list_words) return invalid("lists of fewer words than first entries");
    return {};
  }

  Result<void> bytes() const {
    const AttentionAttrs& a = s.attrs;
    const AttentionOperands& o = s.operands;
    const Extents pairs{a.batch, a.heads, a.q_len, a.kv_len};
    const std::pair<const char*, std::uint64_t> tensors[] = {
        {"q", extent_bytes(a.q_strides, q_extents(a), s.q_type)},
        {"y", extent_bytes(a.y_strides, y_extents(a), s.y_type)},
        {"k", extent_bytes(a.k_strides, kv_extents(s, a.head_dim), s.kv_type)},
        {"v", extent_bytes(a.v_strides, kv_extents(s, a.v_dim), s.kv_type)},
        {"mask", o.mask ? extent_bytes(o.mask_strides, pairs, *o.mask) : 0},
        {"bias", o.bias ? extent_bytes(o.bias_strides, pairs, *o.bias) : 0},
        {"lists", o.list_words * 4},
        {"top_k's scores",
         a.top_k != 0 ? extent_bytes({pairs[1] * pairs[2] * pairs[3], pairs[2] * pairs[3], pairs[3], 1},
                                     pairs, DType::f32)
                      : 0},
        {"relative bias", relative_entries(a) * a.heads * 4},
        {"lse", std::uint64_t{a.batch} * a.heads * a.q_len * 4},
        {"scores", a.scores == AttentionScores::none
                       ? 0
                       : extent_bytes({std::uint64_t{score_slots(a)} * a.score_rows * a.kv_len,
                                       std::uint64_t{a.score_rows} * a.kv_len, a.kv_len, 1},
                                      {a.batch, score_slots(a), a.score_rows, a.kv_len}, DType::f32)}};
    for (const auto& [name, bytes] : tensors)
      if (bytes > limits.max_storage_range)
        return unsupported(std::string(name) + " is larger than this device's maxStorageBufferRange");
    return {};
  }
};

// Words that one element of the strides of q8_0 counts for, as a fraction: row_words / dim.
Strides in_words(const Strides& strides, DType type, std::uint32_t dim) {
  if (type != DType::q8_0) return strides;
  const std::uint64_t words = device_row_bytes(type, dim) / 4;
  return {strides[0] / dim * words, strides[1] / dim * words, strides[2] / dim * words, 1};
}

void put_lists(const AttentionShape& s, std::uint32_t rows, shader::AttentionParams& p) {
  const AttentionAttrs& a = s.attrs;
  p.q_block = a.q_block;
  p.k_block = a.k_block;
  p.list_head = a.lists_by_head ? as_u32(list_rows(a) + 1) : 0;
  p.list_batch = a.lists_by_batch ? as_u32(list_firsts(a) / a.batch) : 0;
  p.list_entries = as_u32(list_firsts(a));
  p.list_count = as_u32(s.operands.list_words - list_firsts(a));
  p.list_most = as_u32(list_keys(a));
  p.list_tiles = as_u32(ceil_div(folded_rows(s), rows));
}

// Pairs of a row and a key that lists leave of `pairs`, of a head, at most.
double listed_pairs(const AttentionShape& s, double pairs) {
  if (s.operands.list_words == 0) return pairs;
  const AttentionAttrs& a = s.attrs;
  const double lists = (a.lists_by_batch ? a.batch : 1.0) * (a.lists_by_head ? a.heads : 1.0);
  const double entries = static_cast<double>(s.operands.list_words - list_firsts(a));
  return std::min(pairs, entries * a.q_block * a.k_block / lists);
}

}  // namespace

std::string describe(const AttentionShape& s) {
  const AttentionAttrs& a = s.attrs;
  std::string dims = std::to_string(a.head_dim);
  if (a.v_dim != a.head_dim) dims += "/" + std::to_string(a.v_dim);
  return "attention of " + (a.batch != 1 ? std::to_string(a.batch) + "x" : std::string()) +
         std::to_string(a.q_len) + " rows, " + std::to_string(a.heads) + "/" + std::to_string(a.kv_heads) +
         " heads of " + dims + ", " + std::to_string(a.kv_len) + " keys";
}

Result<AttentionShape> checked(AttentionShape shape, const Limits& limits) {
  AttentionAttrs& a = shape.attrs;
  resolve_strides(a);
  if (a.score_heads == 0 && a.score_head < a.heads) a.score_heads = a.heads - a.score_head;
  if (a.score_rows == 0 && a.score_row < a.q_len) a.score_rows = a.q_len - a.score_row;
  const Checker check{shape, limits};
  TSR_CHECK(check.sizes());
  TSR_CHECK(check.types());
  TSR_CHECK(check.options());
  TSR_CHECK(check.bytes());
  // What reaches past every key and row hides nothing.
  const std::uint64_t reach = std::uint64_t{a.kv_len} + a.q_len;
  if (!a.ring && a.window_left >= reach) a.window_left = kNoWindow;
  const bool prefix = a.prefix_length != 0 || shape.operands.prefixes;  // keys behind the centre
  if ((a.causal != Causal::none && !prefix) || a.window_right >= reach) a.window_right = kNoWindow;
  if (a.top_k >= a.kv_len) a.top_k = 0;
  a.q_block = std::min(a.q_block, a.q_len);
  a.k_block = std::min(a.k_block, std::max(a.kv_len, 1u));
  return shape;
}

std::uint32_t attention_flags(const AttentionShape& s) {
  using namespace shader;
  const AttentionAttrs& a = s.attrs;
  const AttentionOperands& o = s.operands;
  const auto type = [](const std::optional<DType>& t) { return t ? static_cast<std::uint32_t>(*t) + 1 : 0u; };
  std::uint32_t flags = type(o.mask) << kAttentionMaskShift | type(o.bias) << kAttentionBiasShift;
  const auto set = [&](bool on, std::uint32_t flag) { flags |= on ? flag : 0; };
  set(o.state, kAttentionHasState);
  set(o.lengths, kAttentionHasLengths);
  set(o.documents != 0, kAttentionHasDocuments);
  set(o.slopes, kAttentionHasSlopes);
  set(o.sinks, kAttentionHasSinks);
  set(a.softcap > 0, kAttentionHasSoftcap);
  set(o.lse, kAttentionHasLse);
  set(a.score == AttentionScore::cosine, kAttentionCosine);
  set(a.block_size != 0, kAttentionPaged);
  set(a.ring, kAttentionRing);
  set(a.causal != Causal::none, kAttentionCausal);
  set(a.causal == Causal::bottom_right, kAttentionBottomRight);
  set(o.list_words != 0, kAttentionHasLists);
  set(a.causal != Causal::none && (a.prefix_length != 0 || o.prefixes), kAttentionHasPrefix);
  set(o.prefixes, kAttentionHasPrefixes);
  set(a.relative == RelativeBias::distance, kAttentionRelativeDistance);
  set(a.relative == RelativeBias::window, kAttentionRelativeWindow);
  set(a.score == AttentionScore::additive, kAttentionAdditive);
  set(a.top_k != 0, kAttentionHasKeep);
  set(a.window_left != kNoWindow || a.window_right != kNoWindow, kAttentionWindow);
  return flags;
}

std::uint32_t folded_heads(const AttentionShape& s) {
  return s.attrs.lists_by_head || s.attrs.score == AttentionScore::additive
             ? 1
             : s.attrs.heads / s.attrs.kv_heads;
}

std::uint64_t folded_rows(const AttentionShape& s) {
  return std::uint64_t{s.operands.list_words != 0 ? s.attrs.q_block : s.attrs.q_len} * folded_heads(s);
}

std::uint64_t row_tiles(const AttentionShape& s, std::uint32_t rows) {
  return ceil_div(folded_rows(s), rows) * (s.operands.list_words != 0 ? list_rows(s.attrs) : 1);
}

bool has_few_rows(const AttentionShape& s) {
  constexpr std::uint32_t kMost = 8;
  return (s.operands.list_words != 0 ? s.attrs.q_block : s.attrs.q_len) <= kMost;
}

shader::AttentionParams attention_params(const AttentionShape& s, std::uint32_t rows, std::uint32_t splits) {
  const AttentionAttrs& a = s.attrs;
  const AttentionOperands& o = s.operands;
  shader::AttentionParams p{};
  p.batch = a.batch;
  p.q_len = a.q_len;
  p.kv_len = a.kv_len;
  p.heads = a.heads;
  p.kv_heads = a.kv_heads;
  // The stride of a dimension of one is never used, and may be anything.
  const auto put = [](const Strides& strides, const Extents& extents, std::uint32_t& batch,
                      std::uint32_t& head, std::uint32_t& row, std::uint32_t& element) {
    std::uint32_t* const to[] = {&batch, &head, &row, &element};
    for (std::size_t i = 0; i < 4; ++i) *to[i] = extents[i] > 1 ? as_u32(strides[i]) : 0;
  };
  const Extents pairs{a.batch, a.heads, a.q_len, a.kv_len};
  put(a.q_strides, q_extents(a), p.q_batch, p.q_head, p.q_row, p.q_element);
  put(in_words(a.k_strides, s.kv_type, a.head_dim), kv_extents(s, a.head_dim), p.k_batch, p.k_head, p.k_row,
      p.k_element);
  put(in_words(a.v_strides, s.kv_type, a.v_dim), kv_extents(s, a.v_dim), p.v_batch, p.v_head, p.v_row,
      p.v_element);
  put(a.y_strides, y_extents(a), p.y_batch, p.y_head, p.y_row, p.y_element);
  put(o.mask_strides, pairs, p.mask_batch, p.mask_head, p.mask_row, p.mask_key);
  put(o.bias_strides, pairs, p.bias_batch, p.bias_head, p.bias_row, p.bias_key);
  p.window_left = a.window_left;
  p.window_right = a.window_right;
  p.prefix = a.prefix_length;
  p.relative_size = a.relative_size;
  p.top_k = a.top_k;
  p.keep_row = as_u32(ceil_div(a.kv_len, 32));
  p.documents = o.documents;
  p.block_size = a.block_size;
  p.blocks = s.blocks;
  p.table_stride = a.block_size != 0 ? a.kv_len / a.block_size : 0;
  p.score_head = a.score_head;
  p.score_heads = a.score_heads;
  p.score_row = a.score_row;
  p.score_rows = a.score_rows;
  p.score_kind = static_cast<std::uint32_t>(a.scores);
  p.scale = a.scale;
  p.softcap = a.softcap;
  p.tiles = as_u32(row_tiles(s, rows));
  p.splits = splits;
  p.group = folded_heads(s);
  if (o.list_words != 0) put_lists(s, rows, p);
  return p;
}

std::vector<std::uint32_t> words_of(const shader::AttentionParams& params) {
  const auto words = std::bit_cast<std::array<std::uint32_t, sizeof(params) / 4>>(params);
  return {words.begin(), words.end()};
}

std::uint32_t attention_wide(const AttentionShape& s) {
  using namespace shader;
  const AttentionAttrs& a = s.attrs;
  std::uint32_t wide = 0;
  const auto set = [&](const Strides& strides, const Extents& extents, std::uint32_t binding) {
    wide |= all_wide(strides, extents, 4) ? 1u << binding : 0;
    wide |= all_wide(strides, extents, 8) ? 0x10000u << binding : 0;
  };
  set(a.q_strides, q_extents(a), kAttentionQ);
  set(a.k_strides, kv_extents(s, a.head_dim), kAttentionK);
  set(a.v_strides, kv_extents(s, a.v_dim), kAttentionV);
  set(a.y_strides, y_extents(a), kAttentionOut);
  return wide;
}

std::vector<std::uint32_t> attention_specs(const AttentionShape& s, std::uint32_t group) {
  return {group,
          attention_flags(s),
          s.attrs.head_dim,
          s.attrs.v_dim,
          static_cast<std::uint32_t>(s.q_type),
          static_cast<std::uint32_t>(s.kv_type),
          static_cast<std::uint32_t>(s.y_type),
          attention_wide(s)};
}

std::vector<OperandIndex> attention_operands(const AttentionShape& s) {
  using namespace shader;
  const AttentionOperands& o = s.operands;
  std::vector<OperandIndex> operands(kAttentionBindings);
  for (OperandIndex i = 0; i < kAttentionBindings; ++i) operands[i] = i;
  operands[kAttentionParams] = kParamsOperand;
  const auto drop = [&](bool there, std::uint32_t binding) {
    if (!there) operands[binding] = kNoOperand;
  };
  // Of two that share a binding, the second.
  const auto put = [&](bool there, std::uint32_t binding, OperandIndex operand) {
    if (there) operands[binding] = operand;
  };
  drop(o.state || o.lengths, kAttentionState);
  put(o.lengths, kAttentionState, kAttentionLengthsOperand);
  drop(o.mask.has_value(), kAttentionMask);
  drop(o.bias.has_value(), kAttentionBias);
  drop(o.slopes || s.attrs.relative != RelativeBias::none, kAttentionSlopes);
  put(s.attrs.relative != RelativeBias::none, kAttentionSlopes, kAttentionRelativeOperand);
  drop(o.sinks, kAttentionSinks);
  drop(s.attrs.score == AttentionScore::additive, kAttentionVector);
  drop(false, kAttentionKeep);
  drop(o.documents != 0 || o.prefixes, kAttentionDocuments);
  put(o.prefixes, kAttentionDocuments, kAttentionPrefixesOperand);
  drop(o.table, kAttentionTable);
  drop(o.list_words != 0, kAttentionLists);
  drop(o.lse, kAttentionLse);
  return operands;
}

namespace {

// Of a mask or bias: elements that some visible pair needs.
double term_elements(const Strides& strides, const AttentionAttrs& a, const VisibleKeys& seen) {
  const bool by_row = strides[2] != 0, by_key = strides[3] != 0;
  const double of_a_head = by_row && by_key ? seen.pairs : by_row ? a.q_len : by_key ? double(seen.keys) : 1;
  return of_a_head * (strides[0] != 0 ? a.batch : 1) * (strides[1] != 0 ? a.heads : 1);
}

}  // namespace

void count_attention(const AttentionShape& s, Dispatch& d) {
  const AttentionAttrs& a = s.attrs;
  const AttentionOperands& o = s.operands;
  const VisibleKeys seen = visible_keys(a, 0, a.q_len);
  const double rows = double(a.batch) * a.heads * a.q_len;
  const double kv_rows = double(a.batch) * a.kv_heads * double(seen.keys);
  d.flops = 2 * double(a.batch) * a.heads * listed_pairs(s, seen.pairs) * (a.head_dim + a.v_dim);
  d.bytes = rows * (a.head_dim * info(s.q_type).block_bytes + a.v_dim * info(s.y_type).block_bytes) +
            kv_rows * double(device_row_bytes(s.kv_type, a.head_dim) + device_row_bytes(s.kv_type, a.v_dim));
  if (o.mask) d.bytes += term_elements(o.mask_strides, a, seen) * info(*o.mask).block_bytes;
  if (o.bias) d.bytes += term_elements(o.bias_strides, a, seen) * info(*o.bias).block_bytes;
}

namespace {

AttentionTiles listed_tiles(const AttentionShape& s, const Dispatch& d,
                            std::span<const std::uint32_t> lists) {
  const AttentionAttrs& a = s.attrs;
  const double copies = (a.lists_by_batch ? a.batch : 1.0) * (a.lists_by_head ? a.heads : 1.0);
  const double slots = double(a.batch) * a.heads / folded_heads(s);
  const auto of_block = static_cast<double>(ceil_div(folded_rows(s), d.tile_rows));
  const auto tiles_of = [&](std::uint64_t entries) {
    return static_cast<double>(ceil_div(entries * a.k_block, d.tile_keys));
  };
  double tiles = lists.empty() ? tiles_of(s.operands.list_words - list_firsts(a)) : 0;
  for (std::uint64_t i = 0; !lists.empty() && i + 1 < list_firsts(a); ++i)
    if ((i + 1) % (list_rows(a) + 1) != 0) tiles += tiles_of(lists[i + 1] - lists[i]);
  return {tiles * of_block * slots / copies,
          double(row_tiles(s, d.tile_rows)) * double(ceil_div(a.kv_len, d.tile_keys)) * slots};
}

}  // namespace

AttentionTiles count_tiles(const AttentionShape& shape, const Dispatch& d,
                           std::span<const std::uint32_t> lists) {
  if (d.tile_rows == 0 || d.tile_keys == 0) return {};
  const AttentionAttrs& a = shape.attrs;
  const std::int64_t keys = a.kv_len, group = a.heads / a.kv_heads, folded = a.q_len * group;
  // As row_of() of lib/attention.glsl: neither end decreases from row to row.
  const auto centre = [&](std::int64_t row) {
    return a.causal == Causal::bottom_right ? row + keys - a.q_len : row;
  };
  const auto begin = [&](std::int64_t row) {
    return a.window_left == kNoWindow ? 0 : std::clamp<std::int64_t>(centre(row) - a.window_left, 0, keys);
  };
  const auto end = [&](std::int64_t row) {
    std::int64_t last = a.causal != Causal::none ? centre(row) + 1 : keys;
    if (a.causal != Causal::none) last = std::max<std::int64_t>(last, a.prefix_length);
    if (a.window_right != kNoWindow) last = std::min(last, centre(row) + a.window_right + 1);
    return std::clamp<std::int64_t>(last, 0, keys);
  };
  if (shape.operands.list_words != 0) return listed_tiles(shape, d, lists);
  AttentionTiles tiles;
  for (std::int64_t first = 0; first < folded; first += d.tile_rows) {
    const std::int64_t last = std::min<std::int64_t>(first + d.tile_rows, folded) - 1;
    const std::int64_t seen = end(last / group) - begin(first / group);
    const std::int64_t computed = seen > 0 ? (seen + d.tile_keys - 1) / d.tile_keys : 0;
    const std::int64_t all = (keys + d.tile_keys - 1) / d.tile_keys;
    tiles.computed += static_cast<double>(computed);
    tiles.all += static_cast<double>(all);
  }
  const double slots = double(a.batch) * a.kv_heads;
  return {tiles.computed * slots, tiles.all * slots};
}

}  // namespace tessera
