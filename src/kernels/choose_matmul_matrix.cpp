// Tiles of matmul on matrix units. docs/kernels/matmul.md derives the budgets.
#include <algorithm>
#include <bit>
#include <optional>

#include "interface/matmul.h"
#include "kernels/grid.h"
#include "kernels/layout.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

// Invocations of a workgroup at most.
constexpr std::uint32_t kMostLanes = 256;
// Words of sums and of all that a lane holds. A lane has 255 registers where subgroups are wide, and 128
// where they are narrow (Intel).
constexpr std::uint32_t kNarrow = 16;
constexpr std::uint32_t kWideSums = 128, kWideWords = 216, kNarrowSums = 32, kNarrowWords = 76;
// Software drivers compile every word of sums to code: with 32 for seconds.
constexpr std::uint32_t kSoftwareSums = 16;
// Shared memory a workgroup may take: two fit where there is 100 KiB.
constexpr std::uint32_t kMostShared = 48 * 1024;
// Workgroups that fill a large device: the processors of an H100.
constexpr double kFill = 132;
// Up to so many rows there are few workgroups, and what a step waits for decides: cycles from a load to its
// data, bytes of weights and of x that a processor gets a cycle (from memory and from a cache), and the lanes
// that one has at once.
constexpr std::uint32_t kWaitingRows = 128;
constexpr double kLatency = 800, kWeightBytes = 16, kXBytes = 64, kProcessorLanes = 1024;

// What a device multiplies: fragments of this size, or matrices of any multiple of it.
struct Matrix {
  std::uint32_t m, n, k;
  std::uint32_t lanes;  // that share one
  std::uint32_t most;   // of a dimension; 0: fragments
  bool of_workgroup = false;
};

bool multiplies(const MatrixShape& s) {
  return s.a == MatrixType::f16 && s.c == MatrixType::f32 && s.m % 4 == 0 && s.n % 4 == 0 && s.k % 8 == 0;
}

// The largest of a subgroup.
std::optional<Matrix> choose_fragment(const Target& target) {
  const MatrixShape* best = nullptr;
  for (const MatrixShape& s : target.matrices.shapes)
    if (!s.flexible && s.scope == MatrixScope::subgroup && multiplies(s) &&
        (!best || s.m * s.n * s.k > best->m * best->n * best->k))
      best = &s;
  if (!best) return std::nullopt;
  return Matrix{best->m, best->n, best->k, target.limits.min_subgroup_size, 0};
}

struct MatrixTile {
  Matrix of;
  std::uint32_t matrices;
  std::uint32_t m, n, k, groups_m, groups_n, stages;

