// Vulkan's functions, loaded into a table per instance and per device: nothing is linked, nothing is global.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/host.h"
#include "device/vulkan_extra.h"

namespace tessera {

#define TSR_VK_INSTANCE_FUNCTIONS(X)        \
  X(DestroyInstance)                        \
  X(EnumeratePhysicalDevices)               \
  X(EnumerateDeviceExtensionProperties)     \
  X(GetPhysicalDeviceProperties)            \
  X(GetPhysicalDeviceProperties2)           \
  X(GetPhysicalDeviceFeatures2)             \
  X(GetPhysicalDeviceMemoryProperties2)     \
  X(GetPhysicalDeviceQueueFamilyProperties) \
  X(CreateDevice)                           \
  X(GetDeviceProcAddr)
// Present only when VK_EXT_debug_utils is enabled.
#define TSR_VK_DEBUG_FUNCTIONS(X) X(CreateDebugUtilsMessengerEXT) X(DestroyDebugUtilsMessengerEXT)
// Present when a driver has the extension; to be called only for a device that has it.
#define TSR_VK_MATRIX_FUNCTIONS(X)                   \
  X(GetPhysicalDeviceCooperativeMatrixPropertiesKHR) \
  X(GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV)

#define TSR_VK_DEVICE_FUNCTIONS(X) \
  X(DestroyDevice)                 \
  X(GetDeviceQueue)                \
  X(QueueSubmit)                   \
  X(CreateBuffer)                  \
  X(DestroyBuffer)                 \
  X(GetBufferMemoryRequirements)   \
  X(AllocateMemory)                \
  X(FreeMemory)                    \
  X(BindBufferMemory)              \
  X(MapMemory)                     \
  X(CreateDescriptorSetLayout)     \
  X(DestroyDescriptorSetLayout)    \
  X(CreateDescriptorPool)          \
  X(DestroyDescriptorPool)         \
  X(AllocateDescriptorSets)        \
  X(FreeDescriptorSets)            \
  X(UpdateDescriptorSets)          \
  X(CreatePipelineLayout)          \
  X(DestroyPipelineLayout)         \
  X(CreateShaderModule)            \
  X(DestroyShaderModule)           \
  X(CreatePipelineCache)           \
  X(DestroyPipelineCache)          \
  X(GetPipelineCacheData)          \
  X(CreateComputePipelines)        \
  X(DestroyPipeline)               \
  X(CreateCommandPool)             \
  X(DestroyCommandPool)            \
  X(AllocateCommandBuffers)        \
  X(BeginCommandBuffer)            \
  X(EndCommandBuffer)              \
  X(CmdBindPipeline)               \
  X(CmdBindDescriptorSets)         \
  X(CmdPushConstants)              \
  X(CmdDispatch)                   \
  X(CmdDispatchBase)               \
  X(CmdPipelineBarrier)            \
  X(CmdCopyBuffer)                 \
  X(CmdFillBuffer)                 \
  X(CmdResetQueryPool)             \
  X(CmdWriteTimestamp)             \
  X(CreateQueryPool)               \
  X(DestroyQueryPool)              \
  X(GetQueryPoolResults)           \
  X(CreateSemaphore)               \
  X(DestroySemaphore)              \
  X(WaitSemaphores)                \
  X(GetSemaphoreCounterValue)

// Null where VK_KHR_pipeline_executable_properties is not enabled.
#define TSR_VK_EXECUTABLE_FUNCTIONS(X)  \
  X(GetPipelineExecutablePropertiesKHR) \
  X(GetPipelineExecutableStatisticsKHR) \
  X(GetPipelineExecutableInternalRepresentationsKHR)

#define TSR_VK_MEMBER(name) PFN_vk##name name = nullptr;

struct InstanceTable {
  TSR_VK_INSTANCE_FUNCTIONS(TSR_VK_MEMBER)
  TSR_VK_DEBUG_FUNCTIONS(TSR_VK_MEMBER)
  TSR_VK_MATRIX_FUNCTIONS(TSR_VK_MEMBER)
};
struct DeviceTable {
  TSR_VK_DEVICE_FUNCTIONS(TSR_VK_MEMBER)
  TSR_VK_EXECUTABLE_FUNCTIONS(TSR_VK_MEMBER)
};
#undef TSR_VK_MEMBER

// unsupported when a function of Vulkan 1.2 is missing, naming it.
Result<InstanceTable> load_instance_table(PFN_vkGetInstanceProcAddr get, VkInstance instance);
Result<DeviceTable> load_device_table(PFN_vkGetDeviceProcAddr get, VkDevice device);

const char* result_name(VkResult result);                  // "VK_ERROR_DEVICE_LOST"
Error vk_error(VkResult result, const std::string& what);  // "what: VK_ERROR_..." with the code that fits
std::string bytes_text(std::uint64_t bytes);               // "1.50 GiB"

// Vulkan's count-then-fill calls: call(&count, pointer or null) -> VkResult, repeated while incomplete.
template <typename T, typename Call>
VkResult read_all(std::vector<T>& out, T blank, Call call) {
  VkResult result = VK_INCOMPLETE;
  while (result == VK_INCOMPLETE) {
    std::uint32_t count = 0;
    result = call(&count, nullptr);
    if (result != VK_SUCCESS) return result;
    out.assign(count, blank);
    if (count == 0) return VK_SUCCESS;
    result = call(&count, out.data());
    out.resize(count);
  }
  return result;
}

}  // namespace tessera
