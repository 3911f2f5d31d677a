#include "base/blocks.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>

// Products and sums stand in the order of gguf/quants.py of the `gguf` Python package
// (https://github.com/ggml-org/llama.cpp/tree/master/gguf-py), and none is contracted: bit-equal results.
namespace tessera {
namespace {

constexpr std::size_t kBlock = 32, kHalf = kBlock / 2;
constexpr std::size_t kSuper = 256;  // elements of a block of the k-quants

int at(const std::byte* bytes, std::size_t i) { return std::to_integer<int>(bytes[i]); }

float half(const std::byte* bytes) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return f16_to_f32(bits);
}

void store_half(std::byte* bytes, float value) {
  const std::uint16_t bits = f32_to_f16(value);
  std::memcpy(bytes, &bits, sizeof bits);
}

// Q8_0: f16 scale d, then 32 int8 q; x = d q.
void decode_q8_0(const std::byte* block, float* out) {
  const float d = half(block);
  for (std::size_t i = 0; i < kBlock; ++i)
    out[i] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + i]));
}

void encode_q8_0(const float* in, std::byte* block) {
  float largest = 0.0f;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const float a = std::fabs(in[i]);
    if (a > largest || std::isnan(a)) largest = a;
    if (std::isnan(a)) break;
  }
  const float d = largest / 127.0f;
  const float inverse = d == 0.0f ? 0.0f : 1.0f / d;
  store_half(block, d);
  for (std::size_t i = 0; i < kBlock; ++i) {
    const float q = std::round(in[i] * inverse);  // halves away from zero
    // Out of range only where d is NaN, infinite, or so small that its inverse overflows and f16 makes it 0.
    const bool in_range = std::fabs(q) <= 127.0f;
    block[2 + i] = static_cast<std::byte>(in_range ? static_cast<std::int8_t>(q) : 0);
  }
}

// The other formats of 32: f16 scale d; with a minimum, f16 m; with 5 bits, a word whose bit i is bit 4 of
// element i; then 16 bytes, element i in the low nibble of byte i and element i + 16 in the high one.
// x = d (q - 2^(bits-1)), with a minimum x = d q + m.
template <int bits, bool minimum>
struct Small {
  static constexpr std::size_t kHigh = minimum ? 4 : 2;
  static constexpr std::size_t kLow = kHigh + (bits == 5 ? 4 : 0);
  static constexpr int kCentre = minimum ? 0 : 1 << (bits - 1);
  static constexpr int kMost = (1 << bits) - 1;

  static void decode(const std::byte* block, float* out) {
    const float d = half(block);
    const float m = minimum ? half(block + 2) : 0.0f;
    for (std::size_t i = 0; i < kBlock; ++i) {
      int q = at(block + kLow, i % kHalf) >> (i / kHalf * 4) & 15;
      if (bits == 5) q |= (at(block + kHigh, i / 8) >> (i % 8) & 1) << 4;
      const float scaled = d * static_cast<float>(q - kCentre);
      out[i] = minimum ? scaled + m : scaled;
    }
  }

  static void pack(const std::array<int, kBlock>& q, std::byte* block) {
    for (std::size_t i = 0; i < kHalf; ++i)
      block[kLow + i] = static_cast<std::byte>((q[i] & 15) | (q[i + kHalf] & 15) << 4);
    if (bits == 4) return;
    for (std::size_t byte = 0; byte < 4; ++byte) {
      int high = 0;
      for (std::size_t i = 0; i < 8; ++i) high |= (q[8 * byte + i] >> 4) << i;
      block[kHigh + byte] = static_cast<std::byte>(high);
    }
  }

  // Not finite where d or m is not, or where d is so small that its inverse overflows and f16 makes it 0.
  static int whole(float q) {
    return std::isfinite(q) ? static_cast<int>(std::clamp(q, 0.0f, float{kMost})) : 0;
  }

  static void encode(const float* in, std::byte* block) {
    std::array<int, kBlock> q{};
    float d = 0.0f, m = 0.0f;
    if constexpr (minimum) {
      const auto [low, high] = range(in);
      m = low;
      d = (high - low) / float{kMost};
      store_half(block + 2, m);
    } else {
      d = extreme(in) / float{-kCentre};
    }
    store_half(block, d);
    const float inverse = d == 0.0f ? 0.0f : 1.0f / d;
    for (std::size_t i = 0; i < kBlock; ++i)
      q[i] = whole(minimum ? (in[i] - m) * inverse + 0.5f : in[i] * inverse + (float{kCentre} + 0.5f));
    pack(q, block);
  }

 private:
  // Of the largest magnitude; the first of equals, and the first NaN.
  static float extreme(const float* in) {
    float most = in[0];
    for (std::size_t i = 1; i < kBlock && !std::isnan(most); ++i)
      if (std::fabs(in[i]) > std::fabs(most) || std::isnan(in[i])) most = in[i];
    return most;
  }

  struct Range {
    float low, high;
  };
  static Range range(const float* in) {
    Range r{in[0], in[0]};
    for (std::size_t i = 0; i < kBlock; ++i) {
      if (std::isnan(in[i])) return {in[i], in[i]};
      if (in[i] < r.low) r.low = in[i];
      if (in[i] > r.high) r.high = in[i];
    }
    return r;
  }
};

