// The device layout of weights: rows of 16-byte multiples, each self-contained so that any range of rows is a
// binding. docs/architecture.md has the table.
//   F32, F16, BF16   k elements
//   Q8_0             k int8, then k/32 f16 scales
//   Q4_0             k/2 bytes: element i in bits 4*(i%8) of word i/8, then k/32 f16 scales
// Rows are padded with zeros to a multiple of 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace tessera {

std::uint64_t device_row_bytes(DType type, std::uint64_t k);
// One row of file bytes (base/dtype.h) to device_row_bytes() bytes.
void repack_row(DType type, std::uint64_t k, std::span<const std::byte> file, std::span<std::byte> device);

}  // namespace tessera
