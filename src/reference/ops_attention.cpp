// attention.
#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

Result<void> fits(const OpCall& call, std::uint64_t context) {
  if (call.state.position + call.rows <= context) return {};
  return call.error(Code::invalid_argument, "position " + std::to_string(call.state.position) + " and " +
                                                std::to_string(call.rows) + " rows exceed the context of " +
                                                std::to_string(context));
}

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
