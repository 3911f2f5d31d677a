// Tiles of matmul on matrix units. docs/kernels/matmul.md derives the budgets.
#include <algorithm>
#include <bit>
#include <optional>

#include "interface/matmul.h"
#include "kernels/grid.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

// Invocations of a workgroup at most.
constexpr std::uint32_t kMostLanes = 256;
// Words of sums and of all that a lane holds. A lane has 255 registers where subgroups are wide, and 128
// where they are narrow (Intel).
constexpr std::uint32_t kNarrow = 16;
constexpr std::uint32_t kWideSums = 128, kWideWords = 224, kNarrowSums = 32, kNarrowWords = 88;
// Shared memory a workgroup may take: two fit where there is 100 KiB.
constexpr std::uint32_t kMostShared = 48 * 1024;
// Workgroups that fill a large device: the processors of an H100.
constexpr double kFill = 132;

struct Fragment {
  std::uint32_t m, n, k;
};

bool multiplies(const MatrixShape& s) {
  return s.a == MatrixType::f16 && s.c == MatrixType::f32 && s.m % 4 == 0 && s.n % 4 == 0 && s.k % 8 == 0;
}

// The largest of a subgroup.
std::optional<Fragment> choose_fragment(const Matrices& matrices) {
  const MatrixShape* best = nullptr;
  for (const MatrixShape& s : matrices.shapes)
    if (!s.flexible && s.scope == MatrixScope::subgroup && multiplies(s) &&
        (!best || s.m * s.n * s.k > best->m * best->n * best->k))
      best = &s;
  if (!best) return std::nullopt;
  return Fragment{best->m, best->n, best->k};
}

struct MatrixTile {
  Fragment f;
  std::uint32_t subgroup, matrices;
  std::uint32_t m, n, k, groups_m, groups_n, stages;

  std::uint32_t lanes() const { return subgroup * groups_m * groups_n; }
  std::uint32_t part_m() const { return m / groups_m; }
  std::uint32_t part_n() const { return n / groups_n; }
  bool whole() const {
    return m % groups_m == 0 && n % groups_n == 0 && part_m() % f.m == 0 && part_n() % f.n == 0 &&
           k % f.k == 0;
  }
  std::uint32_t sums() const { return part_m() * part_n() * matrices / subgroup; }
  // Sums, the fragments of x and one of w, and what is fetched ahead.
  std::uint64_t words(const MatmulShape& s) const {
    const std::uint32_t x_words = s.x_type == DType::f16 && s.k % 8 == 0 ? 4 : 8;
    const std::uint32_t w_words = s.type == DType::f32 ? 8 : 4;
    const std::uint64_t fragments = (part_m() + f.n) * f.k / 2 / subgroup;
    const auto ahead = [&](std::uint64_t rows) { return ceil_div(rows * k / 8, lanes()); };
    return sums() + fragments + x_words * ahead(m) + w_words * matrices * ahead(n);
  }
  // The shared array of matmul_coopmat.comp.
  std::uint64_t shared_bytes() const {
    const std::uint64_t tiles = std::uint64_t{stages} * (m + matrices * n) * (k / 8 + 1);
    const std::uint64_t strips = std::uint64_t{groups_m} * groups_n * matrices * f.m * (part_n() / 4 + 1);
    return 16 * std::max(tiles, strips);
  }
  // Cycles of matrix units that do 1024 multiply-adds a cycle beside 128 bytes of shared memory and 128
  // operations: a part reads its fragments from shared memory, a tile's elements are decoded (some 4
  // operations) and stored.
  double cost(const MatmulShape& s) const {
    const double tiles = static_cast<double>(ceil_div(s.rows, m) * ceil_div(s.n, n));
    const double staged = 32.0 / m + 32.0 / (matrices * n), read = 16.0 / part_m() + 16.0 / part_n();
    const double step = 8.0 / k + (stages == 1 ? 0.25 : 0);
    return tiles * m * n * (1 + staged + read + step) * std::max(1.0, kFill / (tiles * s.batch));
  }
};

// The cheapest that fits.
std::optional<MatrixTile> choose_tile(const MatmulShape& s, const Fragment& f, const Limits& limits) {
  const std::uint32_t subgroup = limits.min_subgroup_size;
  const bool narrow = subgroup <= kNarrow;
  const std::uint32_t most = std::min({kMostLanes, limits.max_group_invocations, limits.max_group_size[0]});
  const std::uint32_t shared = std::min(kMostShared, limits.max_shared_bytes);
  std::optional<MatrixTile> best;
  for (std::uint32_t m : {128u, 64u, 32u, 16u})
    for (std::uint32_t n : {128u, 64u, 32u, 16u})
      for (std::uint32_t k : {32u, 16u})
        for (std::uint32_t groups_m = 1; groups_m * subgroup <= most; groups_m *= 2)
          for (std::uint32_t groups_n = 1; groups_m * groups_n * subgroup <= most; groups_n *= 2)
            for (std::uint32_t stages : {2u, 1u}) {
              const MatrixTile t{f, subgroup, matrices(s), m, n, k, groups_m, groups_n, stages};
              if (!t.whole() || t.sums() > (narrow ? kNarrowSums : kWideSums) ||
                  t.words(s) > (narrow ? kNarrowWords : kWideWords) || t.shared_bytes() > shared)
                continue;
              if (!best || t.cost(s) < best->cost(s)) best = t;
            }
  return best;
}

Error refuse(std::string why) { return {Code::unsupported, std::move(why)}; }

// Why no matrix form can do it; empty when one may.
std::string never_on_matrices(const MatmulShape& s, const Target& target) {
  if (s.precision != Precision::mixed) return std::string(kNeedsMixed);
  if (!target.caps.coopmat) return "the device lacks coopmat";
  if (!target.caps.fp16) return "the device lacks fp16";
  return target.matrices.emulated;
}

}  // namespace

Result<Dispatch> choose_matmul_coopmat(const MatmulShape& s, const Target& target) {
  if (std::string why = never_on_matrices(s, target); !why.empty()) return refuse(std::move(why));
  if (!target.caps.subgroup_size_control) return refuse("the device lacks subgroup_size_control");
  const auto f = choose_fragment(target.matrices);
  if (!f) return refuse("the device has no fragments of f16 with f32 sums for a subgroup");
  const auto t = choose_tile(s, *f, target.limits);
  if (!t) return refuse("no tile of its fragments fits registers and shared memory");
  Dispatch d;
  d.kernel = KernelId::matmul_coopmat;
  d.spec = {t->lanes(), 0, 0, 0, f->m, f->n, f->k, t->m, t->n, t->k, t->groups_m, t->groups_n, t->stages};
  d.subgroup_size = t->subgroup;
  TSR_CHECK(complete_matmul(s, target, ceil_div(s.rows, t->m) * ceil_div(s.n, t->n), wide_flags(s), d));
  return d;
}

}  // namespace tessera
