// docs/kernels/attention.md draws the tiles and derives the budgets.
#include <bit>
#include <optional>

#include "interface/attention.h"
#include "kernels/choose.h"
#include "kernels/grid.h"

namespace tessera {
namespace {

constexpr std::uint32_t kMostDim = 256;
constexpr std::uint32_t kGroup = 128;  // the floor; more rows a workgroup would need more shared memory too
// Up to this many rows the work is reading the cache: split keys. Above, it is arithmetic: tiles of rows.
constexpr std::uint32_t kMostSplitRows = 8;
// Vec4 of the output that a lane holds, over its rows: 16 spill on Intel (256 bytes of registers a lane).
constexpr std::uint32_t kMostOutput = 8;
// Workgroups that fill a large device: 132 processors with four groups of 128 each, as on an H100.
constexpr std::uint32_t kFill = 512;
constexpr std::uint32_t kKeysASplit = 128;  // of the context, at least: twice kSplitMinKeys
constexpr std::uint32_t kMostSplits = 256;
// Shared memory a workgroup may take where there is more: 48 KiB leave room for two on 100 KiB.
constexpr std::uint32_t kMostShared = 48 * 1024;

std::uint32_t as_u32(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

std::string describe(const AttentionShape& s) {
  return "attention of " + std::to_string(s.rows) + " rows, " + std::to_string(s.heads) + "/" +
         std::to_string(s.kv_heads) + " heads of " + std::to_string(s.head_dim) + ", context " +
         std::to_string(s.context);
}

Result<void> check(const AttentionShape& s, const Limits& limits) {
  const std::string what = describe(s);
  if (s.rows == 0 || s.heads == 0 || s.kv_heads == 0 || s.head_dim == 0 || s.context == 0)
    return Error{Code::invalid_argument, what + ": an empty shape"};
  if (s.heads % s.kv_heads != 0)
    return Error{Code::invalid_argument, what + ": heads are no multiple of KV heads"};
  if (s.head_dim > kMostDim)
    return Error{Code::unsupported, what + ": head_dim above " + std::to_string(kMostDim)};
  if (s.kv_type != DType::f32 && s.kv_type != DType::f16)
    return Error{Code::unsupported, what + ": a cache must be F32 or F16"};
  const std::uint64_t cache =
      std::uint64_t{s.kv_heads} * s.context * s.head_dim * (s.kv_type == DType::f16 ? 2 : 4);
  const std::uint64_t q = std::uint64_t{s.rows} * s.heads * s.head_dim * 4;
  if (cache > limits.max_storage_range || q > limits.max_storage_range)
    return Error{Code::unsupported, what + ": a tensor is larger than this device's maxStorageBufferRange"};
  if (s.kv_heads > limits.max_group_count[1])
    return Error{Code::unsupported, what + ": more KV heads than maxComputeWorkGroupCount allows"};
  return {};
}

std::vector<std::uint32_t> push_of(const AttentionShape& s, std::uint64_t parts) {
  // A window that reaches as far as the context hides nothing.
  const std::uint32_t window = s.window >= s.context ? 0 : s.window;
  return {s.rows,
          s.heads,
          s.kv_heads,
          s.context,
          window,
          s.causal ? 1u : 0u,
          std::bit_cast<std::uint32_t>(s.scale),
          as_u32(parts)};
}

void count_work(const AttentionShape& s, Dispatch& d) {
  const double q = double(s.rows) * s.heads * s.head_dim;
  d.flops = 4 * q * s.context;
  d.bytes = 8 * q + 2.0 * s.kv_heads * s.context * s.head_dim * (s.kv_type == DType::f16 ? 2 : 4);
}

struct TileSizes {
  std::uint32_t group, col_groups, row_tile, col_tile, chunk, q_whole, v_cols, dim4;
  std::uint32_t rows() const { return group / col_groups * row_tile; }
  std::uint32_t cols() const { return col_groups * col_tile; }
  // The shared arrays of attention.comp.
  std::uint64_t shared_bytes() const {
    const std::uint64_t q_pitch = (q_whole ? as_u32(ceil_div(dim4, chunk)) * chunk : chunk) | 1;
    const std::uint64_t v_pitch = ceil_div(dim4, col_groups) * col_groups;
    const std::uint64_t kv = std::max(cols() * std::uint64_t{chunk | 1}, v_cols * v_pitch);
    return 16 * (rows() * q_pitch + kv + rows() * std::uint64_t{(cols() / 4) | 1}) +
           4 * std::uint64_t{rows()} * col_groups;
  }
};

// Tries V staged in fewer and fewer columns.
bool fit(TileSizes& t, std::uint64_t budget) {
  for (t.v_cols = t.cols(); t.v_cols >= 4; t.v_cols /= 2)
    if (t.shared_bytes() <= budget) return true;
  return false;
}

// The tallest tile first, with whole q rows before staged ones and large chunks before small ones.
std::optional<TileSizes> choose_tile(std::uint64_t folded_rows, std::uint32_t dim, const Limits& limits) {
  TileSizes t{};
  t.group = std::min(
      {kGroup, std::bit_floor(limits.max_group_invocations), std::bit_floor(limits.max_group_size[0])});
  t.dim4 = as_u32(ceil_div(dim, 4));
  t.col_groups = t.dim4 > 16 ? 16 : 8;
  t.col_tile = 32 / t.col_groups;
  if (t.group < t.col_groups) return std::nullopt;
  const std::uint64_t budget = std::min(limits.max_shared_bytes, kMostShared);
  const auto most_rows = std::bit_floor(kMostOutput / as_u32(ceil_div(t.dim4, t.col_groups)));
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

Result<AttentionChoice> choose_tiles(const AttentionShape& s, const Limits& limits) {
  const std::uint64_t folded = std::uint64_t{s.rows} * (s.heads / s.kv_heads);
  const auto t = choose_tile(folded, s.head_dim, limits);
  if (!t) return Error{Code::unsupported, describe(s) + ": too little shared memory for any tile"};
  const std::uint64_t tiles = ceil_div(folded, t->rows());
  if (tiles > limits.max_group_count[0])
    return Error{Code::unsupported, describe(s) + ": more tiles than maxComputeWorkGroupCount allows"};
  Dispatch d;
  d.kernel = KernelId::attention;
  d.spec = {t->group,    t->col_groups, t->row_tile,
            t->col_tile, s.head_dim,    t->chunk,
            t->q_whole,  t->v_cols,     static_cast<std::uint32_t>(s.kv_type)};
  d.push = push_of(s, tiles);
  d.grid = {as_u32(tiles), s.kv_heads, 1};
  count_work(s, d);
  return AttentionChoice{{d}, 0};
}

struct SplitSizes {
  std::uint32_t group, parts, dim_lanes, rows, dim4;
  // The shared arrays of attention_split.comp.
  std::uint64_t shared_bytes() const {
    return std::uint64_t{rows} * (16 * (dim4 + group) + 8 * (group / dim_lanes));
  }
};

SplitSizes split_sizes(std::uint64_t folded_rows, std::uint32_t dim, const Limits& limits) {
  SplitSizes t{};
  t.group = std::min(
      {kGroup, std::bit_floor(limits.max_group_invocations), std::bit_floor(limits.max_group_size[0])});
  t.dim4 = as_u32(ceil_div(dim, 4));
  t.parts = std::min(8u, std::bit_floor(t.dim4));  // 8 lanes read 128 bytes of a key side by side
  t.dim_lanes = std::min({32u, std::bit_ceil(t.dim4), t.group});
  const std::uint64_t dim_tile = ceil_div(t.dim4, t.dim_lanes);
  t.rows = as_u32(std::min(std::bit_ceil(folded_rows), std::bit_floor(kMostOutput / dim_tile)));
  while (t.rows > 1 && t.shared_bytes() > limits.max_shared_bytes) t.rows /= 2;
  return t;
}

Dispatch merge_of(const AttentionShape& s, std::uint32_t splits, const Limits& limits) {
  const std::uint32_t dim4 = as_u32(ceil_div(s.head_dim, 4));
  const std::uint32_t dim_lanes = std::min(group_size(dim4, 64, limits), std::bit_ceil(dim4));
  Dispatch d;
  d.kernel = KernelId::attention_merge;
  d.spec = {std::max(dim_lanes, group_size(std::uint64_t{dim_lanes} * splits, 64, limits)), dim_lanes,
            s.head_dim, splits};
  d.push = push_of(s, splits);
  d.grid = {s.heads, s.rows, 1};
  d.bytes = double(s.rows) * s.heads * (splits * 16.0 * (dim4 + 1) + 4.0 * s.head_dim);
  d.flops = double(s.rows) * s.heads * splits * 2.0 * s.head_dim;
  return d;
}

Result<AttentionChoice> choose_splits(const AttentionShape& s, const Limits& limits) {
  const std::uint64_t folded = std::uint64_t{s.rows} * (s.heads / s.kv_heads);
  const SplitSizes t = split_sizes(folded, s.head_dim, limits);
  if (t.shared_bytes() > limits.max_shared_bytes)
    return Error{Code::unsupported, describe(s) + ": too little shared memory for any tile"};
  const std::uint64_t blocks = ceil_div(folded, t.rows);
  const std::uint64_t keys =
      s.window == 0 ? s.context : std::min<std::uint64_t>(s.context, std::uint64_t{s.window} + s.rows);
  const std::uint64_t partial = 16ull * s.rows * s.heads * (t.dim4 + 1);  // bytes a split
  const std::uint32_t splits = as_u32(std::max<std::uint64_t>(
      1, std::min<std::uint64_t>({ceil_div(kFill, s.kv_heads * blocks), ceil_div(keys, kKeysASplit),
                                  kMostSplits, limits.max_group_count[0], limits.max_storage_range / partial,
                                  limits.max_shared_bytes / 16})));
  if (blocks > limits.max_group_count[2] || s.heads > limits.max_group_count[0] ||
      s.rows > limits.max_group_count[1])
    return Error{Code::unsupported, describe(s) + ": more workgroups than maxComputeWorkGroupCount allows"};
  Dispatch d;
  d.kernel = KernelId::attention_split;
  d.spec = {t.group,
            t.parts,
            t.dim_lanes,
            t.rows,
            s.head_dim,
            splits == 1 ? 1u : 0u,
            static_cast<std::uint32_t>(s.kv_type)};
  d.push = push_of(s, splits);
  d.grid = {splits, s.kv_heads, as_u32(blocks)};
  count_work(s, d);
  if (splits == 1) return AttentionChoice{{d}, 0};
  return AttentionChoice{{d, merge_of(s, splits, limits)}, partial * splits};
}

}  // namespace

Result<AttentionChoice> choose_attention(const AttentionShape& shape, const Target& target) {
  TSR_CHECK(check(shape, target.limits));
  return shape.rows <= kMostSplitRows ? choose_splits(shape, target.limits)
                                      : choose_tiles(shape, target.limits);
}

}  // namespace tessera
