// The logical device and what every object made on it needs. Internal to the room.
#pragma once

#include <atomic>

#include "device/instance_impl.h"

namespace tessera {

struct Gpu {
  std::shared_ptr<InstanceImpl> instance;
  PhysicalDevice physical;  // report.limits and .caps with the overrides applied
  VkDevice device = VK_NULL_HANDLE;
  bool adopted = false;  // the device is a host's
  HostCalls host;
  DeviceTable vk;
  VkPhysicalDeviceMemoryProperties memory{};
  bool memory_budget = false;
  Log log;
  std::atomic<bool> lost = false;
  // Does not finish its work. What that may use is leaked: destroying it could crash the host.
  std::atomic<bool> hung = false;
  std::atomic<std::uint32_t> allocations = 0;
  std::atomic<std::uint64_t> records = 0;
  std::uint64_t budget = 0;                              // of `bytes`; 0: none
  std::atomic<std::uint64_t> bytes = 0, peak_bytes = 0;  // allocated
  bool two_families = false;                             // the lanes' queues are of different ones

  Gpu() = default;
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  ~Gpu() {
    if (device && !adopted && vk.DestroyDevice) vk.DestroyDevice(device, allocator());
  }

  const VkAllocationCallbacks* allocator() const { return instance->allocator(); }
  const Limits& limits() const { return physical.report.limits; }
  // vk_error, remembering a lost device.
  Error error(VkResult result, const std::string& what) {
    if (result == VK_ERROR_DEVICE_LOST) lost = true;
    return vk_error(result, what);
  }
};

inline Error lost_error() { return {Code::device_lost, "the Vulkan device was lost earlier"}; }

}  // namespace tessera
