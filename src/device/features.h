// The device extensions and features that are used, as Vulkan's structs and by name.
#pragma once

#include <set>
#include <span>
#include <string>

#include "device/limits.h"
#include "device/vulkan_extra.h"

namespace tessera {

// The feature structs in use, chained by pNext for those that the device knows. UsedFeature::in is what holds
// a feature, also where that struct is not chained and the one of the feature alone is. Pinned: it points
// into itself.
struct FeatureChain {
  VkPhysicalDeviceFeatures2 core{};
  VkPhysicalDeviceVulkan11Features v11{};
  VkPhysicalDeviceVulkan12Features v12{};
  VkPhysicalDeviceVulkan13Features v13{};
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

// What decides whether a struct may be chained: the version, or an extension.
struct Known {
  std::set<std::string> extensions;
  bool v13 = false;
  bool has(const char* name) const { return extensions.contains(name); }
  bool size_control() const { return v13 || has(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME); }
  bool int_dot() const { return v13 || has(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME); }
  bool maintenance4() const { return v13 || has(VK_KHR_MAINTENANCE_4_EXTENSION_NAME); }
  bool executable() const { return has(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME); }
  bool coopmat() const { return has(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME); }
  // Its modules are SPIR-V 1.6.
  bool coopmat2() const { return v13 && coopmat() && has(VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME); }
  bool bf16() const { return has(VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME); }
  bool global_priority() const {
    return has(VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME) || has(VK_EXT_GLOBAL_PRIORITY_EXTENSION_NAME);
  }
};

// Links `next` after the struct that `tail` ends in.
template <typename T>
void link(void**& tail, T& next, VkStructureType type) {
  next.sType = type;
  next.pNext = nullptr;
  *tail = &next;
  tail = &next.pNext;
}

// A chain for VkDeviceCreateInfo or vkGetPhysicalDeviceFeatures2. No struct in it contains another's
// features.
void chain_features(FeatureChain& features, const Known& known);
// Leaves on only used_features() of the capabilities (robust access and the like cost time), in a chain of
// what is enabled.
void keep_used(FeatureChain& features, const Known& enabled, const Caps& caps);
// Adds what a chain has on.
void read_enabled(const void* chain, FeatureChain& out);
// What a pNext chain of VkDeviceCreateInfo enables of what `known` has.
void read_enabled(const void* chain, const Known& known, FeatureChain& out);
// Sets in such a chain what `wanted` has on; how many of these have no place in it.
std::uint32_t write_enabled(FeatureChain& wanted, void* chain);

// A member of the struct of that type.
struct FeaturePlace {
  const char* structure;
  VkStructureType type;
  std::size_t offset;
};

struct UsedFeature {
  const char* member;
  FeaturePlace place;
  FeaturePlace other;  // of a struct with that feature alone; type 0: none
  bool Caps::*cap;     // enabled with it; null: always, where it is
  const char* use;     // what for
  bool required;
  VkBool32& (*in)(FeatureChain&);
  // The one that chain_features takes.
  const char* structure(const Known& known) const {
    const bool later = place.type == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES && !known.v13;
    return later ? other.structure : place.structure;
  }
};
std::span<const UsedFeature> used_features();

struct UsedExtension {
  const char* name;
  bool Caps::*cap;  // as above
  const char* use;  // null: of use on own devices only
  bool in_13;       // part of Vulkan 1.3
  bool required;    // where it exists
  bool wanted(const Known& known, const Caps& caps) const {
    return known.has(name) && !(in_13 && known.v13) && (!cap || caps.*cap);
  }
};
std::span<const UsedExtension> used_extensions();

}  // namespace tessera
