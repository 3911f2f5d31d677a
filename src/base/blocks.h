// The block formats of GGUF files, each a fixed number of bytes for a fixed number of elements.
#pragma once

#include <cstddef>

#include "base/dtype.h"

namespace tessera {

// `count` whole blocks of `type`, whose info() has more than one element a block.
void decode_blocks(DType type, std::size_t count, const std::byte* in, float* out);
// The same for types that can_encode().
void encode_blocks(DType type, std::size_t count, const float* in, std::byte* out);

}  // namespace tessera
