// The wrapping of a driver's pipeline-cache bytes: drivers crash on damaged ones, so ours are checked first.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "device/device.h"

namespace tessera {

std::vector<std::byte> wrap_cache(const DeviceReport& device, std::span<const std::byte> payload);

struct UnwrappedCache {
  std::span<const std::byte> payload;  // into the blob; empty when it may not be used
  std::string ignored;                 // why; empty when it may
};
UnwrappedCache unwrap_cache(const DeviceReport& device, std::span<const std::byte> blob);

}  // namespace tessera
