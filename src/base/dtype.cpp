#include "base/dtype.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/blocks.h"

namespace tessera {
namespace {

constexpr std::array<DTypeInfo, 13> kTypes = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"Q8_0", 32, 34},
    {"Q4_0", 32, 18},
    {"U32", 1, 4},
    {"U8", 1, 1},
    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},
    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176},
    {"Q6_K", 256, 210},
}};

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename T>
void store(std::byte* bytes, T value) {
  std::memcpy(bytes, &value, sizeof value);
}

// The nearest from 0 to `most`; NaN gives 0.
std::uint64_t to_whole(float x, std::uint64_t most) {
  const float whole = std::nearbyint(x);
  if (!(whole > 0.0f)) return 0;
  return whole < static_cast<float>(most) ? static_cast<std::uint64_t>(whole) : most;
}

}  // namespace

const DTypeInfo& info(DType type) { return kTypes[static_cast<std::size_t>(type)]; }

std::optional<DType> parse_dtype(std::string_view name) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (std::ranges::equal(name, kTypes[i].name, {}, upper)) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::uint16_t f32_to_f16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x3ffu);  // a quiet NaN with the upper bits of the payload
  } else if (magnitude >= 0x477ff000u) {          // 65520: halfway between the largest f16 and 65536
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // under 2^-14: an f16 subnormal counts in 2^-24, the last bit of 0.5
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    constexpr std::uint32_t rebias = (127u - 15u) << 23;
    half = (magnitude - rebias + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t magnitude = h & 0x7fffu;
  std::uint32_t bits = (magnitude << 13) + ((127u - 15u) << 23);
  if (magnitude >= 0x7c00u) bits += (127u - 15u) << 23;  // infinity and NaN
  // A subnormal counts in 2^-24; by conversion, so that a host that flushes subnormals to zero gets it too.
  if (magnitude < 0x400u) bits = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  return std::bit_cast<float>(sign | bits);
}

std::uint16_t f32_to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);  // quiet NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float bf16_to_f32(std::uint16_t h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16); }

void decode_row(DType type, std::span<const std::byte> bytes, std::span<float> out) {
  assert(out.size() % info(type).block_elems == 0 && bytes.size() == file_bytes(out.size(), info(type)));
  const std::byte* in = bytes.data();
  const std::size_t n = out.size();
  switch (type) {
    case DType::f32:
      if (n > 0) std::memcpy(out.data(), in, n * sizeof(float));
      break;
    case DType::f16:
      for (std::size_t i = 0; i < n; ++i) out[i] = f16_to_f32(load<std::uint16_t>(in + 2 * i));
      break;
    case DType::bf16:
      for (std::size_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load<std::uint16_t>(in + 2 * i));
      break;
    case DType::q8_0:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k: return decode_blocks(type, n / info(type).block_elems, in, out.data());
    case DType::u32:
      for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(load<std::uint32_t>(in + 4 * i));
      break;
    case DType::u8:
      for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(std::to_integer<int>(in[i]));
      break;
  }
}

void encode_row(DType type, std::span<const float> in, std::span<std::byte> bytes) {
  assert(in.size() % info(type).block_elems == 0 && bytes.size() == file_bytes(in.size(), info(type)));
  std::byte* out = bytes.data();
  const std::size_t n = in.size();
  switch (type) {
    case DType::f32:
      if (n > 0) std::memcpy(out, in.data(), n * sizeof(float));
      break;
    case DType::f16:
      for (std::size_t i = 0; i < n; ++i) store(out + 2 * i, f32_to_f16(in[i]));
      break;
    case DType::bf16:
      for (std::size_t i = 0; i < n; ++i) store(out + 2 * i, f32_to_bf16(in[i]));
      break;
    case DType::q8_0:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k: return encode_blocks(type, n / info(type).block_elems, in.data(), out);
    case DType::u32:
      for (std::size_t i = 0; i < n; ++i)
        store(out + 4 * i, static_cast<std::uint32_t>(to_whole(in[i], 0xffffffffu)));
      break;
    case DType::u8:
      for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(to_whole(in[i], 0xff));
      break;
  }
}

}  // namespace tessera
