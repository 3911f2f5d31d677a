// The forms of matmul for precision mixed: every one that the device has, against loops in double.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>

#include "interface/matmul.h"
#include "kernels/grid.h"
#include "kernels/matmul_run.h"
#include "kernels/tiers.h"
#include "support/gpu_fixture.h"
#include "support/pairwise.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

MatmulShape shape_of(DType type, std::uint32_t rows, std::uint32_t n, std::uint32_t k) {
  MatmulShape s;
  s.type = type;
  s.rows = rows;
  s.n = n;
  s.k = k;
  s.precision = Precision::mixed;
  return s;
}

std::uint32_t block_of(DType type) { return std::max(info(type).block_elems, 32u); }

// Where the device lacks a form, the refusal has a reason, and nothing runs.
class MatmulTiersGpu : public GpuTest, public ::testing::WithParamInterface<const char*> {
 protected:
  Target target() const {
    Target t = target_of(*device_);
    t.form = GetParam();
    return t;
  }
  void check(const MatmulShape& shape, std::uint32_t live = 0, std::uint32_t slices = 1) {
    Product p(shape, live);
    const auto choice = choose(p.shape);
    if (!choice) return;
    const Bytes y = run_product(*device_, p, *choice, slices);
    ASSERT_FALSE(y.empty());
    compare(p, y);
  }

  // Nothing where the device cannot have the form, which is refused for a reason; elsewhere it must be there.
  std::optional<MatmulChoice> choose(const MatmulShape& shape) const {
    const auto choice = choose_matmul_call(shape, target());
    const std::string_view form = GetParam();
    const bool there = has_form(device_->report(), form, shape.type, shape.rows);
    EXPECT_EQ(choice.ok(), there) << form << (choice ? "" : ": " + choice.error().message);
    if (!choice) {
      EXPECT_EQ(choice.error().code, Code::unsupported) << choice.error().message;
      EXPECT_GT(choice.error().message.size(), 10u);
      return std::nullopt;
    }
    const std::string_view name = kernel(choice->dispatches.back().kernel).name;
    EXPECT_TRUE(is_form(name, form)) << name;
    return *choice;
  }
};

TEST_P(MatmulTiersGpu, AwkwardSizes) {
  for (DType type : kWeightTypes) {
    const std::uint32_t block = info(type).block_elems;
    const std::vector<std::uint32_t> ks =
        block > 1 ? std::vector<std::uint32_t>{block, 3 * block} : std::vector<std::uint32_t>{1, 7, 61, 172};
    for (std::uint32_t k : ks)
      for (const auto& [rows, n] : {std::pair(17u, 5u), std::pair(33u, 1u), std::pair(65u, 67u)})
        check(shape_of(type, rows, n, k));
  }
}

// One less and one more than tiles and steps.
TEST_P(MatmulTiersGpu, EdgesOfTiles) {
  for (DType type : {DType::f16, DType::q8_0})
    for (std::uint32_t rows : {31u, 64u, 129u})
      for (std::uint32_t n : {63u, 64u, 129u}) check(shape_of(type, rows, n, 96));
  for (std::uint32_t k : {15u, 16u, 31u, 32u, 33u, 63u, 65u}) check(shape_of(DType::f32, 64, 64, k));
}

TEST_P(MatmulTiersGpu, EpiloguesOfEveryType) {
  for (DType type : kWeightTypes)
    for (bool gated : {false, true}) {
      MatmulShape s =
          shape_of(type, gated ? 70 : 20, 36 + static_cast<std::uint32_t>(type) % 3, block_of(type));
      s.act = static_cast<std::uint32_t>(type) % 7;
      s.gated = gated;
      s.bias = s.residual = true;
      s.scale = -0.75f;
      check(s);
    }
}

