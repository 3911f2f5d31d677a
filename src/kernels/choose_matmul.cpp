#include <bit>
#include <optional>

#include "base/dtype.h"
#include "interface/matmul.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/layout.h"

namespace tessera {
namespace {

constexpr std::uint32_t kMatvecRows = 16;      // up to these, the matrix-vector family is chosen
constexpr std::uint32_t kMatvecGroupRows = 8;  // that one of its workgroups multiplies

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

std::uint32_t x_stride(const MatmulShape& shape) { return shape.x_stride != 0 ? shape.x_stride : shape.k; }

std::string describe(const MatmulShape& shape) {
  return "matmul of " + std::to_string(shape.rows) + " rows, n=" + std::to_string(shape.n) +
         " k=" + std::to_string(shape.k) + " " + std::string(info(shape.type).name);
}

// Elements from the first to the last that a dispatch touches.
std::uint64_t span_of(std::uint64_t rows, std::uint64_t stride, std::uint64_t columns, std::uint64_t batch,
                      std::uint64_t batch_stride) {
  return (rows - 1) * stride + columns + (batch - 1) * batch_stride;
}

Result<void> check(const MatmulShape& shape, std::uint64_t row_bytes, const std::string& what) {
  if (shape.rows == 0 || shape.n == 0 || shape.k == 0 || shape.batch == 0)
    return Error{Code::invalid_argument, what + ": a dimension is 0"};
  if (row_bytes == 0 || !is_real(shape.type))
    return Error{Code::invalid_argument, what + ": weights of this type cannot have that k"};
  if (std::uint64_t{shape.first} + shape.n > shape.y_stride)
    return Error{Code::invalid_argument, what + ": columns from " + std::to_string(shape.first) +
                                             " on do not fit " + std::to_string(shape.y_stride) +
                                             " columns of y"};
  if (x_stride(shape) < shape.k)
    return Error{Code::invalid_argument, what + ": rows of x are " + std::to_string(shape.x_stride) +
                                             " elements apart, fewer than k"};
  for (const DType type : {shape.x_type, shape.y_type})
    if (type != DType::f32 && type != DType::f16)
      return Error{Code::unsupported, what + ": activations are F32 or F16"};
  const std::uint64_t most = 0xfffff000ull;  // indices are 32 bits, and lanes count a little past the end
  if (span_of(shape.rows, shape.y_stride, shape.y_stride, shape.batch, shape.y_batch) > most ||
      span_of(shape.rows, x_stride(shape), shape.k, shape.batch, shape.x_batch) > most ||
      span_of(shape.n, 1, 1, shape.batch, shape.w_batch) * (row_bytes / 4) > most)
    return Error{Code::unsupported, what + ": more than 2^32 elements"};
  return {};
}

// Columns a workgroup computes at once: x is read once for all of them, and as many loads are in flight.
// Fewer where n is small, to leave enough workgroups, and where a lane would hold more than 16 sums.
std::uint32_t matvec_columns(const MatmulShape& shape, std::uint32_t rows) {
  const std::uint32_t by_n = shape.n >= 1024 ? 4 : 2;  // 1 below 256 would be one more pipeline a model
  const std::uint32_t by_sums = std::max(1u, std::bit_floor(16 / (rows * (shape.gated ? 2 : 1))));
  return std::min({by_n, by_sums, shape.gated ? 2u : 4u});
}

std::uint32_t chunk_elems(DType type) {  // elements in 16 bytes: CHUNK in lib/load.glsl
  switch (type) {
    case DType::f32: return 4;
    case DType::f16:
    case DType::bf16: return 8;
    case DType::q8_0: return 16;
    default: return 32;
  }
}

// One subgroup reduces without a barrier, so it is the workgroup, unless that leaves a device idle: 65536
// lanes with 4 loads of 16 bytes have 4 MiB in flight, which is what 4.8 TB/s at 0.8 us ask for. Narrow
// subgroups are the vectors of processors that hide no latency (on one, 2 subgroups of 8 took 1.7 times as
// long as 1).
std::uint32_t matvec_lanes(const MatmulShape& shape, std::uint64_t groups, const Limits& limits) {
  std::uint32_t lanes = limits.subgroup_size > 1 ? std::min(limits.subgroup_size, 64u) : 32;
  while (limits.subgroup_size >= 32 && lanes < 128 && lanes * groups < 65536 &&
         shape.k >= std::uint64_t{2} * lanes * chunk_elems(shape.type))
    lanes *= 2;
  return lanes;
}

void use_matvec(const MatmulShape& shape, const Target& target, Dispatch& d, std::uint64_t& groups) {
  const std::uint64_t tiles_m = ceil_div(shape.rows, kMatvecGroupRows);
  const auto rows = static_cast<std::uint32_t>(ceil_div(shape.rows, tiles_m));
  const std::uint32_t columns = matvec_columns(shape, rows);
  groups = tiles_m * ceil_div(shape.n, columns);
  const std::uint32_t lanes = matvec_lanes(shape, groups, target.limits);
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

bool takes_lanes(const Target& target) {
  return target.caps.software && target.caps.subgroup_shuffle && target.limits.subgroup_size >= 4 &&
         target.limits.subgroup_size <= 64;
}

void use_lanes(const MatmulShape& shape, const Target& target, Dispatch& d, std::uint64_t& groups) {
  const std::uint32_t lanes = target.limits.subgroup_size;
  const std::uint64_t tiles_m = ceil_div(shape.rows, kLanesRows);
  const auto rows = static_cast<std::uint32_t>(ceil_div(shape.rows, tiles_m));
  const std::uint32_t columns = (rows == 1 ? 2 : kLanesColumns) / (shape.gated ? 2 : 1);
  d.kernel = KernelId::matmul_lanes;
  d.spec = {lanes, 0, 0, 0, columns, rows};
  groups = tiles_m * ceil_div(shape.n, columns * lanes);
}

std::uint32_t flags_of(const MatmulShape& s) {
  const bool vec4 = s.k % 4 == 0 && x_stride(s) % 4 == 0 && s.x_batch % 4 == 0;
  return (s.bias ? shader::kMatmulFlagBias : 0) | (s.gated ? shader::kMatmulFlagGated : 0) |
         (s.dynamic_rows ? shader::kMatmulFlagDynamic : 0) | (vec4 ? shader::kMatmulFlagVec4 : 0) |
         (s.residual ? shader::kMatmulFlagResidual : 0) | (s.scale != 1 ? shader::kMatmulFlagScale : 0) |
         (s.x_type == DType::f16 ? shader::kMatmulFlagXHalf : 0) |
         (s.y_type == DType::f16 ? shader::kMatmulFlagYHalf : 0) |
         (s.batch > 1 ? shader::kMatmulFlagBatch : 0);
}

double element_bytes(DType type) { return type == DType::f16 ? 2 : 4; }

}  // namespace

Result<Dispatch> choose_matmul(const MatmulShape& shape, const Target& target) {
  const std::string what = describe(shape);
  const std::uint64_t row_bytes = device_row_bytes(shape.type, shape.k);
  TSR_CHECK(check(shape, row_bytes, what));
  Dispatch d;
  std::uint64_t groups = 0;
  if (takes_lanes(target))
    use_lanes(shape, target, d, groups);
  else if (shape.rows <= kMatvecRows)
    use_matvec(shape, target, d, groups);
  else
    TSR_CHECK(use_tile(shape, target, what, d, groups));
  TSR_TRY(d.grid, fold_grid(groups * shape.batch, target.limits, what));
  d.spec[shader::kMatmulSpecType] = static_cast<std::uint32_t>(shape.type);
  d.spec[shader::kMatmulSpecFlags] = flags_of(shape);
  d.spec[shader::kMatmulSpecAct] = shape.act;
  const auto row_words = static_cast<std::uint32_t>(row_bytes / 16);
  d.push = {shape.rows,
            shape.n,
            shape.k,
            row_words,
            shape.first,
            shape.y_stride,
            d.grid[0],
            d.grid[1],
            x_stride(shape),
            shape.x_batch,
            shape.w_batch * row_words,
            shape.y_batch,
            shape.batch,
            std::bit_cast<std::uint32_t>(shape.scale)};
  const double matrices = shape.gated ? 2 : 1, batch = shape.batch;
  d.flops = 2.0 * shape.rows * shape.n * shape.k * matrices * batch;
  d.bytes = matrices * shape.n * static_cast<double>(row_bytes) * (shape.w_batch != 0 ? batch : 1) +
            batch * shape.rows *
                (element_bytes(shape.x_type) * shape.k +
                 element_bytes(shape.y_type) * shape.n * (shape.residual ? 2 : 1));
  return d;
}

}  // namespace tessera
