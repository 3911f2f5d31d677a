// The device layout of weights: rows of 16-byte multiples, each self-contained so that any range of rows is a
// binding. docs/architecture.md has the table.
//   F32, F16, BF16   k elements
//   Q8_0             k int8, then k/32 f16 scales
//   all others       k low nibbles: element i in bits 4*(i%8) of word i/8, then
//     Q4_0           k/32 f16 d
//     Q4_1           k/32 pairs of f16 (d, m)
//     Q5_0           k/32 words of fifth bits: element i in bit i%32; k/32 f16 d
//     Q5_1           likewise; k/32 pairs of f16 (d, m)
//     Q4_K           k/256 headers of 16 bytes: f16 d, f16 dmin, the low nibbles of 8 scales and of 8 minima
//                    (number j in bits 4j), the upper two bits of the scales (in bits 2j) and of the minima
//     Q5_K           k/32 words of fifth bits; headers likewise
//     Q6_K           k/16 words of upper bit pairs: element i in bits 2*(i%16); k/16 int8 scales; k/256 f16 d
// Rows are padded with zeros to a multiple of 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace tessera {

std::uint64_t device_row_bytes(DType type, std::uint64_t k);
// Elements in 16 bytes of values or quants: CHUNK of lib/load.glsl.
std::uint32_t chunk_elems(DType type);
// One row of file bytes (base/dtype.h) to device_row_bytes() bytes.
void repack_row(DType type, std::uint64_t k, std::span<const std::byte> file, std::span<std::byte> device);

}  // namespace tessera
