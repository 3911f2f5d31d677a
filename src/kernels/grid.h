// Folding of a list of workgroups over the three dimensions of a dispatch, and sizes of workgroups.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "device/limits.h"

namespace tessera {

constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }

// The smallest grid of at least `groups` workgroups within `limits`: x first, then y, then z. The shader gets
// its x and y as push values, finds its number with group_index() and leaves when it is past the end.
inline Result<std::array<std::uint32_t, 3>> fold_grid(std::uint64_t groups, const Limits& limits,
                                                      const std::string& what) {
  const auto& max = limits.max_group_count;
  const std::uint64_t x = std::clamp<std::uint64_t>(groups, 1, max[0]);
  const std::uint64_t y = std::clamp<std::uint64_t>(ceil_div(groups, x), 1, max[1]);
  const std::uint64_t z = std::max<std::uint64_t>(1, ceil_div(groups, x * y));
  if (z > max[2] || groups > 0xffffffffull)
    return Error{Code::unsupported,
                 what + " needs " + std::to_string(groups) +
                     " workgroups, more than this device's maxComputeWorkGroupCount allows"};
  return std::array<std::uint32_t, 3>{static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y),
                                      static_cast<std::uint32_t>(z)};
}

// The power of two nearest above `wanted` that a one-dimensional workgroup may have, at most `most`.
inline std::uint32_t group_size(std::uint64_t wanted, std::uint32_t most, const Limits& limits) {
  const std::uint32_t limit = std::min({most, limits.max_group_invocations, limits.max_group_size[0]});
  std::uint32_t size = 1;
  while (size < wanted && size * 2 <= limit) size *= 2;
  return size;
}

}  // namespace tessera