  std::uint32_t lanes() const { return of.lanes * groups_m * groups_n; }
  std::uint32_t part_m() const { return m / groups_m; }
  std::uint32_t part_n() const { return n / groups_n; }
  bool divides() const {
    return m % groups_m == 0 && n % groups_n == 0 && part_m() % of.m == 0 && part_n() % of.n == 0 &&
           k % of.k == 0 && (of.most == 0 || std::max(part_m(), part_n()) <= of.most);
  }
  std::uint32_t sums() const { return part_m() * part_n() * matrices / of.lanes; }
  // Sums, the operands of a step, which compilers load together, and what is fetched ahead.
  std::uint64_t words(const MatmulShape& s) const {
    const std::uint32_t x_words =
        s.x_type == DType::f16 && (wide_flags(s) & shader::kMatmulFlagVec8) != 0 ? 4 : 8;
    const bool headers = s.type == DType::q4_k || s.type == DType::q5_k;
    const std::uint32_t w_words = s.type == DType::f32 ? 9 : headers ? 6 : 4;  // f32: two loads
    const std::uint64_t operands = (part_m() + (of.most != 0 ? part_n() : of.n)) * k / 2 / of.lanes;
    const auto ahead = [&](std::uint64_t rows) { return ceil_div(rows * k / 8, lanes()); };
    return sums() + operands + x_words * ahead(m) + w_words * matrices * ahead(n);
  }
  // `tiles` of lib/matmul_stage.glsl.
  std::uint64_t shared_bytes() const {
    const std::uint64_t tiles = std::uint64_t{stages} * (m + matrices * n) * (k / 8 + 1);
    const std::uint64_t strips = std::uint64_t{groups_m} * groups_n * matrices * of.m * (part_n() / 4 + 1);
    return 16 * (of.most == 0 ? std::max(tiles, strips) : tiles);
  }
  // Cycles of matrix units that do 1024 multiply-adds a cycle beside 128 bytes of shared memory and 128
  // operations: a part reads its operands from shared memory, a tile's elements are decoded (some 4
  // operations) and stored.
  double cost(const MatmulShape& s) const {
    const double tiles = static_cast<double>(ceil_div(s.rows, m) * ceil_div(s.n, n));
    const double staged = 32.0 / m + 32.0 / (matrices * n), read = 16.0 / part_m() + 16.0 / part_n();
    const double step = 8.0 / k + (stages == 1 ? 0.25 : 0);
    return tiles * m * n * (1 + staged + read + step) * std::max(1.0, kFill / (tiles * s.batch));
  }
  // The same for few rows, in cycles a column of k. A step lasts as long as its workgroups keep a processor
  // busy, or as one of them takes alone: the wait for its loads, a quarter of the matrix units to each of its
  // subgroups, and its share of decoding.
  double waiting_cost(const MatmulShape& s) const {
    const double tiles = static_cast<double>(ceil_div(s.rows, m) * ceil_div(s.n, n)) * s.batch;
    const double each = std::max(1.0, tiles / kFill);
    const double most = std::max(
        1.0, std::min(kProcessorLanes / lanes(), 2.0 * kMostShared / static_cast<double>(shared_bytes())));
    const double resident = std::min(each, most);
    const double busy = cost(s) / (tiles / s.batch * std::max(1.0, kFill / tiles)) * matrices * k / 1024;
    const double weights = static_cast<double>(device_row_bytes(s.type, s.k)) / s.k * matrices * n * k;
    const double x = (s.x_type == DType::f16 ? 2.0 : 4.0) * m * k;
    const double alone = kLatency + resident * (weights / kWeightBytes + x / kXBytes) +
                         double(part_m()) * part_n() * matrices * k / 256 +
                         4.0 * (m + matrices * n) * k / lanes();
    return each / resident * std::max(resident * busy, alone) / k;
  }
};

// Replaces `best` where one of these tiles is cheaper.
void try_tiles(const MatmulShape& s, const Matrix& of, const Target& target,
               std::optional<MatrixTile>& best) {
  const Limits& limits = target.limits;
  const bool narrow = limits.min_subgroup_size <= kNarrow;
  const std::uint32_t sums = target.caps.software ? kSoftwareSums : narrow ? kNarrowSums : kWideSums;
  const std::uint32_t lanes = std::min({kMostLanes, limits.max_group_invocations, limits.max_group_size[0]});
  const std::uint32_t most = of.of_workgroup ? of.lanes : lanes;
  const std::uint32_t taken = of.of_workgroup ? target.matrices.reserved_shared : 0;
  const std::uint32_t shared =
      std::min(kMostShared, limits.max_shared_bytes > taken ? limits.max_shared_bytes - taken : 0);
  const bool waits = s.rows <= kWaitingRows && !target.caps.software;
  const auto cost = [&](const MatrixTile& t) { return waits ? t.waiting_cost(s) : t.cost(s); };
  if (of.lanes == 0 || of.lanes > limits.max_group_invocations || of.lanes > limits.max_group_size[0]) return;
  for (std::uint32_t m : {128u, 64u, 32u, 16u})
    for (std::uint32_t n : {128u, 64u, 32u, 16u})
      for (std::uint32_t k : {waits ? 64u : 32u, 32u, 16u})
        for (std::uint32_t groups_m = 1; groups_m * of.lanes <= most; groups_m *= 2)
          for (std::uint32_t groups_n = 1; groups_m * groups_n * of.lanes <= most; groups_n *= 2)
            for (std::uint32_t stages : {2u, 1u}) {
              const MatrixTile t{of, matrices(s), m, n, k, groups_m, groups_n, stages};
              if (waits && m > std::bit_ceil(s.rows)) continue;  // rows of nothing
              if (t.divides() && t.sums() <= sums && t.words(s) <= (narrow ? kNarrowWords : kWideWords) &&
                  t.shared_bytes() <= shared && (!best || cost(t) < cost(*best)))
                best = t;
            }
}

