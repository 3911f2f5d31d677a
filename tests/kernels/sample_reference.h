// The sampler of src/graph/state.h in double, as plainly as it can be written.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <span>
#include <vector>

namespace tessera::test {

struct Params {  // the words of SamplerParams
  float temperature = 0;
  std::uint32_t top_k = 0;
  float top_p = 1, min_p = 0, penalty = 1;
  std::uint32_t penalty_last = 64, seed_low = 0, seed_high = 0;
};

inline std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c,
                                               std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return c;
}

inline double uniform_of(std::uint32_t position, const Params& params) {
  return (philox4x32({position, 0, 0, 0}, {params.seed_low, params.seed_high})[0] >> 8) * 0x1p-24;
}

// Every id that a right sampler may choose: more than one only where u, p or min_p lie within the rounding of
// f32 weights of an edge. `recent` are the ids that the penalty is for.
inline std::set<std::uint32_t> acceptable_ids(std::span<const float> logits,
                                              std::span<const std::uint32_t> recent, std::uint32_t position,
                                              const Params& params) {
  std::vector<float> x(logits.begin(), logits.end());
  for (std::uint32_t id : recent)
    if (id < x.size()) x[id] = logits[id] > 0 ? logits[id] / params.penalty : logits[id] * params.penalty;
  std::vector<std::uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return x[a] > x[b]; });
  if (!(params.temperature > 0)) return {order[0]};
  if (params.top_k != 0 && params.top_k < order.size()) order.resize(params.top_k);
  // Weights relative to the largest, and their errors: exp2 is off by 3 + 2|a| ulp, its argument by 3
  // roundings.
  std::vector<double> weight(order.size()), sum(order.size());
  double total = 0, error = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const double a = (double(x[order[0]]) - x[order[i]]) * 1.4426950408889634 / params.temperature;
    weight[i] = std::exp2(-a);
    sum[i] = total += weight[i];
    if (weight[i] > 0) error += weight[i] * (2 * (3 + 2 * a) + 3 * a) * 0x1p-24;
  }
  const double slack = 2 * error / total + 0x1p-40;
  const auto prefix = [&](double p) {  // shortest that reaches p of the whole
    std::size_t n = 1;
    while (n < order.size() && sum[n - 1] < p * total) ++n;
    return n;
  };
  const double p = params.top_p, u = uniform_of(position, params);
  const std::size_t least = p < 1 ? prefix(p - slack) : order.size(),
                    most = p < 1 ? prefix(p + slack) : order.size();
  std::set<std::uint32_t> out;
  for (std::size_t n = least; n <= most; ++n)
    for (double near : {-1e-5, 1e-5}) {
      std::vector<std::pair<std::uint32_t, double>> kept;
      for (std::size_t i = 0; i < n; ++i)
        if (i == 0 || weight[i] >= std::min(double(params.min_p), 1.0) * (1 + near))
          kept.push_back({order[i], weight[i]});
      std::sort(kept.begin(), kept.end());
      double whole = 0, before = 0;
      for (const auto& [id, w] : kept) whole += w;
      for (const auto& [id, w] : kept) {
        if (w > 0 && before / whole <= u + slack && (before + w) / whole > u - slack) out.insert(id);
        before += w;
      }
    }
  return out;
}

}  // namespace tessera::test
