// A row of a KV cache: a key or a value of one head. Device and host hold the same bytes.
//   F32, F16, BF16   dim elements; rows follow each other without a gap
//   Q8_0             dim int8, then dim/32 f16 scales, then zeros up to a multiple of 16 bytes
// kernels/layout.h has the same rows for weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace tessera {

// What a cache may hold.
constexpr bool is_cache_type(DType type) { return type <= DType::q8_0; }

// `dim` is a multiple of the type's block.
std::uint64_t cache_row_bytes(DType type, std::uint64_t dim);

// Elements [first, first + out.size()) of `rows`, counted through all rows of `dim` elements.
void read_cache(DType type, std::uint64_t dim, std::span<const std::byte> rows, std::uint64_t first,
                std::span<float> out);
// Stores `in` as elements [first, first + in.size()); for Q8_0, `first` and in.size() are multiples of 32,
// and each block is quantised as encode_row (base/dtype.h) has it.
void write_cache(DType type, std::uint64_t dim, std::span<const float> in, std::uint64_t first,
                 std::span<std::byte> rows);

}  // namespace tessera
