// Rotary position embeddings: the angles of a model's positions, with its scaling worked in.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera {

enum class RopeScaling : std::uint8_t { none, linear, yarn };

// Pair i of `dims / 2` turns by position * frequency(i); unscaled, frequency(i) = base^(-2i / dims).
struct RopeConfig {
  double base = 10000;
  std::uint32_t dims = 0;  // leading dimensions of a head that turn; even
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;                   // linear, yarn: how much longer than trained
  std::uint64_t original_context = 0;  // yarn: positions the model was trained on
  double ext_factor = 1;               // yarn: how much of the high frequencies is left as it is
  double beta_fast = 32;               // yarn: pairs that turn more often than this in the context stay
  double beta_slow = 1;                // yarn: pairs that turn less often than this are interpolated
  double attn_factor = 1;              // multiplies cos and sin (besides yarn's own 1 + 0.1 ln(factor))
  std::vector<float> freq_factors;     // empty, or a divisor for each pair (Llama 3.1 and later)
};

// Scaled frequencies of the pairs, radians a position. (dims / 2)
std::vector<double> rope_frequencies(const RopeConfig& rope);
// What cos and sin are multiplied by.
double rope_magnitude(const RopeConfig& rope);
// (context, dims / 2, 2): cos and sin times the magnitude, computed in double.
std::vector<float> rope_table(const RopeConfig& rope, std::uint32_t context);

}  // namespace tessera
