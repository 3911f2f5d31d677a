// Where a context's memory comes from, and how much of it there may be.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "host_fixture.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

class HostMemory : public HostTest {};

// VkAllocationCallbacks that know what is outstanding.
class CountingHeap {
 public:
  VkAllocationCallbacks callbacks() {
    VkAllocationCallbacks out{};
    out.pUserData = this;
    out.pfnAllocation = allocate;
    out.pfnReallocation = reallocate;
    out.pfnFree = release;
    return out;
  }
  std::size_t outstanding() {
    const std::lock_guard lock(mutex_);
    return sizes_.size();
  }
  std::uint64_t calls() const { return calls_; }

 private:
  static void* VKAPI_PTR allocate(void* user, std::size_t size, std::size_t alignment,
                                  VkSystemAllocationScope) {
    auto& heap = *static_cast<CountingHeap*>(user);
    alignment = std::max(alignment, sizeof(void*));
    void* const out =
        std::aligned_alloc(alignment, (size / alignment + 1) * alignment);  // drivers ask for 0 too
    const std::lock_guard lock(heap.mutex_);
    ++heap.calls_;
    heap.sizes_[out] = size;
    return out;
  }
  static void VKAPI_PTR release(void* user, void* memory) {
    if (memory == nullptr) return;
    auto& heap = *static_cast<CountingHeap*>(user);
    {
      const std::lock_guard lock(heap.mutex_);
      EXPECT_EQ(heap.sizes_.erase(memory), 1u);
    }
    std::free(memory);
  }
  static void* VKAPI_PTR reallocate(void* user, void* old, std::size_t size, std::size_t alignment,
                                    VkSystemAllocationScope scope) {
    void* const out = allocate(user, size, alignment, scope);
    auto& heap = *static_cast<CountingHeap*>(user);
    if (old != nullptr && out != nullptr) {
      std::size_t had = 0;
      {
        const std::lock_guard lock(heap.mutex_);
        had = heap.sizes_[old];
      }
      std::memcpy(out, old, std::min(had, size));
    }
    release(user, old);
    return out;
  }

  std::mutex mutex_;
  std::map<void*, std::size_t> sizes_;
  std::atomic<std::uint64_t> calls_ = 0;
};

TEST_P(HostMemory, AllocationCallbacksReachEveryObject) {
  CountingHeap heap;
  const VkAllocationCallbacks callbacks = heap.callbacks();
  VulkanTable::expect_allocator(&heap);
  tessera_context_desc desc = own();
  desc.allocation_callbacks = &callbacks;
  speak(take(Context::create(desc)));
  EXPECT_EQ(VulkanTable::strangers(), 0u);
  EXPECT_EQ(VulkanTable::live(), "");
  EXPECT_EQ(heap.outstanding(), 0u);
  EXPECT_GT(heap.calls(), 0u);

  VulkanTable::expect_allocator(nullptr);  // the host makes its own device without
  open();
  VulkanTable::expect_allocator(&heap);
  desc = on_host();
  desc.allocation_callbacks = &callbacks;
  speak(take(Context::create(desc)));
  EXPECT_EQ(VulkanTable::strangers(), 0u);
  EXPECT_EQ(heap.outstanding(), 0u);
}

// An allocator of the host's: one VkDeviceMemory a type, handed out from its beginning to its end.
class HostAllocator {
 public:
  explicit HostAllocator(VulkanHost& host) : host_(host) {}
  ~HostAllocator() {
    for (const auto& [type, slab] : slabs_)
      TSR_HOST_CALL(host_, FreeMemory)(host_.device, slab.memory, nullptr);
  }
  HostAllocator(const HostAllocator&) = delete;
  HostAllocator& operator=(const HostAllocator&) = delete;

  void connect(tessera_host_device& desc) {
    desc.memory_user = this;
    desc.allocate_memory = [](void* user, const tessera_memory_request* request,
                              tessera_memory_block* block) -> int32_t {
      return static_cast<HostAllocator*>(user)->allocate(*request, *block);
    };
    desc.free_memory = [](void* user, const tessera_memory_block* block) {
      auto& self = *static_cast<HostAllocator*>(user);
      EXPECT_EQ(block->user, &self);
      --self.blocks;
    };
  }

  std::atomic<int> blocks = 0;  // handed out now
  bool shift = false;           // gives offsets that are not aligned
  bool unmapped = false;
  std::uint64_t slab_bytes = 64u << 20;

 private:
  struct Slab {
    VkDeviceMemory memory = VK_NULL_HANDLE;
    void* mapped = nullptr;
    std::uint64_t used = 0;
  };
  VkResult allocate(const tessera_memory_request& request, tessera_memory_block& block) {
    EXPECT_STRNE(request.name, "");
    Slab& slab = slabs_[request.memory_type];
    if (!slab.memory) slab.memory = host_.allocate(slab_bytes, request.memory_type, &slab.mapped);
    const std::uint64_t at = (slab.used + request.alignment - 1) / request.alignment * request.alignment;
    if (at + request.bytes > slab_bytes) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    slab.used = at + request.bytes;
    block.memory = slab.memory;
    block.offset = at + (shift ? 1 : 0);
    if (slab.mapped != nullptr && !unmapped) block.mapped = static_cast<std::byte*>(slab.mapped) + at;
    block.user = this;
    ++blocks;
    return VK_SUCCESS;
  }

