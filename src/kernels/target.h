// What kernel choice may know of a device.
#pragma once

#include "device/device.h"
#include "kernels/choose.h"

namespace tessera {

inline Target target_of(const Device& device) {
  const DeviceReport& r = device.report();
  return {r.limits, r.caps, r.matrices, r.rates, {}};
}

}  // namespace tessera
