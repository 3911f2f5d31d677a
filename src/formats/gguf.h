// The numbers of the GGUF format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace tessera::gguf {

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr std::uint32_t kDefaultAlignment = 32;
inline constexpr std::uint32_t kMaxDims = 4;
inline constexpr std::uint64_t kMaxNameBytes =
    65535;  // the format's limit for keys; used for tensor names too

enum class ValueType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};
// Fewest bytes that a value takes: its size, or a string's length field; 0 for array and unknown types.
std::uint32_t min_bytes(ValueType type);
std::string_view name(ValueType type);  // "u8", "string"; "unknown"

// A tensor type of the format, whether DType has it or not.
struct TensorType {
  std::uint32_t id;
  std::string_view name;
  std::uint32_t block_elems;
  std::uint32_t block_bytes;
};
const TensorType* tensor_type(std::uint32_t id);  // null when unknown
std::optional<DType> to_dtype(std::uint32_t id);
std::optional<std::uint32_t> from_dtype(DType type);  // nullopt for u32, which GGUF lacks

}  // namespace tessera::gguf
