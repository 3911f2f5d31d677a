// One matrix product with its numbers, its expected values in double, and how far a kernel may be off.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/choose.h"
#include "kernels/data.h"
#include "reference/bounds.h"
#include "support/run_dispatch.h"

namespace tessera::test {

// The parts of the epilogue, types and rows that `any()` draws, in this order.
template <typename Any>
void take_parts(MatmulShape& s, Any any) {
  s.gated = any();
  s.bias = any();
  s.residual = any();
  s.scale = any() ? -0.75f : 1;
  s.x_type = any() ? DType::f16 : DType::f32;
  s.y_type = any() ? DType::f16 : DType::f32;
  s.dynamic_rows = any();
}

// 0: alone and dense; 1: a window of columns; 2 and 3: so many products, of one w or of w each, with gaps
// that are multiples of 8 or odd.
inline void put_in_place(MatmulShape& s, std::size_t place) {
  if (place == 0) return;
  const std::uint32_t gap = place == 3 ? 3 : 8;
  s.first = place == 1 ? 10 : 0;
  s.y_stride = s.first + s.n + gap;
  s.x_stride = s.k + gap;
  if (place == 1) return;
  s.batch = static_cast<std::uint32_t>(place);
  s.x_batch = s.rows * s.x_stride + gap;
  s.y_batch = s.rows * s.y_stride + 1;
  s.w_batch = place == 2 ? 0 : s.n + 1;
}

// Two groups of three products, whose matrices of x and of w are those of all, one for all, or change within
// or between groups by the bits of `which`. With a bias each, and gaps.
inline void put_in_groups(MatmulShape& s, std::uint32_t which) {
  const std::uint32_t gap = which % 5 == 0 ? 3 : 8;
  s.x_stride = s.k + gap;
  s.y_stride = s.n + 1;
  s.batch = 6;
  s.inner = 3;
  const std::uint32_t x = s.rows * s.x_stride + gap, w = s.n + 1;
  s.x_batch = (which & 1) != 0 ? x : 0;
  s.x_outer = (which & 2) != 0 ? (s.x_batch != 0 ? 3 * x : x) : 0;
  s.w_batch = (which & 4) != 0 ? w : 0;
  s.w_outer = (which & 8) != 0 ? (s.w_batch != 0 ? 3 * w : w) : 0;
  s.y_batch = s.rows * s.y_stride + 2;
  s.bias = true;
  s.biases = which % 3 != 0;
}

class Product {
 public:
  MatmulShape shape;
  std::vector<float> x, bias, up_bias, residual, norm;  // x and residual as laid out, gaps are NaN
  TestWeights w, up;
  std::uint32_t live_rows = 0;

  explicit Product(const MatmulShape& s, std::uint32_t live = 0) : shape(s), live_rows(live ? live : s.rows) {
    if (shape.y_stride == 0) shape.y_stride = shape.n;
    if (shape.x_stride == 0) shape.x_stride = shape.k;
    make_x();
    const auto matrix_rows = static_cast<std::uint32_t>(w_from(shape.batch - 1) + s.n);
    w = make_weights(s.type, matrix_rows, s.k, 2 + s.n);
    if (s.gated) up = make_weights(s.type, matrix_rows, s.k, 3 + s.n);
    bias = random_floats(s.biases ? matrix_rows : s.first + s.n, 4);
    up_bias = random_floats(bias.size(), 5);
    residual = rounded(shape.y_type, random_floats(y_elems(), 6));
    norm = random_floats(s.k, 7, 2);
  }

  std::size_t y_elems() const {
    return std::size_t{shape.batch - 1} * shape.y_batch + std::size_t{shape.rows} * shape.y_stride;
  }
  std::string what() const {
    return std::string(info(shape.type).name) + " rows " + std::to_string(shape.rows) + " n " +
           std::to_string(shape.n) + " k " + std::to_string(shape.k) + " act " + std::to_string(shape.act) +
           (shape.gated ? " gated" : "") + (shape.bias ? " bias" : "") + (shape.residual ? " residual" : "") +
           (shape.scale != 1 ? " scale" : "") + (shape.x_type == DType::f16 ? " f16 x" : "") +
           (shape.y_type == DType::f16 ? " f16 y" : "") + (shape.batch > 1 ? " batch" : "") +
           (shape.inner != 0 ? " groups" : "") + (shape.biases ? " biases" : "") +
           (shape.norm ? " norm" : "") + (shape.precision == Precision::mixed ? " mixed" : "");
  }