TEST_P(MatmulTiersGpu, FewRows) {
  if (std::string_view(GetParam()) != "matmul_dot") return;  // the others leave them to it
  for (DType type : kWeightTypes)
    for (std::uint32_t rows : {1u, 2u, 5u, 8u, 9u, 16u}) {
      MatmulShape s =
          shape_of(type, rows, rows == 1 ? 1029 : 37, rows == 2 ? 5 * block_of(type) : block_of(type));
      s.act = (rows + static_cast<std::uint32_t>(type)) % 7;
      s.gated = (rows + static_cast<std::uint32_t>(type)) % 2 == 0;
      s.bias = s.residual = rows != 2;
      s.x_type = rows == 9 ? DType::f16 : DType::f32;
      s.batch = rows == 5 ? 2 : 1;
      s.x_batch = rows * s.k;
      s.y_batch = rows * s.n;
      s.w_batch = s.n;
      s.dynamic_rows = rows == 8;
      check(s, rows == 8 ? 6 : 0);
    }
  for (DType type : {DType::q8_0, DType::q5_k}) check(shape_of(type, 1, 9, 8192));
}

TEST_P(MatmulTiersGpu, EachPartOfTheEpilogueAlone) {
  for (std::uint32_t part = 0; part < 16; ++part) {
    MatmulShape s = shape_of(DType::q4_0, 40, 24, 64);
    s.bias = (part & 1) != 0;
    s.residual = (part & 2) != 0;
    s.scale = (part & 4) != 0 ? 2.5f : 1;
    s.gated = (part & 8) != 0;
    check(s);
  }
}

TEST_P(MatmulTiersGpu, EveryActivation) {
  for (std::uint32_t act = 0; act <= 6; ++act)
    for (bool gated : {false, true}) {
      MatmulShape s = shape_of(DType::q8_0, 33, 37, 64);
      s.act = act;
      s.gated = gated;
      s.bias = true;
      check(s);
    }
}

TEST_P(MatmulTiersGpu, HalfActivations) {
  for (DType type : {DType::f32, DType::f16, DType::q8_0, DType::q5_k})
    for (std::uint32_t n : {18u, 20u})
      for (std::uint32_t k : {256u, 257u, 260u}) {
        if (k % info(type).block_elems != 0) continue;
        MatmulShape s = shape_of(type, 40, n, k);
        for (bool x : {false, true})
          for (bool y : {false, true}) {
            s.x_type = x ? DType::f16 : DType::f32;
            s.y_type = y ? DType::f16 : DType::f32;
            s.residual = n == 20;
            check(s);
          }
      }
}

TEST_P(MatmulTiersGpu, StridesAndBatches) {
  for (DType type : {DType::f16, DType::q4_0, DType::q6_k})
    for (bool shared : {false, true})
      for (std::uint32_t gap : {0u, 3u, 8u}) {
        MatmulShape s = shape_of(type, 35, 13, block_of(type));
        s.x_stride = s.k + gap;
        s.y_stride = s.n + gap;
        s.batch = 3;
        s.x_batch = s.rows * s.x_stride + gap;
        s.y_batch = s.rows * s.y_stride + 2 * gap;
        s.w_batch = shared ? 0 : s.n + 1;
        s.residual = gap == 3;
        check(s);
      }
}

TEST_P(MatmulTiersGpu, GroupsOfProducts) {
  const bool dots = std::string_view(GetParam()) == "matmul_dot";
  for (std::uint32_t which = 0; which < 16; ++which)
    for (const std::uint32_t rows : {6u, 35u}) {
      if (!dots && rows <= kMatmulFewRows) continue;
      MatmulShape s = shape_of(which % 3 == 1 ? DType::q4_0 : DType::q8_0, rows, 13, 96);
      put_in_groups(s, which);
      s.gated = s.residual = which > 7;
      check(s);
      if (HasFatalFailure()) return;
    }
}

// Products side by side in the rows of x and y.
TEST_P(MatmulTiersGpu, BatchesAcrossRows) {
  for (DType type : {DType::f16, DType::q4_0, DType::q6_k})
    for (std::uint32_t n : {13u, 16u}) {
      MatmulShape s = shape_of(type, 35, n, block_of(type));
      s.batch = 3;
      s.x_stride = s.batch * s.k;
      s.y_stride = s.batch * s.n;
      s.x_batch = s.k;
      s.y_batch = s.w_batch = s.n;
      s.residual = n == 13;
      check(s);
    }
}

TEST_P(MatmulTiersGpu, AWindowOfColumns) {
  for (std::uint32_t first : {10u, 12u}) {
    MatmulShape s = shape_of(DType::q8_0, 20, 32, 64);
    s.first = first;
    s.y_stride = 52;
    s.bias = true;
    check(s);
  }
}