// Matrices of subgroups first: those of workgroups have run on no device yet.
std::optional<MatrixTile> choose_flexible(const MatmulShape& s, const Target& target) {
  std::optional<MatrixTile> best;
  for (const MatrixScope scope : {MatrixScope::subgroup, MatrixScope::workgroup}) {
    const bool whole = scope == MatrixScope::workgroup;
    if (best || (!whole && !target.caps.subgroup_size_control)) continue;
    for (const MatrixShape& shape : target.matrices.shapes) {
      if (!shape.flexible || shape.scope != scope || !multiplies(shape)) continue;
      if (whole && shape.group > target.matrices.max_group) continue;
      const std::uint32_t lanes = whole ? shape.group : target.limits.min_subgroup_size;
      try_tiles(s, {shape.m, shape.n, shape.k, lanes, target.matrices.max_dimension, whole}, target, best);
    }
  }
  return best;
}

Error refuse(std::string why) { return {Code::unsupported, std::move(why)}; }

// Why no matrix form can do it; empty when one may.
std::string never_on_matrices(const MatmulShape& s, const Target& target) {
  if (s.precision != Precision::mixed) return std::string(kNeedsMixed);
  if (s.norm) return std::string(kNoNorm);
  if (!target.caps.coopmat) return "the device lacks coopmat";
  if (!target.caps.fp16) return "the device lacks fp16";
  return target.matrices.emulated;
}

std::uint64_t groups_of(const MatmulShape& s, const MatrixTile& t) {
  return ceil_div(s.rows, t.m) * ceil_div(s.n, t.n);
}

}  // namespace

Result<Dispatch> choose_matmul_coopmat(const MatmulShape& s, const Target& target) {
  if (std::string why = never_on_matrices(s, target); !why.empty()) return refuse(std::move(why));
  if (!target.caps.subgroup_size_control) return refuse("the device lacks subgroup_size_control");
  const auto f = choose_fragment(target);
  if (!f) return refuse("the device has no fragments of f16 with f32 sums for a subgroup");
  std::optional<MatrixTile> t;
  try_tiles(s, *f, target, t);
  if (!t) return refuse("no tile of its fragments fits registers and shared memory");
  Dispatch d;
  d.kernel = KernelId::matmul_coopmat;
  d.spec = {t->lanes(), 0, 0, 0, f->m, f->n, f->k, t->m, t->n, t->k, t->groups_m, t->groups_n, t->stages};
  d.subgroup_size = f->lanes;
  TSR_CHECK(complete_matmul(s, target, groups_of(s, *t), wide_flags(s), d));
  return d;
}

Result<Dispatch> choose_matmul_coopmat2(const MatmulShape& s, const Target& target) {
  if (std::string why = never_on_matrices(s, target); !why.empty()) return refuse(std::move(why));
  if (!target.caps.coopmat2) return refuse("the device lacks coopmat2");
  const auto t = choose_flexible(s, target);
  if (!t) return refuse("no tile on its flexible matrices fits registers and shared memory");
  Dispatch d;
  d.kernel = KernelId::matmul_coopmat2;
  d.spec = {t->lanes(),
            0,
            0,
            0,
            t->of.of_workgroup ? shader::kProductScopeWorkgroup : shader::kProductScopeSubgroup,
            t->of.k,
            t->m,
            t->n,
            t->k,
            t->groups_m,
            t->groups_n,
            t->stages};
  if (!t->of.of_workgroup) d.subgroup_size = t->of.lanes;
  TSR_CHECK(complete_matmul(s, target, groups_of(s, *t), wide_flags(s), d));
  return d;
}

}  // namespace tessera
