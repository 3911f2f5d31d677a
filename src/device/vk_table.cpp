#include "device/vk_table.h"

#include <array>
#include <cstdio>

namespace tessera {
namespace {

Error missing(const char* name) {
  return {Code::unsupported, std::string("the Vulkan loader or driver lacks ") + name};
}

}  // namespace

Result<InstanceTable> load_instance_table(PFN_vkGetInstanceProcAddr get, VkInstance instance) {
  InstanceTable t;
#define TSR_LOAD(name) t.name = reinterpret_cast<PFN_vk##name>(get(instance, "vk" #name));
#define TSR_REQUIRE(name) \
  TSR_LOAD(name)          \
  if (!t.name) return missing("vk" #name);
  TSR_VK_INSTANCE_FUNCTIONS(TSR_REQUIRE)
  TSR_VK_DEBUG_FUNCTIONS(TSR_LOAD)
  TSR_VK_MATRIX_FUNCTIONS(TSR_LOAD)
#undef TSR_REQUIRE
#undef TSR_LOAD
  return t;
}

Result<DeviceTable> load_device_table(PFN_vkGetDeviceProcAddr get, VkDevice device) {
  DeviceTable t;
#define TSR_REQUIRE(name)                                           \
  t.name = reinterpret_cast<PFN_vk##name>(get(device, "vk" #name)); \
  if (!t.name) return missing("vk" #name);
#define TSR_LOAD(name) t.name = reinterpret_cast<PFN_vk##name>(get(device, "vk" #name));
  TSR_VK_DEVICE_FUNCTIONS(TSR_REQUIRE)
  TSR_VK_EXECUTABLE_FUNCTIONS(TSR_LOAD)
#undef TSR_REQUIRE
#undef TSR_LOAD
  return t;
}

const char* result_name(VkResult result) {
  switch (result) {
#define TSR_NAME(r) \
  case r: return #r;
    TSR_NAME(VK_SUCCESS)
    TSR_NAME(VK_NOT_READY)
    TSR_NAME(VK_TIMEOUT)
    TSR_NAME(VK_INCOMPLETE)
    TSR_NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
    TSR_NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
    TSR_NAME(VK_ERROR_INITIALIZATION_FAILED)
    TSR_NAME(VK_ERROR_DEVICE_LOST)
    TSR_NAME(VK_ERROR_MEMORY_MAP_FAILED)
    TSR_NAME(VK_ERROR_LAYER_NOT_PRESENT)
    TSR_NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
    TSR_NAME(VK_ERROR_FEATURE_NOT_PRESENT)
    TSR_NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
    TSR_NAME(VK_ERROR_TOO_MANY_OBJECTS)
    TSR_NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
    TSR_NAME(VK_ERROR_FRAGMENTED_POOL)
    TSR_NAME(VK_ERROR_FRAGMENTATION)
    TSR_NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE)
    TSR_NAME(VK_ERROR_UNKNOWN)
#undef TSR_NAME
    default: return "an unknown VkResult";
  }
}

Error vk_error(VkResult result, const std::string& what) {
  Code code = Code::unsupported;
  switch (result) {
    case VK_ERROR_DEVICE_LOST: code = Code::device_lost; break;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_FRAGMENTATION:
    case VK_ERROR_MEMORY_MAP_FAILED:
    case VK_ERROR_TOO_MANY_OBJECTS: code = Code::out_of_memory; break;
    case VK_ERROR_INCOMPATIBLE_DRIVER:
    case VK_ERROR_INITIALIZATION_FAILED: code = Code::no_device; break;
    default: break;
  }
  std::string text = what + ": " + result_name(result);
  if (code == Code::unsupported) text += " (" + std::to_string(static_cast<int>(result)) + ")";
  return {code, std::move(text)};
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), unit ? "%.2f %s" : "%.0f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace tessera
