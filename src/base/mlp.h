// What graph, kernels and the public op share of the op mlp.
#pragma once

#include <cstdint>

namespace tessera {

// What the bits of an op's signature are enough for.
inline constexpr std::uint32_t kMostMlpLayers = 15;

}  // namespace tessera
