// What a physical device has: the report, and the features that a device is created with.
#pragma once

#include <string>
#include <vector>

#include "device/device.h"
#include "device/vk_table.h"

namespace tessera {

// The feature structs in use, chained by pNext for those that the device knows. Pinned: it points into
// itself.
struct FeatureChain {
  VkPhysicalDeviceFeatures2 core{};
  VkPhysicalDeviceVulkan11Features v11{};
  VkPhysicalDeviceVulkan12Features v12{};
  VkPhysicalDeviceSubgroupSizeControlFeatures size_control{};
  VkPhysicalDeviceShaderIntegerDotProductFeatures int_dot{};
  VkPhysicalDeviceMaintenance4Features maintenance4{};
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable{};
  VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat{};
  VkPhysicalDeviceCooperativeMatrix2FeaturesNV coopmat2{};
  VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16{};

  FeatureChain() = default;
  FeatureChain(const FeatureChain&) = delete;
  FeatureChain& operator=(const FeatureChain&) = delete;
};

// One physical device as far as this room uses it.
struct PhysicalDevice {
  VkPhysicalDevice handle = VK_NULL_HANDLE;
  DeviceReport report;
  std::uint32_t queue_family = 0;
  std::uint32_t timestamp_bits = 0;
  std::uint32_t max_allocations = 0;
  std::vector<const char*> extensions;  // to enable: those that a capability of `report` needs
};

// Reads everything; never fails: a device below the floor is described with `report.refused` set.
// `features` (may be null) receives what to enable at device creation.
PhysicalDevice describe(const InstanceTable& vk, VkPhysicalDevice handle, std::uint32_t index,
                        std::uint32_t instance_version, FeatureChain* features);

// Why a device with these figures is below the floor; empty when it is not.
std::string below_floor(const Limits& limits, std::uint32_t api_version);

}  // namespace tessera
