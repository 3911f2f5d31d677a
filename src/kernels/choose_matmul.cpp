#include <algorithm>
#include <bit>
#include <cstddef>
#include <optional>

#include "base/dtype.h"
#include "interface/matmul.h"
#include "kernels/append_part.h"
#include "kernels/grid.h"
#include "kernels/layout.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

struct Tile {
  std::uint32_t group, m, n, k, lane_m, lane_n;
};

// group = (m / lane_m) (n / lane_n). By rows first, then by what a small device allows. Per vec4 of k a lane
// reads lane_m + lane_n vec4 of shared memory for 4 lane_m lane_n products: 12 for 128 at 4x8, which also is
// what a gated 4x4 does (4 + 2*4 for 2*64).
constexpr Tile kTiles[] = {
    {128, 64, 64, 16, 4, 8}, {128, 64, 32, 16, 4, 4}, {128, 32, 64, 16, 4, 4},
    {64, 32, 32, 16, 4, 4},  {16, 16, 16, 16, 4, 4},  {4, 8, 8, 8, 4, 4},
};
// In a lane's registers; 64 took a software driver 0.4 s to compile.
constexpr std::uint32_t kMostSums = 32;

// Shared memory: rows of k/4 + 1 vec4, for x, w and, when gated, up.
constexpr std::uint32_t shared_bytes(const Tile& t, bool gated) {
  return (t.m + (gated ? 2 : 1) * t.n) * (t.k / 4 + 1) * 16;
}

std::optional<Tile> pick_tile(const MatmulShape& shape, const Limits& limits) {
  std::optional<Tile> best;
  for (const Tile& t : kTiles) {
    if (t.group > limits.max_group_invocations || t.group > limits.max_group_size[0] ||
        shared_bytes(t, shape.gated) > limits.max_shared_bytes ||
        t.lane_m * t.lane_n * (shape.gated ? 2 : 1) > kMostSums)
      continue;
    // The first that fits; then a lower one that still covers all rows, unless it gives up half the lanes.
    if (!best || (t.m < best->m && t.m >= shape.rows && t.group >= best->group / 2)) best = t;
  }
  return best;
}

void use_matvec(const MatmulShape& shape, bool fours, const Target& target, Dispatch& d,
                std::uint64_t& groups) {
  // Fours leave 4 rows for 16 sums.
  const std::uint64_t tiles_m = ceil_div(shape.rows, fours ? 4 : kMatvecGroupRows);
  const auto rows = static_cast<std::uint32_t>(ceil_div(shape.rows, tiles_m));
  const std::uint32_t columns = fours ? 4 : matvec_columns(shape, rows);
  groups = tiles_m * ceil_div(shape.n, columns);
  const std::uint32_t lanes =
      matvec_lanes(shape, groups * shape.batch, chunk_elems(shape.type), target.limits);
  d.kernel = target.caps.subgroup_arithmetic ? KernelId::matvec_subgroup : KernelId::matvec;
  d.spec = {group_size(lanes, lanes, target.limits), 0, 0, 0, columns, rows};
}

Result<void> use_tile(const MatmulShape& shape, const Target& target, const std::string& what, Dispatch& d,
                      std::uint64_t& groups) {
  const std::optional<Tile> t = pick_tile(shape, target.limits);
  if (!t)
    return Error{Code::unsupported, what + ": no tile fits " +
                                        std::to_string(target.limits.max_group_invocations) +
                                        " invocations and " + std::to_string(target.limits.max_shared_bytes) +
                                        " bytes of shared memory"};
  d.kernel = KernelId::tile;
  d.spec = {t->group, 0, 0, 0, t->m, t->n, t->k, t->lane_m, t->lane_n};
  groups = ceil_div(shape.rows, t->m) * ceil_div(shape.n, t->n);
  return {};
}

// Software drivers: rows of x that a workgroup multiplies, and columns of a lane. Sums are memory there, and
// the more of them the fewer loads.
constexpr std::uint32_t kLanesRows = 16, kLanesColumns = 4;

void use_lanes(const MatmulShape& shape, bool fours, const Target& target, Dispatch& d,
               std::uint64_t& groups) {
  const std::uint32_t lanes = target.limits.subgroup_size;
  const std::uint64_t tiles_m = ceil_div(shape.rows, kLanesRows);
  const auto rows = static_cast<std::uint32_t>(ceil_div(shape.rows, tiles_m));
  const std::uint32_t columns = fours ? 4 : (rows == 1 ? 2 : kLanesColumns) / (shape.gated ? 2 : 1);
  d.kernel = KernelId::matmul_lanes;
  if (target.caps.subgroup_size_control) d.subgroup_size = lanes;
  d.spec = {lanes, 0, 0, 0, columns, rows};
  groups = tiles_m * ceil_div(shape.n, columns * lanes);
}

// Fours: each lane that stores has columns in fours of neighbours.
Result<Dispatch> choose_product(const MatmulShape& shape, bool fours, const Target& target) {
  const std::string what = describe(shape);
  TSR_CHECK(check_matmul(shape));
  Dispatch d;
  std::uint64_t groups = 0;
  const bool streams = !takes_lanes(target) && shape.rows <= kMatmulFewRows;
  if (takes_lanes(target))
    use_lanes(shape, fours, target, d, groups);
  else if (streams)
    use_matvec(shape, fours, target, d, groups);
  else
    TSR_CHECK(use_tile(shape, target, what, d, groups));
  const std::uint32_t more_flags = shape.norm ? shader::kMatmulFlagNorm : 0;
  const Result<void> completed = complete_matmul(shape, target, groups, more_flags, d);
  if (!completed.ok()) {
    if (streams) return completed.error();
    d = {};  // the loops of this one, whose lanes share out k, are the shortest
    use_matvec(shape, fours, target, d, groups);
    TSR_CHECK(complete_matmul(shape, target, groups, more_flags, d));
  }
  d.push.push_back(std::bit_cast<std::uint32_t>(shape.eps));
  d.push.resize(sizeof(shader::FusedMatmulPush) / 4);
  for (OperandIndex i = 0; i < shader::kFusedBindings; ++i)
    d.operands.push_back(i < shader::kFusedNorm || (i == shader::kFusedNorm && shape.norm) ? i : kNoOperand);
  if (shape.norm) d.bytes += 4.0 * shape.k;
  return d;
}

}  // namespace

