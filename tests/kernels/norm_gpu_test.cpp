#include <cmath>
#include <limits>

#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

class NormGpu : public GpuTest {
 protected:
  struct Run {
    std::vector<float> y, sum;
  };
  struct Input {
    std::vector<float> x, weight, bias, residual;
  };

  static Input input_of(const NormShape& s, float offset) {
    const std::size_t elems = std::size_t{s.rows} * s.dim;
    Input in{random_floats(elems, 1), random_floats(s.dim, 2), random_floats(s.dim, 3),
             random_floats(elems, 4)};
    for (float& v : in.x) v += offset;
    return in;
  }

  Run run(const NormShape& s, const Input& in, std::uint32_t live) {
    const auto dispatch = choose_norm(s, target_of(*device_));
    EXPECT_TRUE(dispatch) << dispatch.error().message;
    if (!dispatch) return {};
    Bytes x = to_bytes(in.x), weight = to_bytes(in.weight), bias = to_bytes(in.bias);
    Bytes residual = to_bytes(in.residual), y = poisoned(in.x.size()), sum = poisoned(in.x.size());
    Bytes state = state_bytes(3, live);
    EXPECT_TRUE(run_dispatch(*device_, *dispatch, {&x, &weight, &bias, &residual, &y, &sum, &state}));
    return {from_bytes<float>(y), from_bytes<float>(sum)};
  }

  // One row in double, and how far f32 may be: each of about `dim` sums is off by half an ulp of the sum of
  // magnitudes, and a value that lost its mean keeps the rounding of the larger numbers before.
  static void expect_row(const NormShape& s, const Input& in, const Run& got, std::uint32_t row) {
    const std::size_t at = std::size_t{row} * s.dim;
    std::vector<double> v(s.dim);
    double mean = 0, largest = 0, squares = 0;
    for (std::uint32_t i = 0; i < s.dim; ++i) {
      v[i] = s.residual ? double(in.x[at + i] + in.residual[at + i]) : double(in.x[at + i]);
      mean += v[i] / s.dim;
      largest = std::max(largest, std::abs(v[i]));
    }
    if (!s.layer_norm) mean = 0;
    for (double e : v) squares += (e - mean) * (e - mean);
    const double deviation = std::sqrt(squares / s.dim + double(s.eps));
    const double slack =
        (s.dim / 64.0 + 16) * 0x1p-24;  // sums run over lanes first: at most 64th of dim in a line
    for (std::uint32_t i = 0; i < s.dim; ++i) {
      const double y = (v[i] - mean) / deviation * in.weight[i] + (s.bias ? in.bias[i] : 0);
      const double bound =
          slack * (std::abs(in.weight[i]) * (largest / deviation) * (1 + std::abs(v[i] - mean) / deviation) +
                   std::abs(y) + 1e-3);
      ASSERT_LE(std::abs(got.y[at + i] - y), bound)
          << "row " << row << " col " << i << " of dim " << s.dim << ": " << got.y[at + i] << ", not " << y;
      if (s.residual) {
        ASSERT_EQ(got.sum[at + i], static_cast<float>(v[i]));
      }
    }
  }

  void check(const NormShape& s, std::uint32_t live = 0, float offset = 0) {
    if (live == 0) live = s.rows;
    Input in = input_of(s, offset);
    for (std::size_t i = std::size_t{live} * s.dim; i < in.x.size(); ++i)
      in.x[i] = std::numeric_limits<float>::quiet_NaN();
    const Run got = run(s, in, live);
    ASSERT_EQ(got.y.size(), in.x.size());
    for (std::uint32_t row = 0; row < live; ++row) expect_row(s, in, got, row);
    const auto words = from_bytes<std::uint32_t>(to_bytes(got.y));
    for (std::size_t i = std::size_t{live} * s.dim; i < words.size(); ++i) ASSERT_EQ(words[i], kPoison);
  }
};

NormShape shape_of(std::uint32_t rows, std::uint32_t dim, bool layer) {
  NormShape s;
  s.rows = rows;
  s.dim = dim;
  s.layer_norm = layer;
  s.eps = 1e-5f;
  return s;
}

TEST_F(NormGpu, AwkwardSizes) {
  for (bool layer : {false, true})
    for (std::uint32_t dim : {1u, 2u, 3u, 5u, 31u, 64u, 67u, 172u, 257u, 1000u, 4099u})
      for (std::uint32_t rows : {1u, 3u}) check(shape_of(rows, dim, layer));
}

TEST_F(NormGpu, BiasAndResidual) {
  for (bool layer : {false, true})
    for (bool bias : {false, true})
      for (bool residual : {false, true}) {
        NormShape s = shape_of(5, 61, layer);
        s.bias = bias;
        s.residual = residual;
        check(s);
      }
}

TEST_F(NormGpu, RowsFromTheState) {
  NormShape s = shape_of(9, 70, false);
  s.dynamic_rows = true;
  for (std::uint32_t live : {1u, 4u, 9u}) check(s, live);
}

TEST_F(NormGpu, LayerNormFarFromZero) {  // one pass with E[v^2] - mean^2 would lose every digit here
  check(shape_of(2, 300, true), 0, 1000.0f);
}

TEST_F(NormGpu, SumMayBeTheResidual) {
  NormShape s = shape_of(3, 333, true);
  s.residual = true;
  Input in = input_of(s, 0);
  const auto dispatch = choose_norm(s, target_of(*device_));
  ASSERT_TRUE(dispatch);
  Bytes x = to_bytes(in.x), weight = to_bytes(in.weight), residual = to_bytes(in.residual);
  Bytes y = poisoned(in.x.size()), state = state_bytes(0, 3);
  ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&x, &weight, &weight, &residual, &y, &residual, &state}));
  const Run got{from_bytes<float>(y), from_bytes<float>(residual)};
  for (std::uint32_t row = 0; row < s.rows; ++row) expect_row(s, in, got, row);
}

TEST_F(NormGpu, NotANumberStaysInItsRow) {
  NormShape s = shape_of(3, 100, true);
  Input in = input_of(s, 0);
  in.x[50] = std::numeric_limits<float>::quiet_NaN();
  in.x[250] = std::numeric_limits<float>::infinity();
  const Run got = run(s, in, 3);
  ASSERT_EQ(got.y.size(), 300u);
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_TRUE(std::isnan(got.y[i]));
    EXPECT_TRUE(std::isfinite(got.y[100 + i]));
    EXPECT_TRUE(std::isnan(got.y[200 + i]));
  }
}

}  // namespace
}  // namespace tessera::test