  struct Value {
    double value = 0, bound = 0;
  };
  Value expected(std::uint32_t b, std::uint32_t row, std::uint32_t n) const {
    const Value gate = dot(w.values, bias, b, row, n);
    Value y{activate(shape.act, gate.value), activation_bound(shape.act, gate.value, gate.bound)};
    if (shape.gated) {
      const Value other = dot(up.values, up_bias, b, row, n);
      y = {y.value * other.value, std::abs(y.value) * other.bound + std::abs(other.value) * y.bound +
                                      y.bound * other.bound + std::abs(y.value * other.value) * 0x1p-24};
    }
    if (shape.residual) {
      y.value += residual[y_at(b, row, n)];
      y.bound += 0x1p-24 * std::abs(y.value);
    }
    if (shape.y_type == DType::f16) y.bound += std::max(0x1p-11 * (std::abs(y.value) + y.bound), 0x1p-25);
    return y;
  }
  // Of x w alone, without a batch.
  struct Sum {
    double value = 0, magnitude = 0;
  };
  Sum sum(std::uint32_t row, std::uint32_t n) const {
    Sum out;
    for (std::uint32_t i = 0; i < shape.k; ++i) {
      const double term = double(x[x_at(0, row) + i]) * w.values[std::size_t{n} * shape.k + i];
      out.value += term;
      out.magnitude += std::abs(term);
    }
    return out;
  }
  std::size_t y_at(std::uint32_t b, std::uint32_t row, std::uint32_t n) const {
    return std::size_t{b} * shape.y_batch + std::size_t{row} * shape.y_stride + shape.first + n;
  }

 private:
  void make_x() {
    const std::size_t count = x_at(shape.batch - 1, shape.rows - 1) + shape.k;
    const std::vector<float> values = rounded(shape.x_type, random_floats(count, 1 + shape.k));
    x.assign(count, std::numeric_limits<float>::quiet_NaN());
    for (std::uint32_t b = 0; b < shape.batch; ++b)
      for (std::uint32_t row = 0; row < live_rows; ++row)
        for (std::uint32_t i = 0; i < shape.k; ++i) x[x_at(b, row) + i] = values[x_at(b, row) + i];
  }
  std::size_t x_at(std::uint32_t b, std::uint32_t row) const {
    const std::size_t inner = shape.inner != 0 ? shape.inner : shape.batch;
    return b / inner * shape.x_outer + b % inner * shape.x_batch + std::size_t{row} * shape.x_stride;
  }
  // The first row of a product's w.
  std::size_t w_from(std::uint32_t b) const {
    const std::size_t inner = shape.inner != 0 ? shape.inner : shape.batch;
    return b / inner * shape.w_outer + b % inner * shape.w_batch;
  }

  // k products and sums, and the few operations around them, each off by half an ulp of what was summed so
  // far.
  Value dot(const std::vector<float>& weights, const std::vector<float>& b, std::uint32_t in_batch,
            std::uint32_t row, std::uint32_t n) const {
    const std::size_t at = x_at(in_batch, row);
    const std::size_t w_row = w_from(in_batch) + n, from = w_row * shape.k;
    double value = 0, magnitude = 0;
    const double factor = shape.norm ? norm_factor(at) : 1;
    std::vector<double> multiplied(shape.k);
    for (std::uint32_t i = 0; i < shape.k; ++i) {
      multiplied[i] = (shape.norm ? factor * norm[i] : 1) * double(x[at + i]);
      const double term = multiplied[i] * weights[from + i];
      value += term;
      magnitude += std::abs(term);
    }
    value *= shape.scale;
    magnitude *= std::abs(shape.scale);
    if (shape.bias) {
      const float added = b[shape.biases ? w_row : shape.first + n];
      value += added;
      magnitude += std::abs(added);
    }
    // A norm's mean of squares is off by k roundings, its root by half of that, and ten operations follow.
    const double steps = shape.norm ? 1.5 * shape.k + 28 : shape.k + 8;
    double bound = steps * 0x1p-24 * magnitude;
    if (shape.precision == Precision::mixed)
      bound += std::abs(shape.scale) *
               bounds::mixed_products(multiplied, shape.x_type, {&weights[from], shape.k}, shape.type);
    return {value, bound};
  }
  double norm_factor(std::size_t at) const {
    double squares = 0;
    for (std::uint32_t i = 0; i < shape.k; ++i) squares += double(x[at + i]) * x[at + i];
    return 1 / std::sqrt(squares / shape.k + shape.eps);
  }
};

}  // namespace tessera::test