  VulkanHost& host_;
  std::map<std::uint32_t, Slab> slabs_;
};

TEST_P(HostMemory, ComesFromTheHostsAllocator) {
  open();
  const Ids as_own = expected();
  HostAllocator allocator(host_);
  const tessera_context_desc desc = on_host();
  allocator.connect(host_desc_);
  EXPECT_EQ(speak(take(Context::create(desc))), as_own);
  EXPECT_EQ(allocator.blocks.load(), 0);
  const std::uint64_t slabs = VulkanTable::calls("vkAllocateMemory");  // the host's, a few at most
  EXPECT_GT(slabs, 0u);
  EXPECT_LT(slabs, 5u);
}

TEST_P(HostMemory, BlocksOfNoUseAreGivenBack) {
  open();
  HostAllocator allocator(host_);
  const auto refusal = [&](tessera_status status, const std::string& words) {
    const tessera_context_desc desc = on_host();
    allocator.connect(host_desc_);
    {
      const Context context = take(Context::create(desc));
      const Model model = take(context.load(kQwen2));
      expect_failure(model.session(), status, words);
    }
    EXPECT_EQ(allocator.blocks.load(), 0);
  };
  allocator.shift = true;
  refusal(TESSERA_INVALID_ARGUMENT, "no multiple of");
  allocator.shift = false;
  allocator.unmapped = true;
  refusal(TESSERA_INVALID_ARGUMENT, "the host's memory is not mapped");
  allocator.unmapped = false;
  allocator.slab_bytes = 4096;
  refusal(TESSERA_OUT_OF_MEMORY, "the host gives no memory");
}

TEST_P(HostMemory, StaysWithinItsBudget) {
  tessera_context_desc desc = own();
  desc.memory_budget_bytes = 64u << 10;
  {
    const Context context = take(Context::create(desc));
    const Model model = take(context.load(kQwen2));
    expect_failure(model.session(), TESSERA_OUT_OF_MEMORY, "the memory budget of 64.00 KiB has");
  }
  desc.memory_budget_bytes = 64u << 20;
  const Context context = take(Context::create(desc));
  const Model model = take(context.load(kQwen2));
  const Session session = session_of(model);
  EXPECT_LE(session.stats().device_peak_bytes, desc.memory_budget_bytes);
}

constexpr std::uint64_t kLeft = 100u << 10;  // bytes that a heap has left

VKAPI_ATTR void VKAPI_CALL nearly_full(VkPhysicalDevice d, VkPhysicalDeviceMemoryProperties2* out) {
  const auto real =
      VulkanTable::real<PFN_vkGetPhysicalDeviceMemoryProperties2>("vkGetPhysicalDeviceMemoryProperties2");
  auto* const chained = static_cast<VkBaseOutStructure*>(out->pNext);
  out->pNext = nullptr;
  real(d, out);
  out->pNext = chained;
  if (!chained || chained->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT) return;
  auto* const budget = reinterpret_cast<VkPhysicalDeviceMemoryBudgetPropertiesEXT*>(chained);
  for (std::uint32_t i = 0; i < VK_MAX_MEMORY_HEAPS; ++i) {
    budget->heapBudget[i] = 1u << 20;
    budget->heapUsage[i] = (1u << 20) - kLeft;
  }
}

// The real list, and VK_EXT_memory_budget.
VKAPI_ATTR VkResult VKAPI_CALL with_budgets(VkPhysicalDevice d, const char* layer, std::uint32_t* count,
                                            VkExtensionProperties* out) {
  const auto real =
      VulkanTable::real<PFN_vkEnumerateDeviceExtensionProperties>("vkEnumerateDeviceExtensionProperties");
  if (!out) {
    const VkResult r = real(d, layer, count, nullptr);
    ++*count;
    return r;
  }
  std::uint32_t all = *count - 1;
  const VkResult r = real(d, layer, &all, out);
  VkExtensionProperties added{};
  std::strcpy(added.extensionName, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
  out[all] = added;
  *count = all + 1;
  return r;
}

TEST_P(HostMemory, LeavesWhatTheSystemWantsForOthers) {
  open();
  VulkanTable::replace("vkGetPhysicalDeviceMemoryProperties2",
                       reinterpret_cast<PFN_vkVoidFunction>(nearly_full));
  VulkanTable::replace("vkEnumerateDeviceExtensionProperties",
                       reinterpret_cast<PFN_vkVoidFunction>(with_budgets));
  const Context context = take(Context::create(on_host()));
  const Model model = take(context.load(kQwen2));
  expect_failure(model.session(), TESSERA_OUT_OF_MEMORY, "a budget of 1.00 MiB and 924.00 KiB in use");
}

TSR_ON_HOST(HostMemory);

}  // namespace
}  // namespace tessera::test
