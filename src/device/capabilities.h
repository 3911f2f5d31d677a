// What a physical device has: the report, and the features that a device is created with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "device/features.h"
#include "device/vk_table.h"

namespace tessera {

// One physical device as far as this room uses it.
struct PhysicalDevice {
  VkPhysicalDevice handle = VK_NULL_HANDLE;
  DeviceReport report;
  std::uint32_t queue_family = 0;
  std::optional<std::uint32_t> transfer_family;  // another than queue_family
  std::uint32_t timestamp_bits = 0;
  std::uint32_t max_allocations = 0;
  Known known;
  std::vector<const char*> extensions;  // to enable: those that a capability of `report` needs
};

// Reads everything; never fails: a device below the floor is described with `report.refused` set.
// `features` (may be null) receives what to enable at device creation. With a host's device, what it enabled
// is all there is.
PhysicalDevice describe(const InstanceTable& vk, VkPhysicalDevice handle, std::uint32_t index,
                        std::uint32_t instance_version, FeatureChain* features,
                        const HostDevice* host = nullptr);

// Sets what to enable for the capabilities that device.report has (left).
void choose_enabled(PhysicalDevice& device, FeatureChain& features);

std::vector<VkQueueFamilyProperties> queue_families(const InstanceTable& vk, VkPhysicalDevice handle);
// The first family with all of `with` and none of `without`.
std::optional<std::uint32_t> find_family(const std::vector<VkQueueFamilyProperties>& families,
                                         VkQueueFlags with, VkQueueFlags without);

// Why a device with these figures is below the floor; empty when it is not.
std::string below_floor(const Limits& limits, std::uint32_t api_version);

}  // namespace tessera
