// The forms of matmul for precision mixed: every one that the device has, against loops in double.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "interface/matmul.h"
#include "kernels/matmul_run.h"
#include "support/gpu_fixture.h"

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
    const auto choice = choose_matmul_call(p.shape, target());
    if (!choice) {
      EXPECT_EQ(choice.error().code, Code::unsupported) << choice.error().message;
      EXPECT_GT(choice.error().message.size(), 10u);
      return;
    }
    const std::string_view name = kernel(choice->dispatches.back().kernel).name, form = GetParam();
    ASSERT_TRUE(name == form || (form == "matmul_dot" && name == "matmul_dot_few")) << name;
    const Bytes y = run_product(*device_, p, *choice, slices);
    ASSERT_FALSE(y.empty());
    compare(p, y);
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
      for (std::uint32_t rows : {1u, 13u, 40u}) {
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
        const auto choice = choose_matmul_call(p.shape, target());
        if (!choice) continue;  // check() asks why elsewhere
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
      for (std::uint32_t rows : {1u, 13u, 40u}) {
        if (info(type).block_elems == 1) continue;
        Product p(shape_of(type, rows, n, k));
        for (std::size_t i = 0; i < p.x.size(); ++i)
          p.x[i] = i % 32 == i / 32 % 32 ? (i / 32 % 3 == 0 ? -127.0f : 127.0f) : std::trunc(127 * p.x[i]);
        const auto choice = choose_matmul_call(p.shape, target());
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
}

// 48 rows of which one has a NaN, and f32 beyond f16.
TEST_P(MatmulTiersGpu, NotANumberSpreadsAndTheLargestSaturate) {
  Product p(shape_of(DType::q8_0, 48, 40, 64));
  p.x[3] = std::numeric_limits<float>::quiet_NaN();
  p.x[64] = 1e9f;
  std::fill_n(p.x.begin() + 128, 64, 1e-38f);
  const auto choice = choose_matmul_call(p.shape, target());
  if (!choice) return;
  const std::vector<float> y = from_bytes<float>(run_product(*device_, p, *choice));
  ASSERT_EQ(y.size(), 48u * 40);
  for (std::uint32_t n = 0; n < 40; ++n) {
    EXPECT_TRUE(std::isnan(y[n]));
    for (std::uint32_t row = 1; row < 48; ++row)
      EXPECT_TRUE(std::isfinite(y[row * 40 + n])) << row << " " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, MatmulTiersGpu,
                         ::testing::Values("matmul_coopmat2", "matmul_coopmat", "matmul_dot"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace tessera::test
