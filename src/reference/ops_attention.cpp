// rope, kv_append, rope_append, attention.
#include <algorithm>
#include <cmath>
#include <limits>

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

namespace {

// The keys and values of one KV head that a row sees: [first, last) of (context, head_dim).
struct Keys {
  std::span<const float> k, v;
  std::uint64_t first, last;
  double flush;  // elements below it may be read as zero
};

// o = sum_j softmax_j(scale q.k_j) v_j
void attend(const OpCall& call, std::span<const float> q, const Keys& keys, ReferenceOutput& out) {
  const std::uint64_t d = q.size(), n = keys.last - keys.first;
  const double scale = call.op.attrs.scale;
  std::vector<double> score(n), score_error(n);
  double most = -std::numeric_limits<double>::infinity();
  for (std::uint64_t j = 0; j < n; ++j) {
    double sum = 0, magnitude = 0, flushed = 0;
    for (std::uint64_t i = 0; i < d; ++i) {
      const double k = keys.k[(keys.first + j) * d + i], term = q[i] * k;
      sum += term;
      magnitude += std::fabs(term);
      if (std::fabs(k) < keys.flush) flushed += std::fabs(term);
    }
    score[j] = scale * sum;
    score_error[j] = std::fabs(scale) * (bounds::gamma(static_cast<double>(d) + 4) * magnitude + flushed);
    most = std::max(most, score[j]);
  }
  double total = 0;
  std::vector<double> weight(n);
  for (std::uint64_t j = 0; j < n; ++j) total += weight[j] = std::exp(score[j] - most);

  const double rescales = std::min(static_cast<double>(n), bounds::kRescales);
  const double summed = bounds::gamma(static_cast<double>(n) + rescales + 2);
  for (std::uint64_t i = 0; i < d; ++i) {
    double o = 0;
    for (std::uint64_t j = 0; j < n; ++j) o += weight[j] * keys.v[(keys.first + j) * d + i];
    o = n == 0 ? 0 : o / total;
    if (!call.bounds) {
      put(call, out, o, 0);
      continue;
    }
    // Each weight is off by a factor 1 + e_j, in the numerator and the denominator alike, so that it
    // shifts o by w_j e_j (v_j - o).
    double shift = 0, spread = 0, magnitude = 0, largest = 0, flushed = 0;
    for (std::uint64_t j = 0; j < n; ++j) {
      const double w = weight[j] / total, v = keys.v[(keys.first + j) * d + i];
      const double e = std::expm1(score_error[j] + bounds::kRescaleUlps * bounds::kUlp * (rescales + 1) +
                                  bounds::kExpUlpsPerUnit * bounds::kUlp * (most - score[j]));
      shift += w * e * std::fabs(v - o);
      spread += w * e;
      magnitude += w * std::fabs(v);
      largest = std::max(largest, std::fabs(v));
      if (std::fabs(v) < keys.flush) flushed += w * std::fabs(v);
    }
    const double error = spread < 0.5 ? shift / (1 - spread) + flushed + summed * (magnitude + std::fabs(o)) +
                                            (bounds::kDivUlps + 1) * bounds::kUlp * std::fabs(o) +
                                            bounds::kFlush * static_cast<double>(n + 1) * (1 + largest)
                                      : std::numeric_limits<double>::infinity();
    put(call, out, o, error);
  }
}

}  // namespace

Result<Outputs> run_attention(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const std::uint64_t d = attrs.head_dim, context = call.value(call.in(1)).shape[1];
  TSR_CHECK(fits(call, context));
  const std::vector<float> q = call.rows_of(0);
  const std::uint64_t end = call.state.position + call.rows;  // keys in the cache
  ReferenceOutput o{.value = call.out(0)};
  std::vector<std::vector<float>> k, v;
  for (std::uint64_t head = 0; head < attrs.kv_heads; ++head) {
    k.push_back(call.tensors.floats(call.in(1), head * context * d, end * d));
    v.push_back(call.tensors.floats(call.in(2), head * context * d, end * d));
  }
  for (std::uint64_t row = 0; row < call.rows; ++row)
    for (std::uint64_t head = 0; head < attrs.heads; ++head) {
      const std::uint64_t kv_head = head / (attrs.heads / attrs.kv_heads);
      const std::uint64_t last = attrs.causal ? call.state.position + row + 1 : end;
      const std::uint64_t first = attrs.window != 0 && last > attrs.window ? last - attrs.window : 0;
      attend(call, std::span(q).subspan((row * attrs.heads + head) * d, d),
             {k[kv_head], v[kv_head], first, last, bounds::flush_below(call.value(call.in(1)).dtype)}, o);
    }
  return Outputs{std::move(o)};
}

}  // namespace tessera
