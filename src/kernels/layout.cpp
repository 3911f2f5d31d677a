#include "kernels/layout.h"

#include <cassert>
#include <cstring>

namespace tessera {
namespace {

constexpr std::uint64_t kBlock = 32;  // elements that share a scale in Q8_0 and Q4_0

constexpr std::uint64_t round_up_16(std::uint64_t bytes) { return (bytes + 15) / 16 * 16; }

// File: d (f16), then 32 int8. Device: all quants, then all scales.
void repack_q8_0(std::uint64_t blocks, const std::byte* file, std::byte* device) {
  std::byte* scales = device + blocks * kBlock;
  for (std::uint64_t b = 0; b < blocks; ++b, file += 34) {
    std::memcpy(scales + 2 * b, file, 2);
    std::memcpy(device + kBlock * b, file + 2, kBlock);
  }
}

// File: d (f16), then 16 bytes whose low nibbles are elements 0..15 and high nibbles 16..31. Device: elements
// in order, the even one of a pair in the low nibble.
void repack_q4_0(std::uint64_t blocks, const std::byte* file, std::byte* device) {
  std::byte* scales = device + blocks * kBlock / 2;
  const std::byte low{0x0f};
  for (std::uint64_t b = 0; b < blocks; ++b, file += 18, device += 16) {
    std::memcpy(scales + 2 * b, file, 2);
    const std::byte* q = file + 2;
    for (std::size_t i = 0; i < 8; ++i) {
      device[i] = (q[2 * i] & low) | ((q[2 * i + 1] & low) << 4);
      device[8 + i] = (q[2 * i] >> 4) | ((q[2 * i + 1] >> 4) << 4);
    }
  }
}

}  // namespace

std::uint64_t device_row_bytes(DType type, std::uint64_t k) {
  switch (type) {
    case DType::f32:
    case DType::u32: return round_up_16(k * 4);
    case DType::u8: return round_up_16(k);
    case DType::f16:
    case DType::bf16: return round_up_16(k * 2);
    case DType::q8_0: return k % kBlock ? 0 : round_up_16(k + k / kBlock * 2);
    case DType::q4_0: return k % kBlock ? 0 : round_up_16(k / 2 + k / kBlock * 2);
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k: break;  // no kernel reads them
  }
  return 0;
}

void repack_row(DType type, std::uint64_t k, std::span<const std::byte> file, std::span<std::byte> device) {
  assert(device.size() == device_row_bytes(type, k));
  std::memset(device.data(), 0, device.size());
  if (type == DType::q8_0) return repack_q8_0(k / kBlock, file.data(), device.data());
  if (type == DType::q4_0) return repack_q4_0(k / kBlock, file.data(), device.data());
  std::memcpy(device.data(), file.data(), file.size());
}

}  // namespace tessera