TEST_P(MatmulTiersGpu, RowsFromTheState) {
  for (std::uint32_t live : {1u, 64u, 65u, 130u}) {
    MatmulShape s = shape_of(DType::q8_0, 130, 67, 64);
    s.dynamic_rows = true;
    check(s, live);
  }
}

TEST_P(MatmulTiersGpu, LongRowsAndManyTiles) {
  for (DType type : {DType::f16, DType::q4_k}) check(shape_of(type, 33, 40, 2048));
  check(shape_of(DType::q8_0, 600, 200, 64));  // more than a band of tiles
}

// Operands that no form rounds: x of whole numbers with one +-127 in every 32, weights of small ones, also as
// blocks with a scale of 1. Every sum is a whole number that f32 holds.
TEST_P(MatmulTiersGpu, WholeNumbersAreExact) {
  const bool dots = std::string_view(GetParam()) == "matmul_dot";
  const std::uint32_t n = 37;
  for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0})
    for (std::uint32_t k : {2048u, 8192u})
      for (std::uint32_t rows : {1u, 13u, 30u}) {
        if (!dots && rows <= kMatmulFewRows) continue;
        Product p(shape_of(type, rows, n, k));
        for (std::size_t i = 0; i < p.x.size(); ++i) {
          p.x[i] = i % 32 == i / 32 % 16 * 2 ? (i / 32 % 3 == 0 ? -127.0f : 127.0f) : std::trunc(4 * p.x[i]);
        }
        std::vector<float> w = random_floats(std::size_t{n} * k, 8, 4);
        for (std::size_t i = 0; i < w.size(); ++i) {
          const bool most = i % 32 == i / 32 % 13 * 2 + 1;  // never where x is +-127
          w[i] = !most ? std::trunc(w[i]) : type == DType::q8_0 ? 127 : type == DType::q4_0 ? -8 : 5;
        }
        p.w = encoded_weights(type, n, k, w);
        ASSERT_EQ(p.w.values, w);
        const auto choice = choose(p.shape);
        if (!choice) continue;
        const std::vector<float> y = from_bytes<float>(run_product(*device_, p, *choice));
        ASSERT_EQ(y.size(), std::size_t{rows} * n);
        for (std::uint32_t row = 0; row < rows; ++row)
          for (std::uint32_t i = 0; i < n; ++i)
            ASSERT_NEAR(y[row * n + i], p.sum(row, i).value, 0.4) << p.what() << " row " << row << " n " << i;
      }
}

// The same x, with weights that dots alone do not round.
TEST_P(MatmulTiersGpu, DotsRoundNoWeights) {
  if (std::string_view(GetParam()) != "matmul_dot") return;
  const std::uint32_t n = 37;
  for (DType type : kWeightTypes)
    for (std::uint32_t k : {2048u, 8192u})
      for (std::uint32_t rows : {1u, 13u, 30u}) {
        if (info(type).block_elems == 1) continue;
        Product p(shape_of(type, rows, n, k));
        for (std::size_t i = 0; i < p.x.size(); ++i)
          p.x[i] = i % 32 == i / 32 % 32 ? (i / 32 % 3 == 0 ? -127.0f : 127.0f) : std::trunc(127 * p.x[i]);
        const auto choice = choose(p.shape);
        if (!choice) continue;
        const std::vector<float> y = from_bytes<float>(run_product(*device_, p, *choice));
        ASSERT_EQ(y.size(), std::size_t{rows} * n);
        for (std::uint32_t row = 0; row < rows; ++row)
          for (std::uint32_t i = 0; i < n; ++i) {
            const Product::Sum e = p.sum(row, i);
            ASSERT_NEAR(y[row * n + i], e.value, (k + 8) * 0x1p-24 * e.magnitude)
                << p.what() << " row " << row << " n " << i;
          }
      }
}

