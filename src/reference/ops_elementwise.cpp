// embedding, add, activation, glu, last_row, advance.
#include <algorithm>
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
    case Activation::sigmoid: return 1 / (1 + std::exp(-x));
  }
  return x;
}

namespace {

// Where row i of an embedding finds its token, and the position it is at.
struct EmbeddingRow {
  std::uint64_t token, position;
};

EmbeddingRow embedding_row(const OpCall& call, std::uint64_t i) {
  const std::uint64_t position = call.state.position;
  return call.op.attrs.batch ? EmbeddingRow{i, position} : EmbeddingRow{position + i, position + i};
}

Result<void> embedding_fits(const OpCall& call) {
  const auto most = [&](ValueId id) { return call.value(id).shape[0]; };
  if (call.rows == 0) return {};
  const EmbeddingRow last = embedding_row(call, call.rows - 1);
  const bool positions = call.in(3) != kNoValue;
  if (last.token < most(call.in(0)) && (!positions || last.position < most(call.in(3)))) return {};
  return call.error(Code::invalid_argument,
                    "position " + std::to_string(call.state.position) + " and " + std::to_string(call.rows) +
                        " rows exceed the " + std::to_string(most(call.in(0))) + " tokens" +
                        (positions ? " or the " + std::to_string(most(call.in(3))) + " positions" : ""));
}

}  // namespace

Result<Outputs> run_embedding(const OpCall& call) {
  const ValueId tokens = call.in(0), table = call.in(2), positions = call.in(3);
  const std::uint64_t vocab = call.value(table).shape[0], dim = call.value(table).last_dim();
  const double scale = call.op.attrs.embedding_scale;
  TSR_CHECK(embedding_fits(call));
  ReferenceOutput x{.value = call.out(0)};
  for (std::uint64_t i = 0; i < call.rows; ++i) {
    const EmbeddingRow at = embedding_row(call, i);
    const std::uint32_t id = call.tensors.word(tokens, at.token);
    if (id >= vocab)
      return call.error(Code::invalid_argument, "token " + std::to_string(id) + " at position " +
                                                    std::to_string(at.position) +
                                                    " is outside the vocabulary of " + std::to_string(vocab));
    std::vector<float> added(dim, 0);
    if (positions != kNoValue)
      TSR_CHECK(call.tensors.for_rows(
          positions, at.position, 1,
          [&](std::uint64_t, std::span<const float> row) { added.assign(row.begin(), row.end()); }));
    TSR_CHECK(call.tensors.for_rows(table, id, 1, [&](std::uint64_t, std::span<const float> row) {
      for (std::size_t j = 0; j < row.size(); ++j) {
        const double product = scale * row[j], value = product + added[j];
        const DType type = call.value(table).dtype;
        double error = std::fabs(scale) * (copied(row[j], type) + bounds::decoding(type) * std::fabs(row[j]));
        if (scale != 1) error += bounds::kUlp * std::fabs(product) + bounds::kFlush;
        if (positions != kNoValue) error += bounds::kUlp * std::fabs(value) + 2 * bounds::kFlush;
        put(call, x, value, error);
      }
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
  const std::uint32_t next = std::min(call.state.remaining, call.op.attrs.chunk);
  state.elements = {0, 1, 4};
  for (const std::uint32_t word : {call.state.position + call.state.rows, next, call.state.remaining - next})
    put(call, state, word, 0);
  return Outputs{std::move(state)};
}

}  // namespace tessera
