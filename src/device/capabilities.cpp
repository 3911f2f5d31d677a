#include "device/capabilities.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "device/matrices_query.h"

namespace tessera {
namespace {

std::set<std::string> extension_names(const InstanceTable& vk, VkPhysicalDevice handle) {
  std::vector<VkExtensionProperties> all;
  read_all(all, {}, [&](std::uint32_t* count, VkExtensionProperties* out) {
    return vk.EnumerateDeviceExtensionProperties(handle, nullptr, count, out);
  });
  std::set<std::string> names;
  for (const auto& e : all) names.insert(e.extensionName);
  return names;
}

struct Properties {
  VkPhysicalDeviceProperties2 core{};
  VkPhysicalDeviceVulkan11Properties v11{};
  VkPhysicalDeviceVulkan12Properties v12{};
  VkPhysicalDeviceSubgroupSizeControlProperties size_control{};
  VkPhysicalDeviceShaderIntegerDotProductProperties int_dot{};
  VkPhysicalDeviceMaintenance4Properties maintenance4{};
  VkPhysicalDeviceCooperativeMatrixPropertiesKHR coopmat{};
  VkPhysicalDeviceCooperativeMatrix2PropertiesNV coopmat2{};
};

void read_properties(const InstanceTable& vk, VkPhysicalDevice handle, const Known& known, Properties& p) {
  p.core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
  void** tail = &p.core.pNext;
  link(tail, p.v11, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES);
  link(tail, p.v12, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES);
  if (known.size_control())
    link(tail, p.size_control, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES);
  if (known.int_dot())
    link(tail, p.int_dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES);
  if (known.maintenance4())
    link(tail, p.maintenance4, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES);
  if (known.coopmat())
    link(tail, p.coopmat, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR);
  if (known.coopmat2())
    link(tail, p.coopmat2, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV);
  vk.GetPhysicalDeviceProperties2(handle, &p.core);
}

Limits limits_from(const Properties& p, const Known& known, const Caps& caps, float timestamp_ns) {
  const VkPhysicalDeviceLimits& l = p.core.properties.limits;
  Limits out;
  out.max_buffer_size = p.v11.maxMemoryAllocationSize;
  if (known.maintenance4())
    out.max_buffer_size = std::min<std::uint64_t>(out.max_buffer_size, p.maintenance4.maxBufferSize);
  // Some drivers say 2^32 - 1: whole vec4s fit below it.
  out.max_buffer_size = out.max_buffer_size / 16 * 16;
  out.max_storage_range =
      std::min<std::uint64_t>(std::uint64_t{l.maxStorageBufferRange} / 16 * 16, out.max_buffer_size);
  // At least 16, so that a window of vec4 stays aligned to its element.
  out.min_storage_alignment =
      std::max<std::uint32_t>(16, static_cast<std::uint32_t>(l.minStorageBufferOffsetAlignment));
  out.max_bindings = std::min(l.maxPerStageDescriptorStorageBuffers, l.maxDescriptorSetStorageBuffers);
  out.max_group_invocations = l.maxComputeWorkGroupInvocations;
  std::copy_n(l.maxComputeWorkGroupSize, 3, out.max_group_size.begin());
  std::copy_n(l.maxComputeWorkGroupCount, 3, out.max_group_count.begin());
  out.max_shared_bytes = l.maxComputeSharedMemorySize;
  out.max_push_bytes = l.maxPushConstantsSize;
  out.subgroup_size = std::max(p.v11.subgroupSize, 1u);
  out.min_subgroup_size = out.max_subgroup_size = out.subgroup_size;
  if (caps.subgroup_size_control) {
    out.min_subgroup_size = p.size_control.minSubgroupSize;
    out.max_subgroup_size = p.size_control.maxSubgroupSize;
  }
  // LP_MAX_TGSI_LOOP_ITERATIONS of Mesa's src/gallium/auxiliary/gallivm/lp_bld_limits.h.
  if (p.v12.driverID == VK_DRIVER_ID_MESA_LLVMPIPE) out.max_loop_iterations = 65535;
  out.timestamp_ns =
      std::isfinite(timestamp_ns) ? timestamp_ns : 0;  // drivers that only compile say infinity
  return out;
}

// `known` is what the device is opened with, `supported` what it could have.
Caps caps_from(const Properties& p, const Known& known, const Known& supported, const FeatureChain& f) {
  const auto in_compute = [](VkShaderStageFlags stages) {
    return (stages & VK_SHADER_STAGE_COMPUTE_BIT) != 0;
  };
  const bool subgroups = in_compute(p.v11.subgroupSupportedStages);
  const auto subgroup = [&](VkSubgroupFeatureFlags bits) {
    return subgroups && (p.v11.subgroupSupportedOperations & bits) == bits;
  };
  Caps c;
  c.storage16 = f.v11.storageBuffer16BitAccess;
  c.storage8 = f.v12.storageBuffer8BitAccess;
  c.fp16 = f.v12.shaderFloat16;
  c.int8 = f.v12.shaderInt8;
  c.subgroup_arithmetic = subgroup(VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
  c.subgroup_shuffle = subgroup(VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT);
  c.subgroup_clustered = subgroup(VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_CLUSTERED_BIT);
  // A device of one size may let no stage ask for it.
  c.subgroup_size_control = f.v13.subgroupSizeControl && f.v13.computeFullSubgroups &&
                            (in_compute(p.size_control.requiredSubgroupSizeStages) ||
                             p.size_control.minSubgroupSize == p.size_control.maxSubgroupSize);
  c.int_dot = f.v13.shaderIntegerDotProduct;
  c.int_dot_fast = c.int_dot && p.int_dot.integerDotProduct4x8BitPackedSignedAccelerated;
  c.coopmat = f.coopmat.cooperativeMatrix && f.v12.vulkanMemoryModel &&
              in_compute(p.coopmat.cooperativeMatrixSupportedStages);
  c.coopmat2 = c.coopmat && f.v13.maintenance4 && f.coopmat2.cooperativeMatrixFlexibleDimensions &&
               f.coopmat2.cooperativeMatrixReductions && f.coopmat2.cooperativeMatrixConversions &&
               f.coopmat2.cooperativeMatrixPerElementOperations;
  c.bf16 = f.bf16.shaderBFloat16Type;
  c.software = p.core.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
  // Asked of the physical device, which needs no enabling.
  c.memory_budget = supported.has(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
  c.executable_properties = f.executable.pipelineExecutableInfo;
  c.push_descriptor = known.has(VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME);
  c.global_priority = known.global_priority();
  return c;
}

Matrices matrices_from(const InstanceTable& vk, VkPhysicalDevice handle, const Properties& p,
                       const FeatureChain& f, const DeviceReport& r) {
  Matrices out;
  if (!r.caps.coopmat) return out;
  out.shapes = fixed_shapes(vk, handle);
  out.emulated = emulated_matrices(r.vendor_id, r.driver, r.name);
  if (!r.caps.coopmat2) return out;
  const std::vector<MatrixShape> flexible = flexible_shapes(vk, handle);
  out.shapes.insert(out.shapes.end(), flexible.begin(), flexible.end());
  out.max_dimension = p.coopmat2.cooperativeMatrixFlexibleDimensionsMaxDimension;
  out.tensor_addressing = f.coopmat2.cooperativeMatrixTensorAddressing;
  if (f.coopmat2.cooperativeMatrixWorkgroupScope) {
    out.max_group = p.coopmat2.cooperativeMatrixWorkgroupScopeMaxWorkgroupSize;
    out.reserved_shared = p.coopmat2.cooperativeMatrixWorkgroupScopeReservedSharedMemory;
  }
  return out;
}

struct Families {
  std::optional<std::uint32_t> compute, transfer;
};

Families choose_families(const std::vector<VkQueueFamilyProperties>& all, const HostDevice* host) {
  if (host) {
    Families out;
    if (host->compute.family < all.size() && all[host->compute.family].queueFlags & VK_QUEUE_COMPUTE_BIT)
      out.compute = host->compute.family;
    if (host->transfer.queue && host->transfer.family < all.size()) out.transfer = host->transfer.family;
    return out;
  }
  // Compute without graphics first: it does not queue behind a desktop's frames.
  auto compute = find_family(all, VK_QUEUE_COMPUTE_BIT, VK_QUEUE_GRAPHICS_BIT);
  if (!compute) compute = find_family(all, VK_QUEUE_COMPUTE_BIT, 0);
  return {compute, find_family(all, VK_QUEUE_TRANSFER_BIT, VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT)};
}

DeviceType type_from(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return DeviceType::integrated;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return DeviceType::discrete;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return DeviceType::virtual_gpu;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return DeviceType::cpu;
    default: return DeviceType::other;
  }
}

std::uint64_t device_local_bytes(const InstanceTable& vk, VkPhysicalDevice handle) {
  VkPhysicalDeviceMemoryProperties2 memory{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
  vk.GetPhysicalDeviceMemoryProperties2(handle, &memory);
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; ++i) {
    const VkMemoryHeap& heap = memory.memoryProperties.memoryHeaps[i];
    if (heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) sum += heap.size;
  }
  return sum;
}

void fill_identity(const VkPhysicalDeviceProperties& p, DeviceReport& r) {
  r.name = p.deviceName;
  r.api_version = p.apiVersion;
  r.vendor_id = p.vendorID;
  r.device_id = p.deviceID;
  r.driver_version = p.driverVersion;
  r.type = type_from(p.deviceType);
  std::copy_n(p.pipelineCacheUUID, VK_UUID_SIZE, r.pipeline_cache_uuid.begin());
}

}  // namespace

std::string below_floor(const Limits& limits, std::uint32_t api_version) {
  if (api_version < VK_API_VERSION_1_2) {
    return "Vulkan " + std::to_string(VK_API_VERSION_MAJOR(api_version)) + "." +
           std::to_string(VK_API_VERSION_MINOR(api_version)) + "; 1.2 is needed";
  }
  const Limits floor;
  if (limits.max_group_invocations < floor.max_group_invocations)
    return "workgroups of at most " + std::to_string(limits.max_group_invocations) +
           " invocations; 128 are needed";
  if (limits.max_shared_bytes < floor.max_shared_bytes)
    return std::to_string(limits.max_shared_bytes) + " bytes of shared memory; 16384 are needed";
  if (limits.max_bindings < floor.max_bindings)
    return std::to_string(limits.max_bindings) + " storage buffers a pipeline; 16 are needed";
  return {};
}

std::optional<std::uint32_t> find_family(const std::vector<VkQueueFamilyProperties>& families,
                                         VkQueueFlags with, VkQueueFlags without) {
  for (std::uint32_t i = 0; i < families.size(); ++i) {
    const VkQueueFlags flags = families[i].queueFlags;
    if (families[i].queueCount > 0 && (flags & with) == with && !(flags & without)) return i;
  }
  return {};
}

std::vector<VkQueueFamilyProperties> queue_families(const InstanceTable& vk, VkPhysicalDevice handle) {
  std::vector<VkQueueFamilyProperties> out;
  read_all(out, {}, [&](std::uint32_t* count, VkQueueFamilyProperties* list) {
    vk.GetPhysicalDeviceQueueFamilyProperties(handle, count, list);
    return VK_SUCCESS;
  });
  return out;
}

namespace {

// Empty when every required feature is on.
std::string missing_feature(FeatureChain& f, const Known& known, const HostDevice* host) {
  for (const UsedFeature& u : used_features()) {
    if (!u.required || u.in(f)) continue;
    const std::string name = std::string(u.member) + " of " + u.structure(known);
    return (host ? "the host did not enable the feature " : "no feature ") + name;
  }
  return {};
}

}  // namespace

PhysicalDevice describe(const InstanceTable& vk, VkPhysicalDevice handle, std::uint32_t index,
                        std::uint32_t instance_version, FeatureChain* features, const HostDevice* host) {
  PhysicalDevice out;
  out.handle = handle;
  DeviceReport& r = out.report;
  r.index = index;
  VkPhysicalDeviceProperties basic{};
  vk.GetPhysicalDeviceProperties(handle, &basic);
  fill_identity(basic, r);
  r.device_memory_bytes = device_local_bytes(vk, handle);
  r.refused = below_floor(Limits{}, r.api_version);
  if (!r.refused.empty()) return out;  // the 1.2 structs below mean nothing to it

  const Known supported{extension_names(vk, handle),
                        std::min(r.api_version, instance_version) >= VK_API_VERSION_1_3};
  Known known = supported;
  FeatureChain local;
  FeatureChain& f = features ? *features : local;
  if (host) {
    known.extensions = std::set<std::string>(host->extensions.begin(), host->extensions.end());
    read_enabled(host->features, known, f);
  } else {
    chain_features(f, known);
    vk.GetPhysicalDeviceFeatures2(handle, &f.core);
    read_enabled(&f.core, f);
  }
  Properties p;
  read_properties(vk, handle, supported, p);

  const std::vector<VkQueueFamilyProperties> families = queue_families(vk, handle);
  const Families chosen = choose_families(families, host);
  if (chosen.compute) {
    out.queue_family = *chosen.compute;
    out.timestamp_bits = families[out.queue_family].timestampValidBits;
  }
  out.transfer_family = chosen.transfer;
  r.driver = p.v12.driverName;
  if (p.v12.driverInfo[0] != '\0') r.driver += std::string(" ") + p.v12.driverInfo;
  r.caps = caps_from(p, known, supported, f);
  r.limits = limits_from(p, supported, r.caps, out.timestamp_bits ? basic.limits.timestampPeriod : 0.0f);
  r.matrices = matrices_from(vk, handle, p, f, r);
  out.max_allocations = basic.limits.maxMemoryAllocationCount;

  r.refused = below_floor(r.limits, r.api_version);
  if (r.refused.empty()) r.refused = missing_feature(f, known, host);
  if (r.refused.empty() && !chosen.compute)
    r.refused = host ? "queue family " + std::to_string(host->compute.family) + " has no compute"
                     : "no compute queue";
  if (r.refused.empty() && host && host->transfer.queue && !chosen.transfer)
    r.refused = "there is no queue family " + std::to_string(host->transfer.family);
  out.known = std::move(known);
  choose_enabled(out, f);
  return out;
}

void choose_enabled(PhysicalDevice& device, FeatureChain& features) {
  const Caps& caps = device.report.caps;
  device.extensions.clear();
  Known enabled = device.known;
  for (const UsedExtension& u : used_extensions()) {
    if (u.wanted(device.known, caps)) device.extensions.push_back(u.name);
    // A struct may stay in the chain only while its extension is enabled.
    if (u.cap && !(caps.*u.cap)) enabled.extensions.erase(u.name);
  }
  keep_used(features, enabled, caps);
}

}  // namespace tessera
