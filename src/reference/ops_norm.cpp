// sum = x + residual;  RMSNorm: y = sum / sqrt(mean(sum^2) + eps) w;  LayerNorm: the mean is removed first.
#include <algorithm>
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {

Normed normalise(std::span<const double> s, bool rounded, bool layer_norm, double eps) {
  const auto n = static_cast<double>(s.size());
  double total = 0, magnitude = 0;
  for (double e : s) {
    total += e;
    magnitude += std::fabs(e);
  }
  const double mean = layer_norm ? total / n : 0;
  const double s_ulp = rounded ? bounds::kUlp : 0;
  const double mean_error = layer_norm ? (bounds::gamma(n + 2) + s_ulp) * magnitude / n + bounds::kFlush : 0;

  double square = 0, square_error = 0;
  std::vector<double> centred(s.size()), centred_error(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    const double d = s[i] - mean;
    const double e = s_ulp * std::fabs(s[i]) + mean_error + (layer_norm ? bounds::kUlp * std::fabs(d) : 0);
    centred[i] = d;
    centred_error[i] = e;
    square += d * d;
    square_error += (2 * std::fabs(d) + e) * e;
  }
  const double variance = square / n;
  const double variance_error = (square_error + bounds::gamma(n + 4) * square) / n + bounds::kFlush;
  // 1/sqrt(v) moves by half of v's relative error, taken where v is smallest.
  const double least = std::max(variance + eps - variance_error, bounds::kFlush);
  const double relative = 0.5 * (variance_error / least + bounds::kUlp) + bounds::kNormUlps * bounds::kUlp;
  const double inverse = 1 / std::sqrt(variance + eps);

  Normed out;
  out.inverse = inverse;
  for (std::size_t i = 0; i < s.size(); ++i) {
    out.value.push_back(centred[i] * inverse);
    out.error.push_back(inverse * (centred_error[i] * (1 + relative) + std::fabs(centred[i]) * relative) +
                        bounds::kFlush * (1 + inverse));
  }
  return out;
}

Result<Outputs> run_norm(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const std::uint64_t d = call.value(call.in(0)).last_dim();
  const std::vector<float> x = call.rows_of(0);
  TSR_TRY(const std::vector<float> weight, call.vector_of(1));
  TSR_TRY(const std::vector<float> bias, call.vector_of(2));
  const bool add = call.in(3) != kNoValue;
  const std::vector<float> residual = add ? call.rows_of(3) : std::vector<float>{};

  ReferenceOutput y{.value = call.out(0)}, sum{.value = call.out(1)};
  std::vector<double> s(d);
  for (std::uint64_t row = 0; row < call.rows; ++row) {
    for (std::uint64_t i = 0; i < d; ++i) {
      s[i] = x[row * d + i] + (add ? double{residual[row * d + i]} : 0);
      if (sum.value != kNoValue) put(call, sum, s[i], bounds::kUlp * std::fabs(s[i]) + 2 * bounds::kFlush);
    }
    const Normed normed = normalise(s, add, attrs.layer_norm, attrs.eps);
    for (std::uint64_t i = 0; i < d; ++i) {
      const double w = weight.empty() ? 1 : double{weight[i]};
      const double b = bias.empty() ? 0 : double{bias[i]};
      const double value = normed.value[i] * w + b;
      put(call, y, value,
          normed.error[i] * std::fabs(w) + bounds::kUlp * (std::fabs(value) + std::fabs(b)) +
              bounds::kFlush * (1 + std::fabs(w)));
    }
  }
  Outputs out{std::move(y)};
  if (sum.value != kNoValue) out.push_back(std::move(sum));
  return out;
}

}  // namespace tessera
