#include <cmath>
#include <limits>

#include "interface/matmul.h"
#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0};

struct Product {
  MatmulShape shape;
  std::vector<float> x, bias, up_bias;
  TestWeights w, up;
  std::uint32_t live_rows = 0;

  explicit Product(const MatmulShape& s, std::uint32_t live = 0) : shape(s), live_rows(live ? live : s.rows) {
    if (shape.y_stride == 0) shape.y_stride = shape.n;
    x = random_floats(std::size_t{s.rows} * s.k, 1 + s.k);
    for (std::size_t i = std::size_t{live_rows} * s.k; i < x.size(); ++i)
      x[i] = std::numeric_limits<float>::quiet_NaN();
    w = make_weights(s.type, s.n, s.k, 2 + s.n);
    if (s.gated) up = make_weights(s.type, s.n, s.k, 3 + s.n);
    bias = random_floats(s.first + s.n, 4);
    up_bias = random_floats(s.first + s.n, 5);
  }

  struct Dot {
    double value = 0, bound = 0;
  };
  // The bound: k products and sums, and the few operations around them, each off by half an ulp of what was
  // summed so far.
  Dot dot(const std::vector<float>& weights, const std::vector<float>& b, std::uint32_t row,
          std::uint32_t n) const {
    double value = 0, magnitude = 0;
    for (std::uint32_t i = 0; i < shape.k; ++i) {
      const double term = double(x[std::size_t{row} * shape.k + i]) * weights[std::size_t{n} * shape.k + i];
      value += term;
      magnitude += std::abs(term);
    }
    if (shape.bias) {
      value += b[shape.first + n];
      magnitude += std::abs(b[shape.first + n]);
    }
    return {value, (shape.k + 8) * 0x1p-24 * magnitude};
  }
  Dot expected(std::uint32_t row, std::uint32_t n) const {
    const Dot a = dot(w.values, bias, row, n);
    Dot y{activate(shape.act, a.value), activation_bound(shape.act, a.value, a.bound)};
    if (!shape.gated) return y;
    const Dot b = dot(up.values, up_bias, row, n);
    return {y.value * b.value, std::abs(y.value) * b.bound + std::abs(b.value) * y.bound + y.bound * b.bound +
                                   std::abs(y.value * b.value) * 0x1p-24};
  }
};

class MatmulGpu : public GpuTest {
 protected:
  std::uint32_t most_invocations_ = 1024;
  std::uint32_t group_ = 0;  // invocations of a matrix-vector workgroup instead of the chosen ones

  std::vector<float> run(Product& p, std::uint32_t slices = 1) {
    Target target = target_of(*device_);
    target.limits.max_group_invocations = std::min(target.limits.max_group_invocations, most_invocations_);
    auto dispatch = choose_matmul(p.shape, target);
    EXPECT_TRUE(dispatch) << dispatch.error().message;
    if (!dispatch) return {};
    if (group_ != 0) dispatch->spec[shader::kMatmulSpecGroup] = group_;
    Bytes x = to_bytes(p.x), bias = to_bytes(p.bias), up_bias = to_bytes(p.up_bias);
    Bytes y = poisoned(std::size_t{p.shape.rows} * p.shape.y_stride), state = state_bytes(7, p.live_rows);
    Bytes* up = p.shape.gated ? &p.up.device : &p.w.device;
    EXPECT_TRUE(
        run_dispatch(*device_, *dispatch, {&x, &p.w.device, up, &bias, &up_bias, &y, &state}, slices));
    return from_bytes<float>(y);
  }

  void check(const MatmulShape& shape, std::uint32_t live = 0, std::uint32_t slices = 1) {
    Product p(shape, live);
    const std::vector<float> y = run(p, slices);
    const std::string what = std::string(info(shape.type).name) + " rows " + std::to_string(shape.rows) +
                             " n " + std::to_string(shape.n) + " k " + std::to_string(shape.k);
    ASSERT_EQ(y.size(), std::size_t{p.shape.rows} * p.shape.y_stride) << what;
    const std::vector<std::uint32_t> words = from_bytes<std::uint32_t>(to_bytes(y));
    for (std::uint32_t row = 0; row < p.shape.rows; ++row)
      for (std::uint32_t col = 0; col < p.shape.y_stride; ++col) {
        const std::size_t i = std::size_t{row} * p.shape.y_stride + col;
        if (row >= p.live_rows || col < shape.first || col >= shape.first + shape.n) {
          ASSERT_EQ(words[i], kPoison) << what << ": y[" << row << "," << col << "] was touched";
          continue;
        }
        const Product::Dot e = p.expected(row, col - shape.first);
        ASSERT_LE(std::abs(y[i] - e.value), e.bound)
            << what << ": y[" << row << "," << col << "] is " << y[i] << ", not " << e.value;
      }
  }
};

MatmulShape shape_of(DType type, std::uint32_t rows, std::uint32_t n, std::uint32_t k) {
  MatmulShape s;
  s.type = type;
  s.rows = rows;
  s.n = n;
  s.k = k;
  return s;
}

