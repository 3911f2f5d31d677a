// What graph, kernels and the public op share of the op mlp.
#pragma once

#include <cstdint>

namespace tessera {

inline constexpr std::uint32_t kMostMlpLayers = 15;

}  // namespace tessera
