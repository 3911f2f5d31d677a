// Device memory of one buffer: from the driver or from the host, within the budget. Internal to the room.
#pragma once

#include "device/gpu.h"

namespace tessera {

// What memory has to be to be mapped here.
inline constexpr VkMemoryPropertyFlags kMapped =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

struct Allocation {
  VkDeviceMemory memory = VK_NULL_HANDLE;
  std::uint64_t offset = 0, bytes = 0;
  std::byte* mapped = nullptr;  // where `offset` is mapped; null: it is not
  HostMemoryBlock block;        // when the host gave it
};

// From the first of `types` that has room. out_of_memory says what is needed, in use and allowed.
Result<Allocation> allocate_memory(Gpu& gpu, const VkMemoryRequirements& needs,
                                   std::span<const std::uint32_t> types, bool mapped,
                                   const std::string& name);
void free_memory(Gpu& gpu, const Allocation& allocation);

}  // namespace tessera
