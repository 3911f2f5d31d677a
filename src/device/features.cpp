#include "device/features.h"

#include <vector>

namespace tessera {
namespace {

#define TSR_USED(structure, place, member, use, required)                                            \
  UsedFeature {                                                                                      \
#structure, #member, use, required, [](FeatureChain & f) -> VkBool32& { return f.place.member; } \
  }
constexpr UsedFeature kUsed[] = {
    TSR_USED(VkPhysicalDeviceVulkan12Features, v12, timelineSemaphore, "knowing when work is done", true),
    TSR_USED(VkPhysicalDeviceVulkan11Features, v11, storageBuffer16BitAccess, "capability storage16", false),
    TSR_USED(VkPhysicalDeviceVulkan12Features, v12, storageBuffer8BitAccess, "capability storage8", false),
    TSR_USED(VkPhysicalDeviceVulkan12Features, v12, shaderFloat16, "capability fp16: matrix units", false),
    TSR_USED(VkPhysicalDeviceVulkan12Features, v12, shaderInt8, "capability int8", false),
    TSR_USED(VkPhysicalDeviceVulkan12Features, v12, vulkanMemoryModel, "capability coopmat: matrix units",
             false),
    TSR_USED(VkPhysicalDeviceSubgroupSizeControlFeatures, size_control, subgroupSizeControl,
             "capability subgroup_size_control: matrix units and kernels that count subgroups", false),
    TSR_USED(VkPhysicalDeviceSubgroupSizeControlFeatures, size_control, computeFullSubgroups,
             "capability subgroup_size_control", false),
    TSR_USED(VkPhysicalDeviceShaderIntegerDotProductFeatures, int_dot, shaderIntegerDotProduct,
             "capability int_dot: products of 8-bit integers in mixed precision", false),
    TSR_USED(VkPhysicalDeviceMaintenance4Features, maintenance4, maintenance4,
             "capability coopmat2: its modules are SPIR-V 1.6", false),
    TSR_USED(VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR, executable, pipelineExecutableInfo,
             "capability executable_properties: statistics of shaders", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrixFeaturesKHR, coopmat, cooperativeMatrix,
             "capability coopmat: matrix units", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixWorkgroupScope,
             "capability coopmat2: matrices of a workgroup", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixFlexibleDimensions,
             "capability coopmat2", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixReductions,
             "capability coopmat2", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixConversions,
             "capability coopmat2", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixPerElementOperations,
             "capability coopmat2", false),
    TSR_USED(VkPhysicalDeviceCooperativeMatrix2FeaturesNV, coopmat2, cooperativeMatrixTensorAddressing,
             "capability coopmat2", false),
    TSR_USED(VkPhysicalDeviceShaderBfloat16FeaturesKHR, bf16, shaderBFloat16Type, "capability bf16", false),
};
#undef TSR_USED

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

std::span<const UsedFeature> used_features() { return kUsed; }

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

void keep_used(FeatureChain& f) {
  std::vector<VkBool32> kept;
  for (const UsedFeature& u : kUsed) kept.push_back(u.in(f));
  clear_all(f);
  for (std::size_t i = 0; i < kept.size(); ++i) kUsed[i].in(f) = kept[i];
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
