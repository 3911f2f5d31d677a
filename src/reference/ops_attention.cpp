// rope, kv_append, rope_append.
#include <algorithm>
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

struct Exact {
  double value;
  double error;
};

// One head turned by its position's angles. `table`: (rope_dims/2, 2), cos and sin.
std::vector<Exact> rotate(std::span<const float> x, std::span<const float> table, const OpAttrs& attrs) {
  std::vector<Exact> out;
  for (float e : x) out.push_back({e, std::fabs(e) < bounds::kFlush ? std::fabs(e) : 0});
  const std::size_t half = attrs.rope_dims / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const std::size_t first = attrs.rope_adjacent ? 2 * i : i;
    const std::size_t second = attrs.rope_adjacent ? 2 * i + 1 : i + half;
    const double a = x[first], b = x[second], c = table[2 * i], s = table[2 * i + 1];
    const double flush = bounds::kFlush * (3 + std::fabs(a) + std::fabs(b));
    const auto error = [&](double p, double q) {
      return bounds::kRopeUlps * bounds::kUlp * (std::fabs(p) + std::fabs(q)) + flush;
    };
    out[first] = {a * c - b * s, error(a * c, b * s)};
    out[second] = {a * s + b * c, error(a * s, b * c)};
  }
  return out;
}

Result<void> fits(const OpCall& call, std::uint64_t context) {
  if (call.state.position + call.rows <= context) return {};
  return call.error(Code::invalid_argument, "position " + std::to_string(call.state.position) + " and " +
                                                std::to_string(call.rows) + " rows exceed the context of " +
                                                std::to_string(context));
}

// The row of the table (context, rope_dims/2, 2), a constant, for this row of the pass.
std::vector<float> angles(const OpCall& call, ValueId table, std::uint64_t row) {
  const std::uint64_t dims = call.op.attrs.rope_dims;
  return call.tensors.floats(table, (call.state.position + row) * dims, dims);
}

// Where (head, position+row) starts in a cache (kv_heads, context, head_dim).
std::uint64_t cache_at(const OpCall& call, ValueId cache, std::uint64_t head, std::uint64_t row) {
  const std::vector<std::uint64_t>& shape = call.value(cache).shape;
  return (head * shape[1] + call.state.position + row) * shape[2];
}

void append(const OpCall& call, ReferenceOutput& cache, std::uint64_t at, std::span<const Exact> head) {
  for (const Exact& e : head) {
    cache.elements.push_back(at++);
    put(call, cache, e.value, e.error);
  }
}

std::vector<Exact> untouched(std::span<const float> x) { return rotate(x, {}, {}); }

}  // namespace

Result<Outputs> run_rope(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const std::vector<float> x = call.rows_of(0);
  TSR_CHECK(fits(call, call.value(call.in(1)).shape[0]));
  ReferenceOutput y{.value = call.out(0)};
  for (std::uint64_t row = 0; row < call.rows; ++row) {
    const std::vector<float> table = angles(call, call.in(1), row);
    for (std::uint64_t head = 0; head < attrs.heads; ++head) {
      const auto part = std::span(x).subspan((row * attrs.heads + head) * attrs.head_dim, attrs.head_dim);
      for (const Exact& e : rotate(part, table, attrs)) put(call, y, e.value, e.error);
    }
  }
  return Outputs{std::move(y)};
}

Result<Outputs> run_kv_append(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const std::vector<float> x = call.rows_of(0);
  ReferenceOutput cache{.value = call.out(0)};
  TSR_CHECK(fits(call, call.value(cache.value).shape[1]));
  for (std::uint64_t row = 0; row < call.rows; ++row)
    for (std::uint64_t head = 0; head < attrs.kv_heads; ++head) {
      const auto part = std::span(x).subspan((row * attrs.kv_heads + head) * attrs.head_dim, attrs.head_dim);
      append(call, cache, cache_at(call, cache.value, head, row), untouched(part));
    }
  return Outputs{std::move(cache)};
}

Result<Outputs> run_rope_append(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const std::vector<float> qkv = call.rows_of(0);
  const std::uint64_t heads = attrs.heads + 2 * attrs.kv_heads;
  ReferenceOutput q{.value = call.out(0)}, k{.value = call.out(1)}, v{.value = call.out(2)};
  TSR_CHECK(fits(call, call.value(call.in(1)).shape[0]));
  TSR_CHECK(fits(call, call.value(k.value).shape[1]));
  for (std::uint64_t row = 0; row < call.rows; ++row) {
    const std::vector<float> table = angles(call, call.in(1), row);
    for (std::uint64_t head = 0; head < heads; ++head) {
      const auto part = std::span(qkv).subspan((row * heads + head) * attrs.head_dim, attrs.head_dim);
      if (head < attrs.heads) {
        for (const Exact& e : rotate(part, table, attrs)) put(call, q, e.value, e.error);
      } else if (head < attrs.heads + attrs.kv_heads) {
        append(call, k, cache_at(call, k.value, head - attrs.heads, row), rotate(part, table, attrs));
      } else {
        append(call, v, cache_at(call, v.value, head - attrs.heads - attrs.kv_heads, row), untouched(part));
      }
    }
  }
  return Outputs{std::move(q), std::move(k), std::move(v)};
}

}  // namespace tessera
