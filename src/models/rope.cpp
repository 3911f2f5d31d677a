#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera {
namespace {

// The pair, as a real number, that makes `turns` turns within the original context.
double pair_of_turns(const RopeConfig& rope, double turns) {
  const double angle = static_cast<double>(rope.original_context) / (turns * 2 * std::numbers::pi);
  return rope.dims * std::log(angle) / (2 * std::log(rope.base));
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& rope) {
  std::vector<double> frequencies(rope.dims / 2);
  double low = 0, high = 0;
  if (rope.scaling == RopeScaling::yarn) {
    low = std::max(0.0, std::floor(pair_of_turns(rope, rope.beta_fast)));
    high = std::min(rope.dims - 1.0, std::ceil(pair_of_turns(rope, rope.beta_slow)));
  }
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double pair = static_cast<double>(i);
    double f = std::pow(rope.base, -2 * pair / rope.dims);
    if (!rope.freq_factors.empty()) f /= static_cast<double>(rope.freq_factors[i]);
    if (rope.scaling == RopeScaling::linear) f /= rope.factor;
    if (rope.scaling == RopeScaling::yarn) {
      // 1 where a pair turns often (kept), 0 where it turns seldom (interpolated), a ramp between.
      const double ramp = std::clamp((pair - low) / std::max(0.001, high - low), 0.0, 1.0);
      const double keep = (1 - ramp) * rope.ext_factor;
      f = f / rope.factor * (1 - keep) + f * keep;
    }
    frequencies[i] = f;
  }
  return frequencies;
}

double rope_magnitude(const RopeConfig& rope) {
  const bool yarn = rope.scaling == RopeScaling::yarn && rope.ext_factor != 0;
  return rope.attn_factor * (yarn ? 1 + 0.1 * std::log(std::max(1.0, rope.factor)) : 1);
}

std::vector<float> rope_table(const RopeConfig& rope, std::uint32_t context) {
  const std::vector<double> frequencies = rope_frequencies(rope);
  const double magnitude = rope_magnitude(rope);
  std::vector<float> table;
  table.reserve(std::size_t{context} * frequencies.size() * 2);
  for (std::uint32_t position = 0; position < context; ++position)
    for (double f : frequencies) {
      table.push_back(static_cast<float>(std::cos(position * f) * magnitude));
      table.push_back(static_cast<float>(std::sin(position * f) * magnitude));
    }
  return table;
}

}  // namespace tessera
