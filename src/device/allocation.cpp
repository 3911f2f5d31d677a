#include "device/allocation.h"

#include <algorithm>

namespace tessera {
namespace {

// What the system lets this process have of a heap, as it says at the moment.
struct HeapRoom {
  std::uint64_t size = 0;
  std::uint64_t budget = 0, used = 0;
  bool known = false;

  bool fits(std::uint64_t bytes) const {
    return bytes <= size && (!known || (used <= budget && bytes <= budget - used));
  }
  std::string text() const {
    std::string out = bytes_text(size);
    if (known) out += ", a budget of " + bytes_text(budget) + " and " + bytes_text(used) + " in use";
    return out;
  }
};

HeapRoom room_of(const Gpu& gpu, std::uint32_t type) {
  const std::uint32_t heap = gpu.memory.memoryTypes[type].heapIndex;
  HeapRoom room;
  room.size = gpu.memory.memoryHeaps[heap].size;
  if (!gpu.memory_budget) return room;
  VkPhysicalDeviceMemoryBudgetPropertiesEXT budget{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
  VkPhysicalDeviceMemoryProperties2 memory{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, &budget};
  gpu.instance->table().GetPhysicalDeviceMemoryProperties2(gpu.physical.handle, &memory);
  room.budget = budget.heapBudget[heap];
  room.used = budget.heapUsage[heap];
  room.known = room.budget > 0;  // 0: a driver that lists the extension alone
  return room;
}

Error no_room(Gpu& gpu, const std::string& what, std::uint32_t type, VkResult result) {
  return gpu.error(result, what + ": memory heap " + std::to_string(gpu.memory.memoryTypes[type].heapIndex) +
                               " of the device has " + room_of(gpu, type).text());
}

// Counts bytes as in use; false when the budget has no room for them.
bool reserve(Gpu& gpu, std::uint64_t bytes) {
  std::uint64_t now = gpu.bytes;
  do {
    if (gpu.budget > 0 && (now > gpu.budget || bytes > gpu.budget - now)) return false;
  } while (!gpu.bytes.compare_exchange_weak(now, now + bytes));
  return true;
}

// VK_ERROR_OUT_OF_DEVICE_MEMORY: the next type may have room.
VkResult from_driver(Gpu& gpu, std::uint32_t type, Allocation& out) {
  if (!room_of(gpu, type).fits(out.bytes)) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  VkMemoryAllocateInfo info{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
  info.allocationSize = out.bytes;
  info.memoryTypeIndex = type;
  VkResult r = gpu.vk.AllocateMemory(gpu.device, &info, gpu.allocator(), &out.memory);
  if (r != VK_SUCCESS || (gpu.memory.memoryTypes[type].propertyFlags & kMapped) != kMapped) return r;
  void* pointer = nullptr;
  r = gpu.vk.MapMemory(gpu.device, out.memory, 0, VK_WHOLE_SIZE, 0, &pointer);
  if (r != VK_SUCCESS) gpu.vk.FreeMemory(gpu.device, out.memory, gpu.allocator());
  out.mapped = static_cast<std::byte*>(pointer);
  return r;
}

VkResult from_host(Gpu& gpu, const HostMemoryRequest& request, Allocation& out) {
  const auto r = static_cast<VkResult>(gpu.host.allocate(request, out.block));
  if (r != VK_SUCCESS) return r;
  out.memory = to_handle<VkDeviceMemory>(out.block.memory);
  out.offset = out.block.offset;
  if ((gpu.memory.memoryTypes[request.memory_type].propertyFlags & kMapped) == kMapped)
    out.mapped = static_cast<std::byte*>(out.block.mapped);
  return r;
}

// Why a host's block cannot be used; empty when it can.
std::string objection(const HostMemoryRequest& request, const Allocation& got) {
  if (!got.memory) return "has no VkDeviceMemory";
  if (got.offset % request.alignment != 0)
    return "is at " + std::to_string(got.offset) + ", no multiple of " + std::to_string(request.alignment);
  if (request.mapped && !got.mapped) return "is not mapped";
  return {};
}

Result<Allocation> ask_host(Gpu& gpu, const VkMemoryRequirements& needs, std::span<const std::uint32_t> types,
                            bool mapped, const std::string& name) {
  Allocation out;
  out.bytes = needs.size;
  HostMemoryRequest request{needs.size, needs.alignment, 0, mapped, name.c_str()};
  VkResult r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
  for (const std::uint32_t type : types) {
    request.memory_type = type;
    r = from_host(gpu, request, out);
    if (r != VK_ERROR_OUT_OF_DEVICE_MEMORY) break;
  }
  if (r != VK_SUCCESS)
    return gpu.error(r, "buffer '" + name + "' of " + bytes_text(needs.size) + ": the host gives no memory");
  const std::string why = objection(request, out);
  if (why.empty()) return out;
  if (gpu.host.free) gpu.host.free(out.block);
  return Error{Code::invalid_argument, "buffer '" + name + "': the host's memory " + why};
}

Result<Allocation> ask_driver(Gpu& gpu, std::uint64_t bytes, std::span<const std::uint32_t> types,
                              const std::string& name) {
  if (gpu.allocations.fetch_add(1) >= gpu.physical.max_allocations) {
    --gpu.allocations;
    return Error{Code::out_of_memory, "buffer '" + name + "': the device allows " +
                                          std::to_string(gpu.physical.max_allocations) +
                                          " memory allocations, all of which are in use"};
  }
  Allocation out;
  out.bytes = bytes;
  VkResult r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
  std::uint32_t type = types[0];
  for (const std::uint32_t candidate : types) {
    type = candidate;
    r = from_driver(gpu, type, out);
    if (r != VK_ERROR_OUT_OF_DEVICE_MEMORY) break;
  }
  if (r == VK_SUCCESS) return out;
  --gpu.allocations;
  return no_room(gpu, "buffer '" + name + "' of " + bytes_text(bytes), type, r);
}

}  // namespace

Result<Allocation> allocate_memory(Gpu& gpu, const VkMemoryRequirements& needs,
                                   std::span<const std::uint32_t> types, bool mapped,
                                   const std::string& name) {
  if (!reserve(gpu, needs.size))
    return Error{Code::out_of_memory, "buffer '" + name + "' of " + bytes_text(needs.size) +
                                          ": the memory budget of " + bytes_text(gpu.budget) + " has " +
                                          bytes_text(gpu.bytes) + " in use"};
  auto out = gpu.host.allocate ? ask_host(gpu, needs, types, mapped, name)
                               : ask_driver(gpu, needs.size, types, name);
  if (!out) {
    gpu.bytes -= needs.size;
    return out;
  }
  const std::uint64_t now = gpu.bytes;
  std::uint64_t peak = gpu.peak_bytes;
  while (now > peak && !gpu.peak_bytes.compare_exchange_weak(peak, now)) {
  }
  return out;
}

void free_memory(Gpu& gpu, const Allocation& allocation) {
  if (!allocation.memory) return;
  gpu.bytes -= allocation.bytes;
  if (gpu.host.allocate) {
    if (gpu.host.free) gpu.host.free(allocation.block);
    return;
  }
  gpu.vk.FreeMemory(gpu.device, allocation.memory, gpu.allocator());
  --gpu.allocations;
}

}  // namespace tessera
