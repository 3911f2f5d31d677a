// Element types of tensors, and the block formats they have in files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tessera {

// Values are shared with shaders/interface/common.h (specialization constant WEIGHT_TYPE).
enum class DType : std::uint8_t {
  f32 = 0,
  f16 = 1,
  bf16 = 2,
  q8_0 = 3,
  q4_0 = 4,
  u32 = 5,
  u8 = 6,
  q4_1 = 7,
  q5_0 = 8,
  q5_1 = 9,
  q4_k = 10,
  q5_k = 11,
  q6_k = 12
};

// What a weight may be; the others hold indices and masks.
constexpr bool is_real(DType type) { return type != DType::u32 && type != DType::u8; }
inline constexpr DType kWeightTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,
                                         DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                         DType::q4_k, DType::q5_k, DType::q6_k};
// The k-quants are only read: choosing their scales well is a search, which is left to other programs.
constexpr bool can_encode(DType type) { return type < DType::q4_k; }

struct DTypeInfo {
  std::string_view name;      // as in GGUF: "F32", "Q8_0", "Q4_K", ...; "U32", "U8"
  std::uint32_t block_elems;  // elements a block holds; 1 for the plain types
  std::uint32_t block_bytes;  // bytes of a block in a file
};
const DTypeInfo& info(DType type);
std::optional<DType> parse_dtype(std::string_view name);  // case-insensitive; nullopt when unknown

// Bytes of `elems` elements in a file; elems must be a multiple of the block.
constexpr std::uint64_t file_bytes(std::uint64_t elems, const DTypeInfo& t) {
  return elems / t.block_elems * t.block_bytes;
}

std::uint16_t f32_to_f16(float x);  // round to nearest even; NaN stays a (quiet) NaN, overflow gives infinity
float f16_to_f32(std::uint16_t h);
std::uint16_t f32_to_bf16(float x);  // round to nearest even
float bf16_to_f32(std::uint16_t h);

// One row of file bytes to floats. `out.size()` elements, a multiple of the block; bytes.size() is exactly
// theirs; no alignment is needed. Whole matrices may be given as one row. Bit-equal to the `gguf` Python
// package's dequantisation, for every content of the bytes (a NaN stays a NaN, of whatever payload).
void decode_row(DType type, std::span<const std::byte> bytes, std::span<float> out);
// Floats to one row of file bytes, bit-equal to the `gguf` Python package's quantisation for finite values;
// the type can_encode().
// A block holding NaN or infinity, or one too large for its f16 scale, decodes to values that are not finite.
void encode_row(DType type, std::span<const float> in, std::span<std::byte> bytes);

}  // namespace tessera