// Columns a workgroup computes at once: x is read once for all of them, and as many loads are in flight.
// Fewer where n is small, to leave enough workgroups, and where a lane would hold more than 16 sums.
std::uint32_t matvec_columns(const MatmulShape& shape, std::uint32_t rows) {
  const std::uint32_t by_n = shape.n >= 1024 ? 4 : 2;  // 1 below 256 would be one more pipeline a model
  const std::uint32_t by_sums = std::max(1u, std::bit_floor(16 / (rows * (shape.gated ? 2 : 1))));
  return std::min({by_n, by_sums, shape.gated ? 2u : 4u});
}

// One subgroup reduces without a barrier, so it is the workgroup, unless that leaves a device idle: 65536
// lanes with 4 loads of 16 bytes have 4 MiB in flight, which is what 4.8 TB/s at 0.8 us ask for. Narrow
// subgroups are the vectors of processors that hide no latency (on one, 2 subgroups of 8 took 1.7 times as
// long as 1).
std::uint32_t matvec_lanes(const MatmulShape& shape, std::uint64_t groups, std::uint32_t chunk,
                           const Limits& limits) {
  std::uint32_t lanes = limits.subgroup_size > 1 ? std::min(limits.subgroup_size, 64u) : 32;
  while (limits.subgroup_size >= 32 && lanes < 128 && lanes * groups < 65536 &&
         shape.k >= std::uint64_t{2} * lanes * chunk)
    lanes *= 2;
  // Up to six iterations of loops for 16 bytes of weights a lane (kernels/loops.h).
  while (lanes < 128 && 6 * ceil_div(shape.k, std::uint64_t{lanes} * chunk) > limits.max_loop_iterations / 2)
    lanes *= 2;
  return lanes;
}

Result<Dispatch> choose_matmul(const MatmulShape& shape, const Target& target) {
  return choose_product(shape, false, target);
}

Result<Dispatch> choose_qkv_append(const QkvShape& shape, const Target& target) {
  TSR_TRY(const AppendPart append, append_part(shape.append, target));
  static_assert(std::ranges::all_of(kTiles, [](const Tile& t) { return t.lane_n % 4 == 0; }));  // fours
  const RopeAppendShape& heads = shape.append;
  const std::uint32_t v_dim = heads.v_dim ? heads.v_dim : heads.head_dim;
  const std::uint32_t columns = (heads.heads + heads.kv_heads) * heads.head_dim + heads.kv_heads * v_dim;
  MatmulShape product = shape.product;
  const std::string what = "qkv_append: " + describe(product);
  const std::string_view fault =
      append_epilogue_fault(heads.head_dim, v_dim, heads.rope_dims, heads.kv_type, product.precision);
  if (!fault.empty()) return Error{Code::unsupported, what + ": " + std::string(fault)};
  if ((product.first | product.n) % 4 != 0)
    return Error{Code::unsupported, what + ": a window's columns do not come in fours"};
  if (product.rows != heads.rows * heads.batch || product.gated || product.residual || product.act != 0 ||
      product.scale != 1 || product.batch != 1 || product.y_type != DType::f32)
    return Error{Code::invalid_argument,
                 what + ": only F32 rows of q, k and v, " + std::to_string(heads.rows) + " of each of " +
                     std::to_string(heads.batch) + " sequences, without gate, residual, activation or scale"};
  product.y_stride = columns;
  TSR_TRY(Dispatch d, choose_product(product, true, target));
  using P = shader::FusedMatmulPush;
  const auto put = [&](std::size_t at, std::uint32_t value) { d.push[at / 4] = value; };
  put(offsetof(P, y_stride), heads.heads * heads.head_dim);
  put(offsetof(P, sequence_rows), heads.rows);
  put(offsetof(P, heads), heads.heads);
  put(offsetof(P, kv_heads), heads.kv_heads);
  put(offsetof(P, head_dim), heads.head_dim);
  put(offsetof(P, v_dim), v_dim);
  put(offsetof(P, rope_dims), heads.rope_dims);
  put(offsetof(P, positions), append.positions);
  put(offsetof(P, capacity), append.capacity);
  put(offsetof(P, slots), append.slots);
  put(offsetof(P, blocks), append.blocks);
  put(offsetof(P, table_stride), append.table_stride);
  d.spec[shader::kMatmulSpecAct] = static_cast<std::uint32_t>(heads.kv_type);
  d.spec[shader::kMatmulSpecFlags] |=
      shader::kMatmulFlagHeads | (heads.adjacent ? shader::kMatmulFlagAdjacent : 0) |
      (heads.block_size != 0 ? shader::kMatmulFlagPaged : 0) | (heads.ring ? shader::kMatmulFlagRing : 0);
  for (OperandIndex i = shader::kFusedTable; i < shader::kFusedBindings; ++i) d.operands[i] = i;
  // q, k and v, which the product's bytes have in them, are not written.
  const double share = static_cast<double>(product.n) / columns;
  d.bytes += share * (append.bytes - 4.0 * product.rows * columns);
  return d;
}

}  // namespace tessera
