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

// What errors of x add to a product with w: at most, likely, and in trials.
struct Carried {
  double most = 0, likely = 0;
  trials::Shifts shifts{};
};
Carried carried(const ProductRows& x, std::uint64_t row, std::span<const float> w) {
  Carried out;
  const std::uint64_t first = row * w.size();
  if (!x.shifts.empty()) out.shifts = trials::sum(std::span(x.shifts).subspan(first, w.size()), w);
  if (x.error.empty()) return out;
  for (std::size_t i = 0; i < w.size(); ++i) out.most += x.error[first + i] * std::fabs(double{w[i]});
  out.likely = out.most;  // those of a norm go together
  if (x.likely.empty()) return out;
  double squares = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double error = x.likely[first + i] * double{w[i]};
    squares += error * error;
  }
  out.likely = std::max(std::sqrt(squares), trials::root_mean_square(out.shifts));
  out.most = std::min(out.most, bounds::kDeviations * out.likely);
  return out;
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

namespace {

// The error of an element of a product, likely and in trials where the product is an inner one.
struct SumError {
  double most = 0, likely = 0;
  trials::Shifts shifts{};
};

// Of a sum of x w of row `row`, where x is of magnitude `largest` at most.
SumError error_of(const OpCall& call, const ProductRows& x, std::uint64_t row,
                  std::span<const double> largest, std::span<const float> w, const Matrix& matrix,
                  double bias) {
  const DType type = call.value(matrix.weight).dtype;
  const double scale = call.op.attrs.scale, size = std::fabs(scale);
  const std::span<const double> most = largest.subspan(row * w.size(), w.size());
  const bounds::Products sum = magnitudes(most, x.type, w, type);
  const bool mixed = call.op.attrs.precision == Precision::mixed;
  const auto rounded = mixed ? bounds::mixed_products(most, x.type, w, type) : bounds::MixedError{};
  const Carried before = carried(x, row, w);
  const double own =
      bounds::products(sum, bias, scale) + size * (call.likely ? rounded.likely : rounded.most);
  SumError out{.most = own + size * before.most};
  if (!matrix.inner) return out;  // whose scale is 1
  const double likely = bounds::likely_products(sum, bias);
  out.likely = likely + rounded.likely + before.likely;
  out.shifts = before.shifts;
  trials::add_sum_error(out.shifts, std::span(x.value).subspan(row * w.size(), w.size()), w,
                        likely + rounded.weights, own, mixed);
  return out;
}

}  // namespace

Result<Product> multiply(const OpCall& call, const ProductRows& x, const Matrix& matrix) {
  const Value& w_value = call.value(matrix.weight);
  const std::uint64_t n = w_value.shape[w_value.shape.size() - 2], k = w_value.last_dim();
  const std::uint64_t rows = x.value.size() / k, first = matrix.index * n;
  Product y;
  const double scale = call.op.attrs.scale;
  const std::vector<double> largest = call.bounds ? largest_of(x) : std::vector<double>{};
  const bool inner = call.bounds && matrix.inner;
  y.value.resize(rows * n);
  if (call.bounds) y.error.resize(rows * n);
  if (inner) {
    y.likely.resize(rows * n);
    y.shifts.resize(rows * n);
  }
  TSR_CHECK(call.tensors.for_rows(matrix.weight, first, n, [&](std::uint64_t at, std::span<const float> w) {
    const double b = matrix.bias.empty() ? 0 : double{matrix.bias[at - first]};
    for (std::uint64_t row = 0; row < rows; ++row) {
      const std::uint64_t to = row * n + at - first;
      y.value[to] = scale * dot(std::span(x.value).subspan(row * k, k), w) + b;
      if (!call.bounds) continue;
      const SumError error = error_of(call, x, row, largest, w, matrix, b);
      y.error[to] = error.most;
      if (!inner) continue;
      y.likely[to] = error.likely;
      y.shifts[to] = error.shifts;
    }
  }));
  return y;
}

void activate(Activation act, Product& y) {
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    const double x = y.value[i];
    if (!y.shifts.empty()) y.shifts[i] = trials::activation(act, x, y.shifts[i], y.likely[i]);
    for (std::vector<double>* errors : {&y.error, &y.likely})
      if (!errors->empty()) {
        double& error = (*errors)[i];
        error = bounds::activation(act, x) + bounds::activation_shift(act, x, error);
      }
    y.value[i] = activate(act, x);
  }
}

Result<Product> first_product(const OpCall& call, const ProductRows& x, std::uint64_t matrix) {
  TSR_TRY(const std::vector<float> bias, call.vector_of(2));
  TSR_TRY(const std::vector<float> up_bias, call.vector_of(4));
  const bool inner = call.op.kind == OpKind::feed_forward;
  TSR_TRY(Product y, multiply(call, x, {call.in(1), bias, matrix, inner}));
  activate(call.op.attrs.act, y);
  if (call.in(3) == kNoValue) return y;
  TSR_TRY(const Product up, multiply(call, x, {call.in(3), up_bias, matrix, inner}));
  for (std::size_t i = 0; i < y.value.size(); ++i) {
    const double a = std::fabs(y.value[i]), b = std::fabs(up.value[i]);
    const double rounded = bounds::kUlp * a * b + bounds::kFlush * (1 + a + b);
    if (call.bounds) y.error[i] = a * up.error[i] + b * y.error[i] + y.error[i] * up.error[i] + rounded;
    if (!y.likely.empty()) {
      y.likely[i] = std::hypot(a * up.likely[i], b * y.likely[i]) + y.likely[i] * up.likely[i] + rounded;
      y.shifts[i] = trials::product(y.value[i], y.shifts[i], up.value[i], up.shifts[i]);
    }
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
    const std::span<const double> from =
        std::span(x.value).subspan(product * at.x_batch + row * at.x_row, at.k);
    out.value.insert(out.value.end(), from.begin(), from.end());
  }
  return out;
}

// A product with each matrix of w.
Result<Product> products(const OpCall& call, const ProductRows& x) {
  const MatmulLayout at = matmul_layout(call.program, call.op);
  const std::uint64_t rows = call.op.attrs.rows_first ? call.rows : at.rows;
  Product y;
  y.value.resize(at.batch * rows * at.n);
  if (call.bounds) y.error.resize(y.value.size());
  for (std::uint64_t product = 0; product < at.batch; ++product) {
    TSR_TRY(const Product one, first_product(call, rows_of_product(x, at, rows, product), product));
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
  const bool several = call.value(call.in(1)).shape.size() == 3;
  TSR_TRY(Product y, several ? products(call, x) : first_product(call, x));
  add_residual(call, 5, y);
  return give(call, y);
}

}  // namespace tessera
