// y = act(scale x w^T + bias) [* (scale x up^T + up_bias)] [+ residual]
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

// scale x w^T + b, rows by columns, and the error of each.
struct Product {
  std::vector<double> value;
  std::vector<double> error;  // with bounds
};

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

bounds::Products magnitudes(std::span<const float> x, DType x_type, std::span<const float> w, DType w_type) {
  bounds::Products sum{.n = x.size()};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double term = std::fabs(double{x[i]} * double{w[i]});
    sum.magnitude += term;
    sum.operands += std::fabs(double{x[i]}) + std::fabs(double{w[i]});
    if (std::fabs(w[i]) < bounds::flush_below(w_type) || std::fabs(x[i]) < bounds::flush_below(x_type))
      sum.flushed += term;
  }
  return sum;
}

Result<Product> multiply(const OpCall& call, std::span<const float> x, ValueId weight,
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
      const std::span<const float> x_row = x.subspan(row * k, k);
      y.value[row * n + column] = scale * dot(x_row, w) + b;
      if (call.bounds)
        y.error[row * n + column] =
            bounds::products(magnitudes(x_row, x_type, w, call.value(weight).dtype), b, scale);
    }
  }));
  return y;
}

}  // namespace

Result<Outputs> run_matmul(const OpCall& call) {
  const Activation act = call.op.attrs.act;
  const std::vector<float> x = call.rows_of(0);
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
