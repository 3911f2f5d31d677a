// FNV-1a, 64 bits: finds damage, not malice. A byte at a time, some 1 GB/s.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tessera {

inline constexpr std::uint64_t kChecksumStart = 0xcbf29ce484222325;

// Of `bytes` after those that gave `sum`.
inline std::uint64_t checksum(std::uint64_t sum, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) sum = (sum ^ static_cast<std::uint64_t>(b)) * 0x100000001b3;
  return sum;
}

}  // namespace tessera
