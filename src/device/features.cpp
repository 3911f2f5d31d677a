#include "device/features.h"

#include <cstddef>
#include <type_traits>
#include <vector>

namespace tessera {
namespace {

#define TSR_PLACE(structure, TYPE, member) \
  FeaturePlace { #structure, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##TYPE, offsetof(structure, member) }
#define TSR_FEATURE(structure, TYPE, chain, member, other, cap, use, required) \
  UsedFeature {                                                                \
#member, TSR_PLACE(structure, TYPE, member), other, cap, use, required,    \
        [](FeatureChain & f) -> VkBool32& { return f.chain.member; }           \
  }
constexpr FeaturePlace kNone{};
constexpr UsedFeature kFeatures[] = {
    TSR_FEATURE(
        VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, v12, timelineSemaphore,
        TSR_PLACE(VkPhysicalDeviceTimelineSemaphoreFeatures, TIMELINE_SEMAPHORE_FEATURES, timelineSemaphore),
        nullptr, "knowing when work is done", true),
    TSR_FEATURE(
        VkPhysicalDeviceVulkan11Features, VULKAN_1_1_FEATURES, v11, storageBuffer16BitAccess,
        TSR_PLACE(VkPhysicalDevice16BitStorageFeatures, 16BIT_STORAGE_FEATURES, storageBuffer16BitAccess),
        &Caps::storage16, "capability storage16", false),
    TSR_FEATURE(
        VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, v12, storageBuffer8BitAccess,
        TSR_PLACE(VkPhysicalDevice8BitStorageFeatures, 8BIT_STORAGE_FEATURES, storageBuffer8BitAccess),
        &Caps::storage8, "capability storage8", false),
    TSR_FEATURE(
        VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, v12, shaderFloat16,
        TSR_PLACE(VkPhysicalDeviceShaderFloat16Int8Features, SHADER_FLOAT16_INT8_FEATURES, shaderFloat16),
        &Caps::fp16, "capability fp16: matrix units", false),
    TSR_FEATURE(
        VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, v12, shaderInt8,
        TSR_PLACE(VkPhysicalDeviceShaderFloat16Int8Features, SHADER_FLOAT16_INT8_FEATURES, shaderInt8),
        &Caps::int8, "capability int8", false),
    TSR_FEATURE(
        VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, v12, vulkanMemoryModel,
        TSR_PLACE(VkPhysicalDeviceVulkanMemoryModelFeatures, VULKAN_MEMORY_MODEL_FEATURES, vulkanMemoryModel),
        &Caps::coopmat, "capability coopmat: matrix units", false),
    TSR_FEATURE(VkPhysicalDeviceVulkan13Features, VULKAN_1_3_FEATURES, v13, subgroupSizeControl,
                TSR_PLACE(VkPhysicalDeviceSubgroupSizeControlFeatures, SUBGROUP_SIZE_CONTROL_FEATURES,
                          subgroupSizeControl),
                &Caps::subgroup_size_control,
                "capability subgroup_size_control: matrix units, and kernels that count subgroups", false),
    TSR_FEATURE(VkPhysicalDeviceVulkan13Features, VULKAN_1_3_FEATURES, v13, computeFullSubgroups,
                TSR_PLACE(VkPhysicalDeviceSubgroupSizeControlFeatures, SUBGROUP_SIZE_CONTROL_FEATURES,
                          computeFullSubgroups),
                &Caps::subgroup_size_control, "capability subgroup_size_control", false),
    TSR_FEATURE(VkPhysicalDeviceVulkan13Features, VULKAN_1_3_FEATURES, v13, shaderIntegerDotProduct,
                TSR_PLACE(VkPhysicalDeviceShaderIntegerDotProductFeatures,
                          SHADER_INTEGER_DOT_PRODUCT_FEATURES, shaderIntegerDotProduct),
                &Caps::int_dot, "capability int_dot: products of 8-bit integers in mixed precision", false),
    TSR_FEATURE(VkPhysicalDeviceVulkan13Features, VULKAN_1_3_FEATURES, v13, maintenance4,
                TSR_PLACE(VkPhysicalDeviceMaintenance4Features, MAINTENANCE_4_FEATURES, maintenance4),
                nullptr, "capability coopmat2: its modules are SPIR-V 1.6", false),
    TSR_FEATURE(VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR,
                PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, executable, pipelineExecutableInfo, kNone,
                &Caps::executable_properties, "capability executable_properties: statistics of shaders",
                false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrixFeaturesKHR, COOPERATIVE_MATRIX_FEATURES_KHR, coopmat,
                cooperativeMatrix, kNone, &Caps::coopmat, "capability coopmat: matrix units", false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, COOPERATIVE_MATRIX_2_FEATURES_NV, coopmat2,
                cooperativeMatrixWorkgroupScope, kNone, &Caps::coopmat2,
                "capability coopmat2: matrices of a workgroup", false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, COOPERATIVE_MATRIX_2_FEATURES_NV, coopmat2,
                cooperativeMatrixFlexibleDimensions, kNone, &Caps::coopmat2, "capability coopmat2", false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, COOPERATIVE_MATRIX_2_FEATURES_NV, coopmat2,
                cooperativeMatrixReductions, kNone, &Caps::coopmat2, "capability coopmat2", false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, COOPERATIVE_MATRIX_2_FEATURES_NV, coopmat2,
                cooperativeMatrixConversions, kNone, &Caps::coopmat2, "capability coopmat2", false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, COOPERATIVE_MATRIX_2_FEATURES_NV, coopmat2,
                cooperativeMatrixPerElementOperations, kNone, &Caps::coopmat2, "capability coopmat2", false),
    TSR_FEATURE(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, COOPERATIVE_MATRIX_2_FEATURES_NV, coopmat2,
                cooperativeMatrixTensorAddressing, kNone, &Caps::coopmat2, "capability coopmat2", false),
    TSR_FEATURE(VkPhysicalDeviceShaderBfloat16FeaturesKHR, SHADER_BFLOAT16_FEATURES_KHR, bf16,
                shaderBFloat16Type, kNone, &Caps::bf16, "capability bf16", false),
};
#undef TSR_FEATURE
#undef TSR_PLACE

constexpr UsedExtension kExtensions[] = {
    {kPortabilitySubset, nullptr, "Vulkan asks for it wherever it exists", false, true},
    {VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME, &Caps::subgroup_size_control,
     "capability subgroup_size_control", true, false},
    {VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME, &Caps::int_dot, "capability int_dot", true, false},
    {VK_KHR_MAINTENANCE_4_EXTENSION_NAME, nullptr, "how large a buffer may be", true, false},
    {VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME, &Caps::executable_properties,
     "capability executable_properties: statistics of shaders", false, false},
    {VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, &Caps::coopmat, "capability coopmat: matrix units", false,
     false},
    {VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME, &Caps::coopmat2, "capability coopmat2", false, false},
    {VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME, &Caps::bf16, "capability bf16", false, false},
    {VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, &Caps::memory_budget, nullptr, false, false},
    {VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME, &Caps::push_descriptor, nullptr, false, false},
    {VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME, &Caps::global_priority, nullptr, false, false},
    {VK_EXT_GLOBAL_PRIORITY_EXTENSION_NAME, &Caps::global_priority, nullptr, false, false},
};

// Where a feature stands in the struct `s`; null when that struct does not have it.
template <typename Struct>
auto* find_in(Struct* s, const UsedFeature& u) {
  using Bytes = std::conditional_t<std::is_const_v<Struct>, const std::byte, std::byte>;
  using Bool = std::conditional_t<std::is_const_v<Struct>, const VkBool32, VkBool32>;
  for (const FeaturePlace& place : {u.place, u.other})
    if (place.type == s->sType && place.offset != 0)
      return reinterpret_cast<Bool*>(reinterpret_cast<Bytes*>(s) + place.offset);
  return static_cast<Bool*>(nullptr);
}

// Back to nothing but the type and the place in the chain.
template <typename T>
void clear(T& s) {
  T blank{};
  blank.sType = s.sType;
  blank.pNext = s.pNext;
  s = blank;
}

void clear_all(FeatureChain& f) {
  clear(f.core);
  clear(f.v11);
  clear(f.v12);
  clear(f.v13);
  clear(f.size_control);
  clear(f.int_dot);
  clear(f.maintenance4);
  clear(f.executable);
  clear(f.coopmat);
  clear(f.coopmat2);
  clear(f.bf16);
}

}  // namespace

std::span<const UsedFeature> used_features() { return kFeatures; }

std::span<const UsedExtension> used_extensions() { return kExtensions; }

void chain_features(FeatureChain& f, const Known& known) {
  f.core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
  void** tail = &f.core.pNext;
  link(tail, f.v11, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES);
  link(tail, f.v12, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES);
  if (known.v13) {  // contains the next three, which may not stand beside it
    link(tail, f.v13, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES);
  } else {
    if (known.size_control())
      link(tail, f.size_control, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES);
    if (known.int_dot())
      link(tail, f.int_dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES);
    if (known.maintenance4())
      link(tail, f.maintenance4, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES);
  }
  if (known.executable())
    link(tail, f.executable, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR);
  if (known.coopmat())
    link(tail, f.coopmat, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
  if (known.coopmat2())
    link(tail, f.coopmat2, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV);
  if (known.bf16()) link(tail, f.bf16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR);
}

void keep_used(FeatureChain& f, const Known& enabled, const Caps& caps) {
  std::vector<VkBool32> kept;
  for (const UsedFeature& u : kFeatures) kept.push_back(!u.cap || caps.*u.cap ? u.in(f) : VK_FALSE);
  clear_all(f);
  for (std::size_t i = 0; i < kept.size(); ++i) kFeatures[i].in(f) = kept[i];
  chain_features(f, enabled);
  write_enabled(f, &f.core);
}

void read_enabled(const void* chain, FeatureChain& f) {
  for (auto* s = static_cast<const VkBaseInStructure*>(chain); s; s = s->pNext)
    for (const UsedFeature& u : kFeatures)
      if (const VkBool32* on = find_in(s, u); on && *on) u.in(f) = VK_TRUE;
}

void read_enabled(const void* chain, const Known& known, FeatureChain& f) {
  FeatureChain all;
  read_enabled(chain, all);
  // What stands in the chain without its extension is not enabled.
  chain_features(f, known);
  write_enabled(all, &f.core);
  read_enabled(&f.core, f);
}

std::uint32_t write_enabled(FeatureChain& wanted, void* chain) {
  std::uint32_t left = 0;
  for (const UsedFeature& u : kFeatures) {
    if (!u.in(wanted)) continue;
    bool found = false;
    for (auto* s = static_cast<VkBaseOutStructure*>(chain); s; s = s->pNext)
      if (VkBool32* const on = find_in(s, u)) {
        *on = VK_TRUE;
        found = true;
      }
    if (!found) ++left;
  }
  return left;
}

}  // namespace tessera