TEST_P(MatmulTiersGpu, SlicesAndAFoldedGrid) {
  auto small = make_device({{"max_group_count_x", 3}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  check(shape_of(DType::q8_0, 270, 300, 32), 0, 2);
  check(shape_of(DType::q8_0, 256, 301, 32));  // whole bands of tiles, and workgroups past the last
  check(shape_of(DType::q4_k, 16, 301, 256));
}

constexpr std::uint32_t kManyRows[] = {17, 33, 65, 70}, kDotRows[] = {1, 2, 9, 16};
constexpr std::uint32_t kFewColumns[] = {1, 3, 36, 67};

// Any two of types, sizes, places and parts of the epilogue.
TEST_P(MatmulTiersGpu, EveryTwoOptions) {
  const bool dots = std::string_view(GetParam()) == "matmul_dot";
  Sweep sweep;
  for (const bool few : {false, true}) {
    if (few && !dots) continue;
    for (const std::vector<std::size_t>& options :
         pairwise({std::size(kWeightTypes), 4, 4, 2, 7, 4, 2, 2, 2, 2, 2, 2, 2})) {
      auto next = options.begin();
      const auto any = [&] { return *next++ != 0; };
      const DType type = kWeightTypes[*next++];
      const std::size_t row_count = *next++;
      const std::uint32_t rows = few ? kDotRows[row_count] : kManyRows[row_count], n = kFewColumns[*next++];
      MatmulShape s = shape_of(type, rows, n, any() ? 3 * block_of(type) : block_of(type));
      s.act = static_cast<std::uint32_t>(*next++);
      put_in_place(s, *next++);
      take_parts(s, any);
      if (!sweep.next() || (dots && info(type).block_elems == 1)) continue;
      check(s, s.dynamic_rows ? (2 * rows + 2) / 3 : 0);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(MatmulTiersGpu, FewRowsOfFoldedGrids) {
  if (std::string_view(GetParam()) != "matmul_dot") return;
  auto small = make_device({{"max_group_count_x", 3}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  for (std::uint32_t rows : {1u, 9u}) {
    MatmulShape s = shape_of(DType::q4_0, rows, 41, 96);
    put_in_place(s, 3);
    s.x_type = s.y_type = DType::f16;
    s.residual = true;
    check(s, 0, 2);
  }
}

// Tiles that only large devices choose, in fragments: of a subgroup, subgroups, TILE_K and stages.
struct LargeTile {
  std::uint32_t fragments_m, fragments_n, groups_m, groups_n, k, stages;
};
constexpr LargeTile kLargeTiles[] = {{2, 1, 2, 2, 32, 2}, {1, 2, 2, 2, 16, 1}, {2, 2, 2, 2, 32, 2},
                                     {2, 2, 2, 2, 32, 1}, {2, 2, 2, 2, 16, 2}, {1, 4, 4, 1, 64, 1},
                                     {4, 1, 1, 4, 64, 2}, {4, 4, 2, 2, 32, 2}};

// With the tile instead of the one that was chosen; nothing where it does not fit.
std::optional<MatmulChoice> with_tile(MatmulChoice choice, const LargeTile& t, const MatmulShape& s,
                                      const Target& target) {
  Dispatch& d = choice.dispatches[0];
  const bool whole = d.kernel == KernelId::matmul_coopmat2;
  if (whole && d.subgroup_size == 0) return std::nullopt;
  const bool software = target.caps.software;
  std::uint32_t fragment_m = software ? 8 : 16, fragment_n = fragment_m;
  if (!whole) {
    fragment_m = d.spec[shader::kFragmentSpecM];
    fragment_n = d.spec[shader::kFragmentSpecN];
  }
  const std::uint32_t m = t.fragments_m * t.groups_m * fragment_m,
                      n = t.fragments_n * t.groups_n * fragment_n;
  const std::uint32_t lanes = d.subgroup_size * t.groups_m * t.groups_n;
  const std::uint32_t k_step = d.spec[whole ? shader::kWholeSpecK : shader::kFragmentSpecK];
  const std::uint32_t shared = 16 * t.stages * (m + (s.gated ? 2 : 1) * n) * (t.k / 8 + 1);
  // Such a driver compiles each word of sums to code: 32 for a minute.
  const std::uint32_t sums = t.fragments_m * t.fragments_n * fragment_m * fragment_n / d.subgroup_size;
  if (software && sums * (s.gated ? 2 : 1) > 16) return std::nullopt;
  if (t.k % k_step != 0 || lanes > target.limits.max_group_invocations ||
      2 * shared > target.limits.max_shared_bytes)
    return std::nullopt;
  d.spec[0] = lanes;
  const std::size_t at = whole ? shader::kWholeSpecTileM : shader::kFragmentSpecTileM;
  const std::uint32_t values[] = {m, n, t.k, t.groups_m, t.groups_n, t.stages};
  std::ranges::copy(values, d.spec.begin() + static_cast<std::ptrdiff_t>(at));
  const auto grid = fold_grid(ceil_div(s.rows, m) * ceil_div(s.n, n), target.limits, "");
  if (!grid) return std::nullopt;
  d.grid = *grid;
  d.push[offsetof(shader::MatmulPush, groups_x) / 4] = d.grid[0];
  d.push[offsetof(shader::MatmulPush, groups_y) / 4] = d.grid[1];
  return choice;
}

TEST_P(MatmulTiersGpu, TilesOfLargeDevices) {
  if (std::string_view(GetParam()) == "matmul_dot") return;
  std::size_t ran = 0;
  for (const LargeTile& t : kLargeTiles)
    for (const bool less : {true, false})
      for (const DType type : {DType::f16, DType::q8_0, DType::q4_k}) {
        if (type == DType::q4_k && (&t != &kLargeTiles[0] || less)) continue;
        const std::uint32_t rows = 16 * t.fragments_m * t.groups_m, n = 16 * t.fragments_n * t.groups_n;
        MatmulShape s = shape_of(type, less ? rows - 1 : rows + 1, less ? n + 1 : 2 * n - 4,
                                 type == DType::f16 ? (less ? 97 : 104) : 3 * block_of(type));
        s.bias = s.residual = less;
        s.gated = less && t.stages == 1;
        Product p(s);
        const auto chosen = choose(p.shape);
        if (!chosen) return;
        const auto choice = with_tile(*chosen, t, p.shape, target());
        if (!choice) continue;
        ++ran;
        const Bytes y = run_product(*device_, p, *choice);
        ASSERT_FALSE(y.empty());
        compare(p, y);
        if (HasFatalFailure()) return;
      }
  EXPECT_GE(ran, 2u);
}

// 48 rows of which one has a NaN, and f32 beyond f16.
TEST_P(MatmulTiersGpu, NotANumberSpreadsAndTheLargestSaturate) {
  Product p(shape_of(DType::q8_0, 48, 40, 64));
  p.x[3] = std::numeric_limits<float>::quiet_NaN();
  p.x[64] = 1e9f;
  std::fill_n(p.x.begin() + 128, 64, 1e-38f);
  const auto choice = choose(p.shape);
  if (!choice) return;
  const std::vector<float> y = from_bytes<float>(run_product(*device_, p, *choice));
  ASSERT_EQ(y.size(), 48u * 40);
  for (std::uint32_t n = 0; n < 40; ++n) {
    EXPECT_TRUE(std::isnan(y[n]));
    for (std::uint32_t row = 1; row < 48; ++row)
      EXPECT_TRUE(std::isfinite(y[row * 40 + n])) << row << " " << n;
  }
}

// Both signs of infinity, each in a block of its own: as dots they are in the step.
TEST_P(MatmulTiersGpu, InfinitiesKeepTheirSign) {
  if (std::string_view(GetParam()) != "matmul_dot") return;  // the others saturate
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (std::uint32_t rows : {3u, 20u}) {
    const std::uint32_t n = 40, k = 96;
    Product p(shape_of(DType::q8_0, rows, n, k));
    std::vector<float> w = random_floats(n * k, 9);
    for (float& v : w) v = std::copysign(std::abs(v) + 0.5f, v);  // none becomes 0
    p.w = encoded_weights(DType::q8_0, n, k, w);
    p.x[5] = kInfinity;
    p.x[k + 40] = -kInfinity;
    const auto choice = choose(p.shape);
    if (!choice) return;
    const std::vector<float> y = from_bytes<float>(run_product(*device_, p, *choice));
    ASSERT_EQ(y.size(), std::size_t{rows} * n);
    for (std::uint32_t i = 0; i < n; ++i) {
      EXPECT_EQ(y[i], std::copysign(kInfinity, w[i * k + 5])) << i;
      EXPECT_EQ(y[n + i], -std::copysign(kInfinity, w[i * k + 40])) << i;
      EXPECT_TRUE(std::isfinite(y[2 * n + i])) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, MatmulTiersGpu,
                         ::testing::Values("matmul_coopmat2", "matmul_coopmat", "matmul_dot"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace tessera::test
