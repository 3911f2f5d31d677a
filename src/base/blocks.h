// The block formats of GGUF files, each a fixed number of bytes for a fixed number of elements.
#pragma once

#include <cstddef>
#include <span>

#include "base/dtype.h"

namespace tessera {

// `count` whole blocks of `type`, whose info() has more than one element a block.
void decode_blocks(DType type, std::size_t count, const std::byte* in, float* out);
// The same for types that can_encode().
void encode_blocks(DType type, std::size_t count, const float* in, std::byte* out);

// An f16 scale of a block, and its value for which quants of any bits decode to -1..1 (types with a minimum:
// both).
struct BlockScale {
  std::size_t at;  // bytes from the block's start
  float unit;
};
std::span<const BlockScale> block_scales(DType type);

}  // namespace tessera
