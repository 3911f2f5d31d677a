// Products one after the other, where the second one's operands are off by what the first one's error is.
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

// (rows, columns) and, with bounds, how far off each element may be on a device.
struct Matrix {
  std::uint64_t columns = 0;
  std::vector<double> value;
  std::vector<double> error;
};

Matrix rows_of_input(const OpCall& call) {
  const std::vector<float> x = call.rows_of(0);
  Matrix out{call.value(call.in(0)).last_dim(), {x.begin(), x.end()}, {}};
  if (call.bounds) out.error.resize(x.size());
  return out;
}

// How far a device's a b^T + bias may be off.
double error_of(const Matrix& a, std::uint64_t row, DType a_type, std::span<const float> b, DType b_type,
                double bias) {
  bounds::Products sum{.n = b.size()};
  double moved = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double error = a.error[row * b.size() + i], size = std::fabs(double{b[i]});
    const double largest = std::fabs(a.value[row * b.size() + i]) + error;
    sum.magnitude += largest * size;
    sum.operands += largest + size;
    moved += error * size;
    if (size < bounds::flush_below(b_type) || largest < bounds::flush_below(a_type))
      sum.flushed += largest * size;
  }
  return bounds::products_of_inexact(sum, moved, bias);
}

// a w^T + bias; `a` holds elements of a_type.
Result<Matrix> multiply(const OpCall& call, const Matrix& a, DType a_type, ValueId weight,
                        std::size_t bias_at) {
  const std::uint64_t n = call.value(weight).shape[0], k = a.columns;
  TSR_TRY(const std::vector<float> bias, call.vector_of(bias_at));
  Matrix y{n, std::vector<double>(call.rows * n), {}};
  if (call.bounds) y.error.resize(call.rows * n);
  TSR_CHECK(call.tensors.for_rows(weight, 0, n, [&](std::uint64_t column, std::span<const float> w) {
    const double b = bias.empty() ? 0 : double{bias[column]};
    for (std::uint64_t row = 0; row < call.rows; ++row) {
      double sum = 0;
      for (std::uint64_t i = 0; i < k; ++i) sum += a.value[row * k + i] * double{w[i]};
      y.value[row * n + column] = sum + b;
      if (call.bounds) y.error[row * n + column] = error_of(a, row, a_type, w, call.value(weight).dtype, b);
    }
  }));
  return y;
}

void apply(Activation act, Matrix& m) {
  for (std::size_t i = 0; i < m.value.size(); ++i) {
    if (!m.error.empty())
      m.error[i] =
          bounds::activation(act, m.value[i]) + bounds::activation_shift(act, m.value[i], m.error[i]);
    m.value[i] = activate(act, m.value[i]);
  }
}

// a *= b.
void gate(Matrix& a, const Matrix& b) {
  for (std::size_t i = 0; i < a.value.size(); ++i) {
    if (!a.error.empty())
      a.error[i] = std::fabs(a.value[i]) * b.error[i] + std::fabs(b.value[i]) * a.error[i] +
                   a.error[i] * b.error[i] + bounds::kUlp * std::fabs(a.value[i] * b.value[i]) +
                   bounds::kFlush * (1 + std::fabs(a.value[i]) + std::fabs(b.value[i]));
    a.value[i] *= b.value[i];
  }
}

Outputs give(const OpCall& call, const Matrix& y) {
  ReferenceOutput out{.value = call.out(0)};
  for (std::size_t i = 0; i < y.value.size(); ++i)
    put(call, out, y.value[i], y.error.empty() ? 0 : y.error[i]);
  return Outputs{std::move(out)};
}

}  // namespace

Result<Outputs> run_feed_forward(const OpCall& call) {
  const Matrix x = rows_of_input(call);
  const DType x_type = call.value(call.in(0)).dtype;
  TSR_TRY(Matrix hidden, multiply(call, x, x_type, call.in(1), 2));
  apply(call.op.attrs.act, hidden);
  if (call.in(3) != kNoValue) {
    TSR_TRY(const Matrix up, multiply(call, x, x_type, call.in(3), 4));
    gate(hidden, up);
  }
  TSR_TRY(Matrix y, multiply(call, hidden, DType::f32, call.in(5), 6));
  if (call.in(7) != kNoValue) {
    const std::vector<float> residual = call.rows_of(7);
    for (std::size_t i = 0; i < y.value.size(); ++i) {
      y.value[i] += residual[i];
      if (call.bounds)
        y.error[i] +=
            bounds::kUlp * std::fabs(y.value[i]) + bounds::flush_below(call.value(call.in(7)).dtype);
    }
  }
  return give(call, y);
}

Result<Outputs> run_mlp(const OpCall& call) {
  Matrix h = rows_of_input(call);
  DType type = call.value(call.in(0)).dtype;
  for (std::size_t layer = 0; layer < call.op.attrs.acts.size(); ++layer) {
    TSR_TRY(h, multiply(call, h, type, call.in(1 + 2 * layer), 2 + 2 * layer));
    apply(call.op.attrs.acts[layer], h);
    type = DType::f32;
  }
  return give(call, h);
}

}  // namespace tessera
