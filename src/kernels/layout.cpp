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

// Nibbles of `count` bytes in order: the low ones to `low`, the high ones to `high`.
void split_nibbles(const std::byte* in, std::uint64_t count, std::byte* low, std::byte* high) {
  for (std::uint64_t i = 0; i < count / 2; ++i) {
    const std::byte a = in[2 * i], b = in[2 * i + 1];
    low[i] = (a & std::byte{15}) | b << 4;
    high[i] = a >> 4 | (b & std::byte{0xf0});
  }
}

// 8 x 8 bits, rows in bytes, transposed by exchanging ever larger squares (Warren, "Hacker's Delight", 7-3).
std::uint64_t transpose(std::uint64_t x) {
  std::uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;
  x ^= t ^ t << 7;
  t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
  x ^= t ^ t << 14;
  t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
  return x ^ t ^ t << 28;
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
    std::byte* quants = out.quants + kBlock / 2 * b;
    split_nibbles(file, 16, quants, quants + 8);
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

// File: 32 bytes, bit j of byte i that of element 32 j + i. Device: in order.
void repack_fifth_bits(const std::byte* file, std::byte* device) {
  for (std::uint64_t i = 0; i < 32; i += 8) {
    std::uint64_t rows = 0;
    for (std::uint64_t r = 0; r < 8; ++r) rows |= std::uint64_t{at(file, i + r)} << 8 * r;
    rows = transpose(rows);
    for (std::uint64_t j = 0; j < 8; ++j) device[4 * j + i / 8] = static_cast<std::byte>(rows >> 8 * j);
  }
}

// File: header, fifth bits, then of every 64 elements 32 bytes: the first half low nibbles, the other high.
void repack_k(std::uint64_t blocks, bool fifth, const std::byte* file, const Parts& out) {
  for (std::uint64_t b = 0; b < blocks; ++b) {
    repack_header(file, out.scales + 16 * b);
    file += 16;
    if (fifth) {
      repack_fifth_bits(file, out.high + kSuper / 8 * b);
      file += 32;
    }
    for (std::byte* quants = out.quants + kSuper / 2 * b; quants != out.quants + kSuper / 2 * (b + 1);
         quants += 32, file += 32)
      split_nibbles(file, 32, quants, quants + 16);
  }
}

// File: 32 bytes, bit pair j of byte i that of element 32 j + i. Device: in order.
void repack_pairs(const std::byte* file, std::byte* device) {
  for (std::uint64_t i = 0; i < 32; i += 4) {
    const unsigned four = at(file, i) | at(file, i + 1) << 8 | at(file, i + 2) << 16 | at(file, i + 3) << 24;
    for (std::uint64_t j = 0; j < 4; ++j) {
      const unsigned pairs = four >> 2 * j & 0x03030303u;
      device[8 * j + i / 4] = static_cast<std::byte>(pairs | pairs >> 6 | pairs >> 12 | pairs >> 18);
    }
  }
}

// File: of each half 64 bytes of nibbles, of each half 32 bytes of pairs, 16 scales, d.
void repack_q6_k(std::uint64_t blocks, const std::byte* file, const Parts& out) {
  std::byte* d = out.scales + 16 * blocks;
  for (std::uint64_t b = 0; b < blocks; ++b, file += 210) {
    for (std::uint64_t half = 0; half < 2; ++half) {
      std::byte* quants = out.quants + kSuper / 2 * b + 64 * half;
      split_nibbles(file + 64 * half, 64, quants, quants + 32);
      repack_pairs(file + 128 + 32 * half, out.high + kSuper / 4 * b + 32 * half);
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

std::uint32_t chunk_elems(DType type) {
  switch (type) {
    case DType::f32: return 4;
    case DType::f16:
    case DType::bf16: return 8;
    case DType::q8_0: return 16;
    default: return 32;
  }
}

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