TEST_F(MatmulGpu, AwkwardSizes) {
  for (DType type : kTypes) {
    const bool blocks = info(type).block_elems > 1;
    const std::vector<std::uint32_t> ks =
        blocks ? std::vector<std::uint32_t>{32, 96, 288} : std::vector<std::uint32_t>{1, 3, 4, 12, 61, 172};
    for (std::uint32_t k : ks)
      for (std::uint32_t rows : {1u, 2u, 7u, 65u})
        for (std::uint32_t n : {1u, 5u, 67u}) check(shape_of(type, rows, n, k));
  }
}

TEST_F(MatmulGpu, EveryTile) {
  for (std::uint32_t rows : {8u, 9u, 16u, 17u, 32u, 33u, 64u, 129u})
    check(shape_of(DType::f32, rows, 130, 40));
}

TEST_F(MatmulGpu, TilesOfSmallDevices) {
  for (std::uint32_t most : {64u, 16u, 4u})
    for (bool gated : {false, true}) {
      most_invocations_ = most;
      MatmulShape s = shape_of(DType::f16, 37, 35, 43);
      s.gated = gated;
      check(s);
    }
}

TEST_F(MatmulGpu, ManyColumnsAWorkgroup) {
  for (DType type : {DType::f32, DType::q4_0})
    for (std::uint32_t n : {515u, 2051u}) check(shape_of(type, 1, n, 64));
}

TEST_F(MatmulGpu, FewRowsInEveryType) {
  for (DType type : kTypes)
    for (std::uint32_t rows = 2; rows <= 9; ++rows) check(shape_of(type, rows, 261, 64));
}

TEST_F(MatmulGpu, EveryGroupSizeReduces) {  // one subgroup, several, and one that is not full
  for (std::uint32_t rows : {1u, 3u})
    for (std::uint32_t group : {1u, 2u, 4u, 8u, 32u, 128u}) {
      group_ = group;
      check(shape_of(DType::f32, rows, 259, 301));
    }
}

TEST_F(MatmulGpu, FewLiveRowsOfFew) {
  MatmulShape s = shape_of(DType::f16, 6, 40, 20);
  s.dynamic_rows = true;
  for (std::uint32_t live : {1u, 4u, 6u}) check(s, live);
}

TEST_F(MatmulGpu, LongRows) {
  for (DType type : kTypes) {
    check(shape_of(type, 1, 9, 4096));
    check(shape_of(type, 3, 9, 2080));
  }
}

TEST_F(MatmulGpu, BiasActivationAndGate) {
  for (std::uint32_t act = 0; act <= 5; ++act)
    for (std::uint32_t rows : {1u, 11u})
      for (bool gated : {false, true}) {
        MatmulShape s = shape_of(DType::f32, rows, 37, 30);
        s.act = act;
        s.gated = gated;
        s.bias = true;
        check(s);
      }
}

TEST_F(MatmulGpu, GatedOfEveryType) {
  for (DType type : kTypes)
    for (std::uint32_t rows : {1u, 70u}) {
      MatmulShape s = shape_of(type, rows, 70, 64);
      s.act = 1;
      s.gated = true;
      check(s);
    }
}

TEST_F(MatmulGpu, GatedColumnsAWorkgroup) {
  MatmulShape s = shape_of(DType::q8_0, 1, 1027, 32);
  s.gated = true;
  check(s);
}

TEST_F(MatmulGpu, AWindowOfColumns) {
  for (std::uint32_t rows : {1u, 20u}) {
    MatmulShape s = shape_of(DType::f16, rows, 33, 24);
    s.first = 10;
    s.y_stride = 50;
    s.bias = true;
    check(s);
  }
}

TEST_F(MatmulGpu, RowsFromTheState) {
  for (std::uint32_t live : {1u, 5u, 64u, 65u, 130u}) {
    MatmulShape s = shape_of(DType::f32, 130, 67, 36);
    s.dynamic_rows = true;
    check(s, live);
  }
}

TEST_F(MatmulGpu, SlicesAndAFoldedGrid) {
  auto small = make_device({{"max_group_count_x", 7}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  check(shape_of(DType::f32, 1, 203, 20), 0, 3);
  check(shape_of(DType::f32, 70, 600, 20), 0, 2);
}

TEST_F(MatmulGpu, NotANumberSpreads) {
  for (std::uint32_t rows : {1u, 4u}) {
    Product p(shape_of(DType::f32, rows, 70, 20));
    p.x[3] = std::numeric_limits<float>::quiet_NaN();
    if (rows > 1) p.x[20 + 3] = std::numeric_limits<float>::infinity();
    const std::vector<float> y = run(p);
    ASSERT_EQ(y.size(), std::size_t{rows} * 70);
    for (std::uint32_t n = 0; n < 70; ++n) {
      EXPECT_TRUE(std::isnan(y[n]));
      if (rows > 1) {
        EXPECT_TRUE(std::isinf(y[70 + n]));
      }
      for (std::uint32_t row = 2; row < rows; ++row) EXPECT_TRUE(std::isfinite(y[row * 70 + n]));
    }
  }
}

}  // namespace
}  // namespace tessera::test
