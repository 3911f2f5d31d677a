#include "kernels/layout.h"

#include <cassert>
#include <cstring>

// File blocks are described in base/blocks.cpp.
namespace tessera {
namespace {

constexpr std::uint64_t kBlock = 32, kSuper = 256;

constexpr std::uint64_t round_up_16(std::uint64_t bytes) { return (bytes + 15) / 16 * 16; }

unsigned at(const std::byte* bytes, std::uint64_t i) { return std::to_integer<unsigned>(bytes[i]); }

// Bits of little-endian words from bit `bit` on, all within a byte and 0 before.
void put_bits(std::byte* out, std::uint64_t bit, unsigned value) {
  out[bit / 8] |= static_cast<std::byte>(value << (bit % 8));
}

// Where the parts of a row begin.
struct Parts {
  std::byte *quants, *high, *scales;
};

// File: d (f16), then 32 int8. Device: all quants, then all scales.
void repack_q8_0(std::uint64_t blocks, const std::byte* file, std::byte* device) {
  std::byte* scales = device + blocks * kBlock;
  for (std::uint64_t b = 0; b < blocks; ++b, file += 34) {
    std::memcpy(scales + 2 * b, file, 2);
    std::memcpy(device + kBlock * b, file + 2, kBlock);
  }
}

// File: d (and m), fifth bits, 16 bytes whose low nibbles are elements 0..15 and high nibbles 16..31.
void repack_small(std::uint64_t blocks, std::uint64_t scale_bytes, bool fifth, const std::byte* file,
                  const Parts& out) {
  for (std::uint64_t b = 0; b < blocks; ++b) {
    std::memcpy(out.scales + scale_bytes * b, file, scale_bytes);
    file += scale_bytes;
    if (fifth) {
      std::memcpy(out.high + 4 * b, file, 4);
      file += 4;
    }
    for (std::uint64_t i = 0; i < kBlock; ++i)
      put_bits(out.quants, 4 * (kBlock * b + i), at(file, i % 16) >> (i / 16 * 4) & 15);
    file += 16;
  }
}

// The 16 bytes of a Q4_K or Q5_K block's header.
void repack_header(const std::byte* file, std::byte* header) {
  std::memcpy(header, file, 4);
  const std::byte* packed = file + 4;
  for (std::uint64_t j = 0; j < 8; ++j) {
    const unsigned low = at(packed, j + 4);
    const unsigned scale = j < 4 ? at(packed, j) & 63 : (low & 15) | (at(packed, j - 4) >> 6) << 4;
    const unsigned minimum = j < 4 ? low & 63 : low >> 4 | (at(packed, j) >> 6) << 4;
    put_bits(header + 4, 4 * j, scale & 15);
    put_bits(header + 8, 4 * j, minimum & 15);
    put_bits(header + 12, 2 * j, scale >> 4);
    put_bits(header + 14, 2 * j, minimum >> 4);
  }
}

void repack_k(std::uint64_t blocks, bool fifth, const std::byte* file, const Parts& out) {
  for (std::uint64_t b = 0; b < blocks; ++b) {
    repack_header(file, out.scales + 16 * b);
    const std::byte *high = file + 16, *low = fifth ? high + 32 : high;
    for (std::uint64_t e = 0; e < kSuper; ++e) {
      const std::uint64_t j = e / 32, i = e % 32;
      put_bits(out.quants, 4 * (kSuper * b + e), at(low, j / 2 * 32 + i) >> (j % 2 * 4) & 15);
      if (fifth) put_bits(out.high, kSuper * b + e, at(high, i) >> j & 1);
    }
    file += fifth ? 176 : 144;
  }
}

void repack_q6_k(std::uint64_t blocks, const std::byte* file, const Parts& out) {
  std::byte* d = out.scales + 16 * blocks;
  for (std::uint64_t b = 0; b < blocks; ++b, file += 210) {
    for (std::uint64_t e = 0; e < kSuper; ++e) {
      const std::uint64_t half = e / 128, i = e % 128;
      put_bits(out.quants, 4 * (kSuper * b + e), at(file, half * 64 + i % 64) >> (i / 64 * 4) & 15);
      put_bits(out.high, 2 * (kSuper * b + e), at(file, 128 + half * 32 + i % 32) >> (i / 32 * 2) & 3);
    }
    std::memcpy(out.scales + 16 * b, file + 192, 16);
    std::memcpy(d + 2 * b, file + 208, 2);
  }
}

// Of a row of k elements in whole blocks.
struct Sizes {
  std::uint64_t quants, high, scales;
};
Sizes sizes_of(DType type, std::uint64_t k) {
  switch (type) {
    case DType::f32:
    case DType::u32: return {k * 4, 0, 0};
    case DType::u8: return {k, 0, 0};
    case DType::f16:
    case DType::bf16: return {k * 2, 0, 0};
    case DType::q8_0: return {k, 0, k / 16};
    case DType::q4_0: return {k / 2, 0, k / 16};
    case DType::q4_1: return {k / 2, 0, k / 8};
    case DType::q5_0: return {k / 2, k / 8, k / 16};
    case DType::q5_1: return {k / 2, k / 8, k / 8};
    case DType::q4_k: return {k / 2, 0, k / 16};
    case DType::q5_k: return {k / 2, k / 8, k / 16};
    case DType::q6_k: return {k / 2, k / 4, k / 16 + k / 128};
  }
  return {};
}

}  // namespace

std::uint64_t device_row_bytes(DType type, std::uint64_t k) {
  if (k % info(type).block_elems != 0) return 0;
  const Sizes s = sizes_of(type, k);
  return round_up_16(s.quants + s.high + s.scales);
}

void repack_row(DType type, std::uint64_t k, std::span<const std::byte> file, std::span<std::byte> device) {
  assert(device.size() == device_row_bytes(type, k));
  std::memset(device.data(), 0, device.size());
  const Sizes s = sizes_of(type, k);
  const Parts out{device.data(), device.data() + s.quants, device.data() + s.quants + s.high};
  const std::byte* in = file.data();
  switch (type) {
    case DType::q8_0: return repack_q8_0(k / kBlock, in, device.data());
    case DType::q4_0: return repack_small(k / kBlock, 2, false, in, out);
    case DType::q4_1: return repack_small(k / kBlock, 4, false, in, out);
    case DType::q5_0: return repack_small(k / kBlock, 2, true, in, out);
    case DType::q5_1: return repack_small(k / kBlock, 4, true, in, out);
    case DType::q4_k: return repack_k(k / kSuper, false, in, out);
    case DType::q5_k: return repack_k(k / kSuper, true, in, out);
    case DType::q6_k: return repack_q6_k(k / kSuper, in, out);
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::u32:
    case DType::u8: break;
  }
  if (!file.empty()) std::memcpy(device.data(), in, file.size());
}

}  // namespace tessera
