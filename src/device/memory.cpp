#include "device/memory.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr VkMemoryPropertyFlags kLocal = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
constexpr VkMemoryPropertyFlags kCached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
// Types with any other flag are for other uses (protected, lazily allocated, or behind a feature not
// enabled).
constexpr VkMemoryPropertyFlags kOrdinary = kLocal | kMapped | kCached;

// A smaller window onto device memory (256 MiB without resizable BAR) is kept for control buffers.
constexpr std::uint64_t kBigHeap = 512u << 20;

struct Types {
  const VkPhysicalDeviceMemoryProperties& memory;
  std::uint32_t bits;
  std::vector<std::uint32_t> out;

  // Appends the types that have all of `with` and none of `without`, in the driver's order of preference.
  void add(VkMemoryPropertyFlags with, VkMemoryPropertyFlags without = 0) {
    for (std::uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
      const VkMemoryPropertyFlags flags = memory.memoryTypes[i].propertyFlags;
      if (!(bits >> i & 1) || (flags & ~kOrdinary) || (flags & with) != with || (flags & without)) continue;
      if (std::find(out.begin(), out.end(), i) == out.end()) out.push_back(i);
    }
  }
  std::uint64_t heap_size(std::uint32_t type) const {
    return memory.memoryHeaps[memory.memoryTypes[type].heapIndex].size;
  }
};

void device_candidates(Types& t) {
  t.add(kLocal);
  std::stable_sort(t.out.begin(), t.out.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto mapped = [&](std::uint32_t i) {
      return (t.memory.memoryTypes[i].propertyFlags & kMapped) == kMapped;
    };
    if (t.heap_size(a) != t.heap_size(b)) return t.heap_size(a) > t.heap_size(b);
    const bool costs_nothing = t.heap_size(a) >= kBigHeap || t.memory.memoryHeapCount == 1;
    return costs_nothing ? mapped(a) > mapped(b) : mapped(a) < mapped(b);
  });
  // Only the largest heap: falling back to a small window or to host memory would be slow without a word.
  if (!t.out.empty()) {
    const std::uint32_t heap = t.memory.memoryTypes[t.out[0]].heapIndex;
    std::erase_if(t.out, [&](std::uint32_t i) { return t.memory.memoryTypes[i].heapIndex != heap; });
  } else {
    t.add(0);  // Vulkan promises one device-local type, but not that a buffer may live in it
  }
}

}  // namespace

std::vector<std::uint32_t> memory_candidates(const VkPhysicalDeviceMemoryProperties& memory,
                                             std::uint32_t type_bits, Memory use) {
  Types t{memory, type_bits, {}};
  switch (use) {
    case Memory::device: device_candidates(t); break;
    case Memory::shared:
      t.add(kLocal | kMapped);
      t.add(kMapped);
      break;
    case Memory::upload:
      t.add(kMapped, kLocal | kCached);
      t.add(kMapped, kLocal);
      t.add(kMapped);
      break;
    case Memory::readback:
      t.add(kMapped | kCached, kLocal);
      t.add(kMapped | kCached);
      t.add(kMapped);
      break;
  }
  return t.out;
}

Result<std::unique_ptr<Buffer>> BufferImpl::create(Gpu& gpu, std::uint64_t bytes, Memory use,
                                                   const std::string& name, BufferLanes lanes) {
  const std::string what = "buffer '" + name + "' of " + bytes_text(bytes);
  if (gpu.lost) return lost_error();
  if (bytes == 0) return Error{Code::invalid_argument, "buffer '" + name + "' has no bytes"};
  const std::uint64_t most = gpu.limits().max_buffer_size;
  if (bytes > most)
    return Error{Code::unsupported, what + ": the device's buffers hold at most " + bytes_text(most)};

  auto buffer = std::make_unique<BufferImpl>(gpu);
  buffer->size_ = bytes;
  VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  info.size = std::min((bytes + 15) / 16 * 16, std::max(most, bytes));  // whole words for shaders and fills
  info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
               VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  const std::uint32_t families[] = {gpu.physical.queue_family, gpu.physical.transfer_family.value_or(0)};
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  if (lanes == BufferLanes::both && gpu.two_families) {
    info.sharingMode = VK_SHARING_MODE_CONCURRENT;
    info.queueFamilyIndexCount = 2;
    info.pQueueFamilyIndices = families;
  }
  const VkResult r = gpu.vk.CreateBuffer(gpu.device, &info, gpu.allocator(), &buffer->buffer_);
  if (r != VK_SUCCESS) return gpu.error(r, what);
  TSR_CHECK(buffer->allocate(use, name));
  return std::unique_ptr<Buffer>(std::move(buffer));
}

Result<std::unique_ptr<Buffer>> BufferImpl::adopt(Gpu& gpu, VkBuffer handle, std::uint64_t bytes) {
  if (gpu.lost) return lost_error();
  if (!handle || bytes == 0) return Error{Code::invalid_argument, "a buffer of the host's is null or empty"};
  auto buffer = std::make_unique<BufferImpl>(gpu);
  buffer->adopted_ = true;
  buffer->buffer_ = handle;
  buffer->size_ = bytes;
  return std::unique_ptr<Buffer>(std::move(buffer));
}

Result<void> BufferImpl::allocate(Memory use, const std::string& name) {
  VkMemoryRequirements needs{};
  gpu_.vk.GetBufferMemoryRequirements(gpu_.device, buffer_, &needs);
  const auto types = memory_candidates(gpu_.memory, needs.memoryTypeBits, use);
  if (types.empty())
    return Error{Code::unsupported, "buffer '" + name + "': the device has no memory type for it"};
  TSR_TRY(memory_, allocate_memory(gpu_, needs, types, use != Memory::device, name));
  const VkResult r = gpu_.vk.BindBufferMemory(gpu_.device, buffer_, memory_.memory, memory_.offset);
  if (r != VK_SUCCESS) return gpu_.error(r, "memory of buffer '" + name + "'");
  return {};
}

BufferImpl::~BufferImpl() {
  if (adopted_ || gpu_.hung) return;
  if (buffer_) gpu_.vk.DestroyBuffer(gpu_.device, buffer_, gpu_.allocator());
  free_memory(gpu_, memory_);
}

}  // namespace tessera