// Of Q4_K and Q5_K: 8 scales and 8 minima of 6 bits in 12 bytes. Those of the first four sub-blocks are the
// low bits of bytes 0..3 and 4..7; those of the last four have their low nibbles in bytes 8..11 (the
// minimum's is the high one) and their upper two bits on top of the first eight bytes.
struct SubBlock {
  float scale, minimum;
};
SubBlock sub_block(const std::byte* packed, std::size_t j) {
  if (j < 4) return {static_cast<float>(at(packed, j) & 63), static_cast<float>(at(packed, j + 4) & 63)};
  const int low = at(packed, j + 4);
  return {static_cast<float>((low & 15) | (at(packed, j - 4) >> 6) << 4),
          static_cast<float>(low >> 4 | (at(packed, j) >> 6) << 4)};
}

// Q4_K: f16 d, f16 dmin, 12 bytes of sub_block(), then 128 bytes in groups of 32, whose low nibbles are one
// sub-block of 32 and whose high nibbles are the next. x = (d scale) q - dmin minimum.
// Q5_K: as Q4_K, with 32 bytes before the nibbles: bit j of byte i is bit 4 of element i of sub-block j.
template <int bits>
void decode_k(const std::byte* block, float* out) {
  const float d = half(block), dmin = half(block + 2);
  const std::byte* high = block + 16;
  const std::byte* low = bits == 5 ? high + 32 : high;
  for (std::size_t j = 0; j < kSuper / 32; ++j) {
    const SubBlock s = sub_block(block + 4, j);
    const float scale = d * s.scale, minimum = dmin * s.minimum;
    for (std::size_t i = 0; i < 32; ++i) {
      int q = at(low, j / 2 * 32 + i) >> (j % 2 * 4) & 15;
      if (bits == 5) q |= (at(high, i) >> j & 1) << 4;
      out[32 * j + i] = scale * static_cast<float>(q) - minimum;
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 of upper bit pairs, 16 int8 scales of 16 elements each, f16 d;
// x = (d scale) (q - 32). Each half of 128 elements has 64 bytes of nibbles (the low ones are its elements
// 0..63, the high ones 64..127) and 32 of pairs (pair j of byte i belongs to its element 32 j + i).
void decode_q6_k(const std::byte* block, float* out) {
  const std::byte* scales = block + 192;
  const float d = half(block + 208);
  for (std::size_t e = 0; e < kSuper; ++e) {
    const std::size_t part = e / 128, in_part = e % 128;
    const int low = at(block, part * 64 + in_part % 64) >> (in_part / 64 * 4) & 15;
    const int high = at(block + 128, part * 32 + in_part % 32) >> (in_part / 32 * 2) & 3;
    const float scale = d * static_cast<float>(static_cast<std::int8_t>(scales[e / 16]));
    out[e] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

}  // namespace

void decode_blocks(DType type, std::size_t count, const std::byte* in, float* out) {
  const auto each = [&](void (*decode)(const std::byte*, float*)) {
    for (std::size_t b = 0; b < count; ++b)
      decode(in + b * info(type).block_bytes, out + b * info(type).block_elems);
  };
  switch (type) {
    case DType::q8_0: return each(decode_q8_0);
    case DType::q4_0: return each(Small<4, false>::decode);
    case DType::q4_1: return each(Small<4, true>::decode);
    case DType::q5_0: return each(Small<5, false>::decode);
    case DType::q5_1: return each(Small<5, true>::decode);
    case DType::q4_k: return each(decode_k<4>);
    case DType::q5_k: return each(decode_k<5>);
    case DType::q6_k: return each(decode_q6_k);
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::u32:
    case DType::u8: break;
  }
  assert(false && "no block type");
}

void encode_blocks(DType type, std::size_t count, const float* in, std::byte* out) {
  const auto each = [&](void (*encode)(const float*, std::byte*)) {
    for (std::size_t b = 0; b < count; ++b)
      encode(in + b * info(type).block_elems, out + b * info(type).block_bytes);
  };
  switch (type) {
    case DType::q8_0: return each(encode_q8_0);
    case DType::q4_0: return each(Small<4, false>::encode);
    case DType::q4_1: return each(Small<4, true>::encode);
    case DType::q5_0: return each(Small<5, false>::encode);
    case DType::q5_1: return each(Small<5, true>::encode);
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::u32:
    case DType::u8: break;
  }
  assert(false && "cannot be encoded");
}

std::span<const BlockScale> block_scales(DType type) {
  static constexpr BlockScale q8_0[] = {{0, 1.0f / 127}}, q4_0[] = {{0, 1.0f / 8}}, q5_0[] = {{0, 1.0f / 16}},
                              q4_1[] = {{0, 2.0f / 15}, {2, -1.0f}}, q5_1[] = {{0, 2.0f / 31}, {2, -1.0f}},
                              q4_k[] = {{0, 2.0f / (63 * 15)}, {2, 1.0f / 63}},
                              q5_k[] = {{0, 2.0f / (63 * 31)}, {2, 1.0f / 63}},
                              q6_k[] = {{208, 1.0f / (127 * 32)}};
  switch (type) {
    case DType::q8_0: return q8_0;
    case DType::q4_0: return q4_0;
    case DType::q4_1: return q4_1;
    case DType::q5_0: return q5_0;
    case DType::q5_1: return q5_1;
    case DType::q4_k: return q4_k;
    case DType::q5_k: return q5_k;
    case DType::q6_k: return q6_k;
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::u32:
    case DType::u8: break;
  }
  return {};
}

}  // namespace tessera
