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

// What errors of x add to a product with w at most, and likely.
struct Carried {
  double most = 0, likely = 0;
};
Carried carried(const ProductRows& x, std::uint64_t row, std::span<const float> w) {
  Carried out;
  if (x.error.empty()) return out;
  for (std::size_t i = 0; i < w.size(); ++i)
    out.most += x.error[row * w.size() + i] * std::fabs(double{w[i]});
  out.likely = out.most;  // those of a norm go together
  if (x.likely.empty()) return out;
  double squares = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double error = x.likely[row * w.size() + i] * double{w[i]};
    squares += error * error;
  }
  out.likely = std::sqrt(squares);
  out.most = std::min(out.most, bounds::kDeviations * out.likely);
  return out;
}

// Whether another product takes this op's first one.
bool chained(const OpCall& call) {
  return call.op.kind == OpKind::feed_forward || call.op.kind == OpKind::mlp;
}

// The bias of a matrix, out of operand `i`.
std::span<const float> bias_of(const OpCall& call, std::size_t i, std::span<const float> all,
                               std::uint64_t matrix) {
  if (all.empty() || call.value(call.in(i)).shape.size() == 1) return all;
  const std::uint64_t n = call.value(call.in(i)).last_dim();
  return all.subspan(matrix * n, n);
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
                         std::span<const float> bias, std::uint64_t matrix) {
  const Value& w_value = call.value(weight);
  const std::uint64_t n = w_value.shape[w_value.shape.size() - 2], k = w_value.last_dim();
  const std::uint64_t rows = x.value.size() / k, first = matrix * n;
  Product y;
  const double scale = call.op.attrs.scale;
  const std::vector<double> largest = call.bounds ? largest_of(x) : std::vector<double>{};
  y.value.resize(rows * n);
  if (call.bounds) y.error.resize(rows * n);
  if (call.bounds && chained(call)) y.likely.resize(rows * n);
  TSR_CHECK(call.tensors.for_rows(weight, first, n, [&](std::uint64_t at, std::span<const float> w) {
    const std::uint64_t column = at - first;
    const double b = bias.empty() ? 0 : double{bias[column]};
    for (std::uint64_t row = 0; row < rows; ++row) {
      const std::span<const double> x_row = std::span(x.value).subspan(row * k, k);
      y.value[row * n + column] = scale * dot(x_row, w) + b;
      if (!call.bounds) continue;
      const DType type = w_value.dtype;
      const std::span<const double> most = std::span(largest).subspan(row * k, k);
      const bounds::Products sum = magnitudes(most, x.type, w, type);
      const bool mixed = call.op.attrs.precision == Precision::mixed;
      const double size = std::fabs(scale);
      const Carried before = carried(x, row, w);
      const double likely = mixed && (call.likely || !y.likely.empty())
                                ? bounds::likely_mixed_products(most, x.type, w, type)
                                : 0;
      const double rounded = !mixed        ? 0
                             : call.likely ? likely
                                           : bounds::mixed_products(most, x.type, w, type);
      y.error[row * n + column] = bounds::products(sum, b, scale) + size * (rounded + before.most);
      if (!y.likely.empty())
        y.likely[row * n + column] = bounds::likely_products(sum, b, scale) + size * (likely + before.likely);
    }
  }));
  return y;
}

void activate(Activation act, Product& y) {
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    for (std::vector<double>* errors : {&y.error, &y.likely})
      if (!errors->empty()) {
        double& error = (*errors)[i];
        error = bounds::activation(act, y.value[i]) + bounds::activation_shift(act, y.value[i], error);
      }
    y.value[i] = activate(act, y.value[i]);
  }
}

Result<Product> first_product(const OpCall& call, const ProductRows& x, std::uint64_t matrix) {
  TSR_TRY(const std::vector<float> bias, call.vector_of(2));
  TSR_TRY(const std::vector<float> up_bias, call.vector_of(4));
  TSR_TRY(Product y, multiply(call, x, call.in(1), bias_of(call, 2, bias, matrix), matrix));
  activate(call.op.attrs.act, y);
  if (call.in(3) == kNoValue) return y;
  TSR_TRY(const Product up, multiply(call, x, call.in(3), bias_of(call, 4, up_bias, matrix), matrix));
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    const double a = std::fabs(y.value[i]), b = std::fabs(up.value[i]);
    if (call.bounds)
      y.error[i] = a * up.error[i] + b * y.error[i] + y.error[i] * up.error[i] + bounds::kUlp * a * b +
                   bounds::kFlush * (1 + a + b);
    if (!y.likely.empty())
      y.likely[i] = std::hypot(a * up.likely[i], b * y.likely[i]) + y.likely[i] * up.likely[i] +
                    bounds::kUlp * a * b + bounds::kFlush * (1 + a + b);
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

namespace {

// Rows of one product of a batch, out of those of all.
ProductRows rows_of_product(const ProductRows& x, const MatmulLayout& at, std::uint64_t rows,
                            std::uint64_t product) {
  ProductRows out{.value = {}, .type = x.type};
  for (std::uint64_t row = 0; row < rows; ++row) {
    const std::span<const double> from = std::span(x.value).subspan(at.x_at(product) + row * at.x_row, at.k);
    out.value.insert(out.value.end(), from.begin(), from.end());
  }
  return out;
}

// Products with the matrices of w.
Result<Product> products(const OpCall& call, const ProductRows& x) {
  const MatmulLayout at = matmul_layout(call.program, call.op);
  const std::uint64_t rows = call.op.attrs.rows_first ? call.rows : at.rows;
  Product y;
  y.value.resize(at.batch * rows * at.n);
  if (call.bounds) y.error.resize(y.value.size());
  for (std::uint64_t product = 0; product < at.batch; ++product) {
    const std::uint64_t matrix = at.w_at(product) / at.n;
    TSR_TRY(const Product one, first_product(call, rows_of_product(x, at, rows, product), matrix));
    for (std::uint64_t i = 0; i < one.value.size(); ++i) {
      const std::uint64_t to = product * at.y_batch + i / at.n * at.y_row + i % at.n;
      y.value[to] = one.value[i];
      if (call.bounds) y.error[to] = one.error[i];
    }
  }
  return y;
}

}  // namespace

Result<Outputs> run_matmul(const OpCall& call) {
  TSR_TRY(const ProductRows x, product_rows(call, 0, 6));
  const bool several = call.value(call.in(1)).shape.size() > 2;
  TSR_TRY(Product y, several ? products(call, x) : first_product(call, x));
  add_residual(call, 5, y);
  return give(call, y);
}

}  // namespace tessera
