// embedding, add, activation, glu, last_row, advance.
#include <cmath>
#include <numbers>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

// A copy is exact, but a device may flush what is below the normal range.
double copied(double x, DType type = DType::f32) {
  return std::fabs(x) < bounds::flush_below(type) ? std::fabs(x) : 0;
}

}  // namespace

Result<std::vector<float>> OpCall::vector_of(std::size_t i) const {
  if (in(i) == kNoValue) return std::vector<float>{};
  return tensors.vector(in(i));
}

void put(const OpCall& call, ReferenceOutput& out, double expected, double error) {
  out.expected.push_back(expected);
  if (call.bounds) out.bound.push_back(bounds::stored(call.value(out.value).dtype, expected, error));
}

double activate(Activation act, double x) {
  switch (act) {
    case Activation::none: return x;
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 * std::numbers::inv_pi) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::relu2: return x < 0 ? 0 : x * x;
  }
  return x;
}

Result<Outputs> run_embedding(const OpCall& call) {
  const ValueId tokens = call.in(0), table = call.in(2);
  const std::uint64_t vocab = call.value(table).shape[0];
  if (call.state.position + call.rows > call.value(tokens).elems())
    return call.error(Code::invalid_argument, "position " + std::to_string(call.state.position) + " and " +
                                                  std::to_string(call.rows) + " rows exceed the " +
                                                  std::to_string(call.value(tokens).elems()) + " tokens");
  ReferenceOutput x{.value = call.out(0)};
  for (std::uint64_t i = 0; i < call.rows; ++i) {
    const std::uint32_t id = call.tensors.word(tokens, call.state.position + i);
    if (id >= vocab)
      return call.error(Code::invalid_argument, "token " + std::to_string(id) + " at position " +
                                                    std::to_string(call.state.position + i) +
                                                    " is outside the vocabulary of " + std::to_string(vocab));
    TSR_CHECK(call.tensors.for_rows(table, id, 1, [&](std::uint64_t, std::span<const float> row) {
      for (float e : row) put(call, x, e, copied(e, call.value(table).dtype));
    }));
  }
  return Outputs{std::move(x)};
}

void put_sum(const OpCall& call, ReferenceOutput& y, double a, double b) {
  put(call, y, a + b, std::fabs(a + b) * bounds::kUlp + 2 * bounds::kFlush);
}

Result<Outputs> run_add(const OpCall& call) {
  const std::vector<float> a = call.rows_of(0), b = call.rows_of(1);
  ReferenceOutput y{.value = call.out(0)};
  for (std::size_t i = 0; i < a.size(); ++i) put_sum(call, y, a[i], b[i]);
  return Outputs{std::move(y)};
}

Result<Outputs> run_activation(const OpCall& call) {
  const Activation act = call.op.attrs.act;
  ReferenceOutput y{.value = call.out(0)};
  for (float x : call.rows_of(0)) put(call, y, activate(act, x), bounds::activation(act, x) + copied(x));
  return Outputs{std::move(y)};
}

Result<Outputs> run_glu(const OpCall& call) {
  const Activation act = call.op.attrs.act;
  const std::vector<float> gate = call.rows_of(0), up = call.rows_of(1);
  ReferenceOutput y{.value = call.out(0)};
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double product = activate(act, gate[i]) * up[i];
    put(call, y, product,
        (bounds::activation(act, gate[i]) + copied(gate[i]) + bounds::kFlush) * std::fabs(up[i]) +
            std::fabs(product) * bounds::kUlp + bounds::kFlush * (1 + std::fabs(gate[i])));
  }
  return Outputs{std::move(y)};
}

Result<Outputs> run_last_row(const OpCall& call) {
  const std::uint64_t d = call.value(call.in(0)).last_dim();
  if (call.state.rows == 0 || call.state.rows > call.value(call.in(0)).shape[0])
    return call.error(Code::invalid_argument, "there is no last row of " + std::to_string(call.state.rows));
  ReferenceOutput y{.value = call.out(0)};
  const std::vector<float> x = call.tensors.floats(call.in(0), (call.state.rows - 1) * d, d);
  if (call.in(2) == kNoValue) {
    for (float value : x) put(call, y, value, copied(value));
    return Outputs{std::move(y)};
  }
  const std::vector<float> residual = call.tensors.floats(call.in(2), (call.state.rows - 1) * d, d);
  for (std::size_t i = 0; i < x.size(); ++i) put_sum(call, y, x[i], residual[i]);
  return Outputs{std::move(y)};
}

Result<Outputs> run_advance(const OpCall& call) {
  ReferenceOutput state{.value = call.out(0)};
  put(call, state, static_cast<double>(call.state.position + call.state.rows), 0);
  put(call, state, 0, 0);
  return Outputs{std::move(state)};
}

}  // namespace tessera
