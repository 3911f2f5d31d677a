// y = act(scale x w^T + bias) [* (scale x up^T + up_bias)] [+ residual]
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

double dot(std::span<const double> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * double{b[i]};
  return sum;
}

bounds::Products magnitudes(std::span<const double> x, DType x_type, std::span<const float> w, DType w_type) {
  bounds::Products sum{.n = x.size(), .relative = bounds::decoding(w_type)};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double term = std::fabs(x[i] * double{w[i]});
    sum.magnitude += term;
    sum.operands += std::fabs(x[i]) + std::fabs(double{w[i]});
    if (std::fabs(w[i]) < bounds::flush_below(w_type) || std::fabs(x[i]) < bounds::flush_below(x_type))
      sum.flushed += term;
  }
  return sum;
}

// What errors of x add to a product with w.
double carried(std::span<const double> errors, std::span<const float> w) {
  double sum = 0;
  for (std::size_t i = 0; i < errors.size(); ++i) sum += errors[i] * std::fabs(double{w[i]});
  return sum;
}

}  // namespace

Result<ProductRows> product_rows(const OpCall& call, std::size_t x, std::size_t norm) {
  const std::vector<float> rows = call.rows_of(x);
  ProductRows out;
  out.value.assign(rows.begin(), rows.end());
  if (call.in(norm) == kNoValue) return out;
  TSR_TRY(const std::vector<float> weight, call.vector_of(norm));
  const std::uint64_t k = weight.size();
  if (call.bounds) out.error.resize(out.value.size());
  for (std::uint64_t row = 0; row < call.rows; ++row) {
    const std::span<double> values = std::span(out.value).subspan(row * k, k);
    const Normed normed = normalise(values, false, false, call.op.attrs.eps);
    for (std::uint64_t i = 0; i < k; ++i) {
      const double w = weight[i];
      values[i] = normed.value[i] * w;
      // The factor may multiply x w, or the product: a flush of x w comes before it.
      if (call.bounds)
        out.error[row * k + i] = normed.error[i] * std::fabs(w) + 2 * bounds::kUlp * std::fabs(values[i]) +
                                 bounds::kFlush * (1 + std::fabs(w)) * (1 + normed.inverse);
    }
  }
  return out;
}

Result<Product> multiply(const OpCall& call, const ProductRows& x, ValueId weight,
                         std::span<const float> bias) {
  const std::uint64_t n = call.value(weight).shape[0], k = call.value(weight).last_dim();
  Product y;
  const double scale = call.op.attrs.scale;
  const DType x_type = call.value(call.in(0)).dtype;
  y.value.resize(call.rows * n);
  if (call.bounds) y.error.resize(call.rows * n);
  TSR_CHECK(call.tensors.for_rows(weight, 0, n, [&](std::uint64_t column, std::span<const float> w) {
    const double b = bias.empty() ? 0 : double{bias[column]};
    for (std::uint64_t row = 0; row < call.rows; ++row) {
      const std::span<const double> x_row = std::span(x.value).subspan(row * k, k);
      y.value[row * n + column] = scale * dot(x_row, w) + b;
      if (!call.bounds) continue;
      const DType type = call.value(weight).dtype;
      double& error = y.error[row * n + column];
      error = bounds::products(magnitudes(x_row, x_type, w, type), b, scale);
      if (call.op.attrs.precision == Precision::mixed)
        error += std::fabs(scale) * bounds::mixed_products(x_row, w, type);
      if (!x.error.empty()) error += std::fabs(scale) * carried(std::span(x.error).subspan(row * k, k), w);
    }
  }));
  return y;
}

Result<Outputs> run_matmul(const OpCall& call) {
  const Activation act = call.op.attrs.act;
  TSR_TRY(const ProductRows x, product_rows(call, 0, 6));
  TSR_TRY(const std::vector<float> bias, call.vector_of(2));
  TSR_TRY(const std::vector<float> up_bias, call.vector_of(4));
  const std::vector<float> residual = call.in(5) != kNoValue ? call.rows_of(5) : std::vector<float>{};
  TSR_TRY(const Product gate, multiply(call, x, call.in(1), bias));
  Product up;
  const bool gated = call.in(3) != kNoValue;
  if (gated) {
    TSR_TRY(up, multiply(call, x, call.in(3), up_bias));
  }

  ReferenceOutput y{.value = call.out(0)};
  for (std::size_t i = 0; i < gate.value.size(); ++i) {
    double value = activate(act, gate.value[i]);
    double error = 0;
    if (call.bounds)
      error = bounds::activation(act, gate.value[i]) +
              bounds::activation_shift(act, gate.value[i], gate.error[i]);
    if (gated) {
      if (call.bounds)
        error = std::fabs(value) * up.error[i] + std::fabs(up.value[i]) * error + error * up.error[i] +
                bounds::kUlp * std::fabs(value * up.value[i]) +
                bounds::kFlush * (1 + std::fabs(value) + std::fabs(up.value[i]));
      value *= up.value[i];
    }
    if (!residual.empty()) {
      value += residual[i];
      error += bounds::kUlp * std::fabs(value) + bounds::flush_below(call.value(call.in(5)).dtype);
    }
    put(call, y, value, error);
  }
  return Outputs{std::move(y)};
}

}  // namespace tessera
