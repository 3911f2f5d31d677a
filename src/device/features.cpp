#include "device/features.h"

#include <vector>

namespace tessera {
namespace {

#define TSR_USED(structure, place, member, cap, use, required)                                            \
  UsedFeature {                                                                                           \
#structure, #member, cap, use, required, [](FeatureChain & f) -> VkBool32& { return f.place.member; } \
  }
#define TSR_OPTIONAL(structure, place, member, cap, use) \
  TSR_USED(structure, place, member, &Caps::cap, use, false)
constexpr UsedFeature kFeatures[] = {
    TSR_USED(VkPhysicalDeviceVulkan12Features, v12, timelineSemaphore, nullptr, "knowing when work is done",
             true),
    TSR_OPTIONAL(VkPhysicalDeviceVulkan11Features, v11, storageBuffer16BitAccess, storage16,
                 "capability storage16"),
    TSR_OPTIONAL(VkPhysicalDeviceVulkan12Features, v12, storageBuffer8BitAccess, storage8,
                 "capability storage8"),
    TSR_OPTIONAL(VkPhysicalDeviceVulkan12Features, v12, shaderFloat16, fp16, "capability fp16: matrix units"),
    TSR_OPTIONAL(VkPhysicalDeviceVulkan12Features, v12, shaderInt8, int8, "capability int8"),
    TSR_OPTIONAL(VkPhysicalDeviceVulkan12Features, v12, vulkanMemoryModel, coopmat,
                 "capability coopmat: matrix units"),
    TSR_OPTIONAL(VkPhysicalDeviceSubgroupSizeControlFeatures, size_control, subgroupSizeControl,
                 subgroup_size_control,
                 "capability subgroup_size_control: matrix units, and kernels that count subgroups"),
    TSR_OPTIONAL(VkPhysicalDeviceSubgroupSizeControlFeatures, size_control, computeFullSubgroups,
                 subgroup_size_control, "capability subgroup_size_control"),
    TSR_OPTIONAL(VkPhysicalDeviceShaderIntegerDotProductFeatures, int_dot, shaderIntegerDotProduct, int_dot,
                 "capability int_dot: products of 8-bit integers in mixed precision"),
    TSR_USED(VkPhysicalDeviceMaintenance4Features, maintenance4, maintenance4, nullptr,
             "capability coopmat2: its modules are SPIR-V 1.6", false),
    TSR_OPTIONAL(VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR, executable, pipelineExecutableInfo,
                 executable_properties, "capability executable_properties: statistics of shaders"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrixFeaturesKHR, coopmat, cooperativeMatrix, coopmat,
                 "capability coopmat: matrix units"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixWorkgroupScope,
                 coopmat2, "capability coopmat2: matrices of a workgroup"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixFlexibleDimensions,
                 coopmat2, "capability coopmat2"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixReductions,
                 coopmat2, "capability coopmat2"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixConversions,
                 coopmat2, "capability coopmat2"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2,
                 cooperativeMatrixPerElementOperations, coopmat2, "capability coopmat2"),
    TSR_OPTIONAL(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixTensorAddressing,
                 coopmat2, "capability coopmat2"),
    TSR_OPTIONAL(VkPhysicalDeviceShaderBfloat16FeaturesKHR, bf16, shaderBFloat16Type, bf16,
                 "capability bf16"),
};
#undef TSR_OPTIONAL
#undef TSR_USED

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

// `to` as the struct that `from` is, but in its own chain.
template <typename T>
void take(T& to, const VkBaseInStructure* from) {
  void* const next = to.pNext;
  to = *reinterpret_cast<const T*>(from);
  to.pNext = next;
}

template <typename T>
const T& as(const VkBaseInStructure* s) {
  return *reinterpret_cast<const T*>(s);
}

// The structs of single features that later versions of Vulkan gathered, and the one that gathers more than
// is used.
void take_equivalent(FeatureChain& f, const VkBaseInStructure* s) {
  switch (s->sType) {
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES:
      f.v11.storageBuffer16BitAccess = as<VkPhysicalDevice16BitStorageFeatures>(s).storageBuffer16BitAccess;
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES:
      f.v12.storageBuffer8BitAccess = as<VkPhysicalDevice8BitStorageFeatures>(s).storageBuffer8BitAccess;
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES:
      f.v12.shaderFloat16 = as<VkPhysicalDeviceShaderFloat16Int8Features>(s).shaderFloat16;
      f.v12.shaderInt8 = as<VkPhysicalDeviceShaderFloat16Int8Features>(s).shaderInt8;
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES:
      f.v12.timelineSemaphore = as<VkPhysicalDeviceTimelineSemaphoreFeatures>(s).timelineSemaphore;
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES:
      f.v12.vulkanMemoryModel = as<VkPhysicalDeviceVulkanMemoryModelFeatures>(s).vulkanMemoryModel;
      break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES: {
      const auto& v13 = as<VkPhysicalDeviceVulkan13Features>(s);
      f.size_control.subgroupSizeControl = v13.subgroupSizeControl;
      f.size_control.computeFullSubgroups = v13.computeFullSubgroups;
      f.int_dot.shaderIntegerDotProduct = v13.shaderIntegerDotProduct;
      f.maintenance4.maintenance4 = v13.maintenance4;
      break;
    }
    default: break;
  }
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
  if (known.size_control())
    link(tail, f.size_control, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES);
  if (known.int_dot())
    link(tail, f.int_dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES);
  if (known.maintenance4())
    link(tail, f.maintenance4, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES);
  if (known.executable())
    link(tail, f.executable, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR);
  if (known.coopmat())
    link(tail, f.coopmat, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
  if (known.coopmat2())
    link(tail, f.coopmat2, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV);
  if (known.bf16()) link(tail, f.bf16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR);
}

void keep_used(FeatureChain& f, const Caps& caps) {
  std::vector<VkBool32> kept;
  for (const UsedFeature& u : kFeatures) kept.push_back(!u.cap || caps.*u.cap ? u.in(f) : VK_FALSE);
  clear_all(f);
  for (std::size_t i = 0; i < kept.size(); ++i) kFeatures[i].in(f) = kept[i];
}

void read_enabled(const void* chain, const Known& known, FeatureChain& f) {
  chain_features(f, known);
  for (auto* s = static_cast<const VkBaseInStructure*>(chain); s; s = s->pNext) {
    switch (static_cast<std::uint32_t>(s->sType)) {  // older headers' enumeration lacks some
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES: take(f.v11, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES: take(f.v12, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES: take(f.size_control, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES: take(f.int_dot, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES: take(f.maintenance4, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR:
        take(f.executable, s);
        break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR: take(f.coopmat, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV: take(f.coopmat2, s); break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR: take(f.bf16, s); break;
      default: take_equivalent(f, s); break;
    }
  }
  // What stands in the chain without its extension is not enabled.
  if (!known.size_control()) clear(f.size_control);
  if (!known.int_dot()) clear(f.int_dot);
  if (!known.maintenance4()) clear(f.maintenance4);
  if (!known.executable()) clear(f.executable);
  if (!known.coopmat()) clear(f.coopmat);
  if (!known.coopmat2()) clear(f.coopmat2);
  if (!known.bf16()) clear(f.bf16);
}

}  // namespace tessera
