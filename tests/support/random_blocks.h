// Blocks of quantised weights with random quants, for types that nothing encodes, and to reach every bit of
// the others.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "base/dtype.h"

namespace tessera::test {

// `count` blocks as a file has them, decoding to values of about -spread to spread. The type has blocks.
inline std::vector<std::byte> random_blocks(DType type, std::size_t count, std::uint32_t seed,
                                            float spread = 1.0f) {
  const std::uint32_t size = info(type).block_bytes;
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> part(0.25f, 1.0f);
  std::vector<std::byte> blocks(count * size);
  for (std::byte& b : blocks) b = static_cast<std::byte>(engine());
  const auto put = [&](std::size_t block, std::size_t at, float value) {
    const std::uint16_t bits = f32_to_f16(value * spread * part(engine));
    std::memcpy(&blocks[block * size + at], &bits, sizeof bits);
  };
  for (std::size_t b = 0; b < count; ++b) {
    switch (type) {
      case DType::q8_0: put(b, 0, 1.0f / 127); break;
      case DType::q4_0: put(b, 0, 1.0f / 8); break;
      case DType::q5_0: put(b, 0, 1.0f / 16); break;
      case DType::q4_1:
      case DType::q5_1:
        put(b, 0, 2.0f / (type == DType::q4_1 ? 15 : 31));
        put(b, 2, -1.0f);
        break;
      case DType::q4_k:
      case DType::q5_k:
        put(b, 0, 2.0f / (63 * (type == DType::q4_k ? 15 : 31)));
        put(b, 2, 1.0f / 63);
        break;
      case DType::q6_k: put(b, 208, 1.0f / (127 * 32)); break;
      case DType::f32:
      case DType::f16:
      case DType::bf16:
      case DType::u32:
      case DType::u8: break;
    }
  }
  return blocks;
}

}  // namespace tessera::test
