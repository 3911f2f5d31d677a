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

// Magnitudes that elements may have.
std::vector<double> largest_of(const ProductRows& x) {
  std::vector<double> out(x.value.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = std::fabs(x.value[i]) + (x.error.empty() ? 0 : x.error[i]);
  return out;
}

}  // namespace

Result<ProductRows> product_rows(const OpCall& call, std::size_t x, std::size_t norm) {
  const std::vector<float> rows = call.rows_of(x);
  ProductRows out;
  out.value.assign(rows.begin(), rows.end());
  out.type = call.value(call.in(x)).dtype;
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
  const std::vector<double> largest = call.bounds ? largest_of(x) : std::vector<double>{};
  y.value.resize(call.rows * n);
  if (call.bounds) y.error.resize(call.rows * n);
  TSR_CHECK(call.tensors.for_rows(weight, 0, n, [&](std::uint64_t column, std::span<const float> w) {
    const double b = bias.empty() ? 0 : double{bias[column]};
    for (std::uint64_t row = 0; row < call.rows; ++row) {
      const std::span<const double> x_row = std::span(x.value).subspan(row * k, k);
      y.value[row * n + column] = scale * dot(x_row, w) + b;
      if (!call.bounds) continue;
      const DType type = call.value(weight).dtype;
      const std::span<const double> most = std::span(largest).subspan(row * k, k);
      double& error = y.error[row * n + column];
      error = bounds::products(magnitudes(most, x.type, w, type), b, scale);
      if (call.op.attrs.precision == Precision::mixed)
        error += std::fabs(scale) * bounds::mixed_products(most, x.type, w, type);
      if (!x.error.empty()) error += std::fabs(scale) * carried(std::span(x.error).subspan(row * k, k), w);
    }
  }));
  return y;
}

void activate(const OpCall& call, Activation act, Product& y) {
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    if (call.bounds)
      y.error[i] =
          bounds::activation(act, y.value[i]) + bounds::activation_shift(act, y.value[i], y.error[i]);
    y.value[i] = activate(act, y.value[i]);
  }
}

Result<Product> first_product(const OpCall& call, const ProductRows& x) {
  TSR_TRY(const std::vector<float> bias, call.vector_of(2));
  TSR_TRY(const std::vector<float> up_bias, call.vector_of(4));
  TSR_TRY(Product y, multiply(call, x, call.in(1), bias));
  activate(call, call.op.attrs.act, y);
  if (call.in(3) == kNoValue) return y;
  TSR_TRY(const Product up, multiply(call, x, call.in(3), up_bias));
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    const double a = std::fabs(y.value[i]), b = std::fabs(up.value[i]);
    if (call.bounds)
      y.error[i] = a * up.error[i] + b * y.error[i] + y.error[i] * up.error[i] + bounds::kUlp * a * b +
                   bounds::kFlush * (1 + a + b);
    y.value[i] *= up.value[i];
  }
  return y;
}

void add_residual(const OpCall& call, std::size_t residual, Product& y) {
  if (call.in(residual) == kNoValue) return;
  const std::vector<float> added = call.rows_of(residual);
  const double flushed = bounds::flush_below(call.value(call.in(residual)).dtype);
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    y.value[i] += added[i];
    if (call.bounds) y.error[i] += bounds::kUlp * std::fabs(y.value[i]) + flushed;
  }
}

Outputs give(const OpCall& call, const Product& y) {
  ReferenceOutput out{.value = call.out(0)};
  for (std::size_t i = 0; i < y.value.size(); ++i) put(call, out, y.value[i], call.bounds ? y.error[i] : 0);
  return Outputs{std::move(out)};
}

Result<Outputs> run_matmul(const OpCall& call) {
  TSR_TRY(const ProductRows x, product_rows(call, 0, 6));
  TSR_TRY(Product y, first_product(call, x));
  add_residual(call, 5, y);
  return give(call, y);
}

}  // namespace tessera
