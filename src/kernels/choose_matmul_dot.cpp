// Products of weights in blocks by integer dot products: x is quantised by a dispatch of its own first.
// docs/kernels/matmul.md.
#include <algorithm>

#include "interface/matmul.h"
#include "interface/quantise.h"
#include "kernels/grid.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

struct DotTile {
  std::uint32_t group, m, n, lane_m, lane_n;
};
// group = (m / lane_m) (n / lane_n).
constexpr DotTile kTiles[] = {{128, 64, 64, 4, 8}, {128, 64, 32, 4, 4}, {128, 32, 64, 4, 4},
                              {128, 32, 32, 4, 2}, {64, 32, 32, 4, 4},  {16, 16, 16, 4, 4}};
// In a lane's registers; where subgroups are narrow (Intel) a lane has half as many, and 32 spilled.
constexpr std::uint32_t kMostSums = 32, kNarrowSums = 16, kNarrow = 16;

Error refuse(std::string why) { return {Code::unsupported, std::move(why)}; }

// Why not; empty when it can.
std::string never_by_dots(const MatmulShape& s, const Target& target) {
  if (s.precision != Precision::mixed) return std::string(kNeedsMixed);
  if (s.norm) return std::string(kNoNorm);
  if (info(s.type).block_elems < shader::kQuantisedBlock)
    return "weights of " + std::string(info(s.type).name) + " are no blocks of whole numbers";
  if (!target.caps.int_dot) return "the device lacks int_dot";
  if (!target.caps.int_dot_fast && target.form.empty()) return "the device does not accelerate int_dot";
  return {};
}

Result<Dispatch> quantise(const MatmulShape& s, const Target& target) {
  Dispatch d;
  const std::uint32_t group = group_size(64, 64, target.limits);
  const std::uint32_t of_x = count_matrices(s, s.x_batch, s.x_outer);
  const std::uint64_t blocks = std::uint64_t{of_x} * s.rows * (s.k / shader::kQuantisedBlock);
  TSR_TRY(d.grid, fold_grid(ceil_div(blocks, group), target.limits, describe(s)));
  d.kernel = KernelId::quantise_rows;
  d.spec = {
      group,
      matmul_flags(s) & (shader::kMatmulFlagDynamic | shader::kMatmulFlagVec4 | shader::kMatmulFlagXHalf),
      s.type == DType::q8_0 ? 0u : 1u};
  d.push = {s.rows,    s.k,       x_stride(s), s.x_batch, of_x, s.x_batch != 0 ? products_in_group(s) : 1,
            s.x_outer, d.grid[0], d.grid[1]};
  d.operands = {0, 6, kScratchOperand};
  d.flops = 2.0 * static_cast<double>(blocks) * shader::kQuantisedBlock;
  d.bytes = static_cast<double>(blocks) *
            (shader::kQuantisedBlock * element_bytes(s.x_type) + shader::kQuantisedVectors * 16);
  return d;
}

std::uint64_t use_few(const MatmulShape& s, const Limits& limits, Dispatch& d) {
  const std::uint64_t tiles_m = ceil_div(s.rows, kMatvecGroupRows);
  const auto rows = static_cast<std::uint32_t>(ceil_div(s.rows, tiles_m));
  const std::uint32_t columns = matvec_columns(s, rows);
  const std::uint64_t groups = tiles_m * ceil_div(s.n, columns);
  const std::uint32_t lanes = matvec_lanes(s, groups * s.batch, shader::kQuantisedBlock, limits);
  d.kernel = KernelId::matmul_dot_few;
  d.spec = {group_size(lanes, lanes, limits), 0, 0, 0, columns, rows};
  return groups;
}

// 0: none fits.
std::uint64_t use_tile(const MatmulShape& s, const Limits& limits, Dispatch& d) {
  const DotTile* best = nullptr;
  const std::uint32_t most_sums = limits.min_subgroup_size <= kNarrow ? kNarrowSums : kMostSums;
  for (const DotTile& t : kTiles) {
    const std::uint32_t shared = (t.m + matrices(s) * t.n) * shader::kQuantisedVectors * 16;
    if (t.group > limits.max_group_invocations || t.group > limits.max_group_size[0] ||
        shared > limits.max_shared_bytes || t.lane_m * t.lane_n * matrices(s) > most_sums)
      continue;
    if (!best || (t.m < best->m && t.m >= s.rows && t.group >= best->group)) best = &t;
  }
  if (!best) return 0;
  d.kernel = KernelId::matmul_dot;
  d.spec = {best->group, 0, 0, 0, best->m, best->n, shader::kQuantisedBlock, best->lane_m, best->lane_n};
  return ceil_div(s.rows, best->m) * ceil_div(s.n, best->n);
}

}  // namespace

Result<MatmulChoice> choose_matmul_dot(const MatmulShape& s, const Target& target) {
  if (std::string why = never_by_dots(s, target); !why.empty()) return refuse(std::move(why));
  const bool few = s.rows <= kMatmulFewRows;
  if (few && !target.caps.subgroup_arithmetic) return refuse("the device lacks subgroup_arithmetic");
  const std::uint64_t bytes = std::uint64_t{count_matrices(s, s.x_batch, s.x_outer)} * s.rows *
                              (s.k / shader::kQuantisedBlock) * shader::kQuantisedVectors * 16;
  if (bytes > target.limits.max_storage_range)
    return refuse("blocks of x take " + std::to_string(bytes) + " bytes, more than max_storage_range");
  MatmulChoice out;
  TSR_TRY(Dispatch blocks, quantise(s, target));
  Dispatch d;
  const std::uint64_t groups = few ? use_few(s, target.limits, d) : use_tile(s, target.limits, d);
  if (groups == 0) return refuse("no tile fits the device's workgroups and shared memory");
  MatmulShape of_blocks = s;  // one after the other, however the matrices of x lie
  of_blocks.x_batch = s.x_batch != 0 ? s.rows : 0;
  of_blocks.x_outer = s.x_outer != 0 ? s.rows * count_matrices(s, s.x_batch, 0) : 0;
  TSR_CHECK(complete_matmul(of_blocks, target, groups, 0, d));
  d.operands = {kScratchOperand, 1, 2, 3, 4, 5, 6, 7};
  out.dispatches = {std::move(blocks), std::move(d)};
  out.scratch = {bytes};
  return out;
}

}  // namespace tessera
