// A Vulkan device that a host made and keeps. Dispatchable handles are void*, the others std::uint64_t: this
// header does not include Vulkan's.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

namespace tessera {

// Non-dispatchable handles are pointers on some platforms, numbers on others.
template <typename Handle>
Handle to_handle(std::uint64_t value) {
  if constexpr (std::is_pointer_v<Handle>)
    return std::bit_cast<Handle>(static_cast<std::uintptr_t>(value));
  else
    return value;
}
template <typename Handle>
std::uint64_t from_handle(Handle handle) {
  if constexpr (std::is_pointer_v<Handle>)
    return reinterpret_cast<std::uintptr_t>(handle);
  else
    return handle;
}

struct HostMemoryRequest {
  std::uint64_t bytes = 0, alignment = 0;
  std::uint32_t memory_type = 0;
  bool mapped = false;  // the block must be mapped
  const char* name = "";
};
struct HostMemoryBlock {
  std::uint64_t memory = 0;  // VkDeviceMemory
  std::uint64_t offset = 0;
  void* mapped = nullptr;  // where `offset` is mapped; null: it is not
  void* user = nullptr;
};

// Empty ones are not called. Results are VkResults.
struct HostCalls {
  std::function<std::int32_t(void* queue, const void* submit_info)> submit;  // instead of vkQueueSubmit
  std::function<void(void*queue)> lock, unlock;                              // around vkQueueSubmit
  std::function<std::int32_t(const HostMemoryRequest&, HostMemoryBlock&)> allocate;
  std::function<void(const HostMemoryBlock&)> free;
};

struct HostQueue {
  void* queue = nullptr;
  std::uint32_t family = 0;
};

struct HostDevice {
  void* physical_device = nullptr;
  void* device = nullptr;
  std::vector<std::string> extensions;  // enabled
  const void* features = nullptr;       // the pNext chain that enabled them; read only while it is opened
  HostQueue compute;
  HostQueue transfer;  // without a queue: there is none
  HostCalls calls;
};

}  // namespace tessera
