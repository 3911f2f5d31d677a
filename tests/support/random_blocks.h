// Blocks of quantised weights with random quants, for types that nothing encodes, and to reach every bit of
// the others.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "base/blocks.h"
#include "base/dtype.h"

namespace tessera::test {

// `count` blocks as a file has them, decoding to values of about -spread to spread. Of eight, the scales of
// one are negative and of another a hundred times smaller: subnormal f16 for most types. The type has blocks.
inline std::vector<std::byte> random_blocks(DType type, std::size_t count, std::uint32_t seed,
                                            float spread = 1.0f) {
  const std::uint32_t size = info(type).block_bytes;
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> part(0.25f, 1.0f);
  std::vector<std::byte> blocks(count * size);
  for (std::byte& b : blocks) b = static_cast<std::byte>(engine());
  for (std::size_t b = 0; b < count; ++b) {
    const float kind = b % 8 == 3 ? -1.0f : b % 8 == 5 ? 0.01f : 1.0f;
    for (const BlockScale& scale : block_scales(type)) {
      const std::uint16_t bits = f32_to_f16(scale.unit * kind * spread * part(engine));
      std::memcpy(&blocks[b * size + scale.at], &bits, sizeof bits);
    }
  }
  return blocks;
}

}  // namespace tessera::test
