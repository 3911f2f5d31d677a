// A vkGetInstanceProcAddr between a test and the real loader. It counts calls, knows how many objects of each
// kind live, fails calls on demand and can put functions in others' place. One for the process: its counts
// and faults are of everything that came through it. Calls of vkCmd* allocate nothing in it.
#pragma once

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#ifndef VK_NO_PROTOTYPES
#define VK_NO_PROTOTYPES
#endif
#include <vulkan/vulkan_core.h>

namespace tessera::test {

// Whatever is counted and can fail. What makes or ends an object is named so that its kind can be read off.
#define TSR_TABLE_FUNCTIONS(X)  \
  X(CreateInstance)             \
  X(DestroyInstance)            \
  X(CreateDevice)               \
  X(DestroyDevice)              \
  X(CreateBuffer)               \
  X(DestroyBuffer)              \
  X(AllocateMemory)             \
  X(FreeMemory)                 \
  X(BindBufferMemory)           \
  X(MapMemory)                  \
  X(CreateDescriptorSetLayout)  \
  X(DestroyDescriptorSetLayout) \
  X(CreateDescriptorPool)       \
  X(DestroyDescriptorPool)      \
  X(AllocateDescriptorSets)     \
  X(FreeDescriptorSets)         \
  X(UpdateDescriptorSets)       \
  X(CreatePipelineLayout)       \
  X(DestroyPipelineLayout)      \
  X(CreateShaderModule)         \
  X(DestroyShaderModule)        \
  X(CreatePipelineCache)        \
  X(DestroyPipelineCache)       \
  X(CreateComputePipelines)     \
  X(DestroyPipeline)            \
  X(CreateCommandPool)          \
  X(DestroyCommandPool)         \
  X(AllocateCommandBuffers)     \
  X(BeginCommandBuffer)         \
  X(EndCommandBuffer)           \
  X(ResetCommandBuffer)         \
  X(ResetCommandPool)           \
  X(CmdBindPipeline)            \
  X(CmdBindDescriptorSets)      \
  X(CmdPushConstants)           \
  X(CmdDispatch)                \
  X(CmdDispatchBase)            \
  X(CmdPipelineBarrier)         \
  X(CmdCopyBuffer)              \
  X(CmdFillBuffer)              \
  X(CmdExecuteCommands)         \
  X(CmdResetQueryPool)          \
  X(CmdWriteTimestamp)          \
  X(CreateQueryPool)            \
  X(DestroyQueryPool)           \
  X(GetQueryPoolResults)        \
  X(CreateSemaphore)            \
  X(DestroySemaphore)           \
  X(CreateFence)                \
  X(DestroyFence)               \
  X(WaitSemaphores)             \
  X(GetSemaphoreCounterValue)   \
  X(QueueSubmit)                \
  X(QueueWaitIdle)              \
  X(DeviceWaitIdle)

class VulkanTable {
 public:
  // The system's; null without one. Stays open to the end of the process.
  static PFN_vkGetInstanceProcAddr loader() {
#ifdef __APPLE__
    static void* const library = dlopen("libvulkan.1.dylib", RTLD_NOW);
#else
    static void* const library = dlopen("libvulkan.so.1", RTLD_NOW);
#endif
    return library ? reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library, "vkGetInstanceProcAddr"))
                   : nullptr;
  }
  // The one to hand out.
  static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get(VkInstance instance, const char* name) {
    const std::string_view n = name;
    const PFN_vkVoidFunction found = loader()(instance, name);
    if (n == "vkGetInstanceProcAddr") return reinterpret_cast<PFN_vkVoidFunction>(get);
    if (n == "vkGetDeviceProcAddr" && found) {
      device_loader_ = reinterpret_cast<PFN_vkGetDeviceProcAddr>(found);
      return reinterpret_cast<PFN_vkVoidFunction>(get_of_device);
    }
    return hand_out(n, found);
  }
  static void* entry() { return reinterpret_cast<void*>(get); }

  // Every count, fault and replacement goes; objects that live stay known.
  static void reset() {
    const std::lock_guard lock(mutex_);
    replaced_.clear();
    allocator_user_ = nullptr;
    strangers_ = 0;
    for (Slot& slot : slots_) {
      slot.calls = 0;
      slot.fault = VK_SUCCESS;
      slot.passes = 0;
    }
  }
  // "vkQueueSubmit": calls since the last reset.
  static std::uint64_t calls(std::string_view name) {
    const Slot* slot = find(name);
    return slot ? slot->calls.load() : ~std::uint64_t{0};  // an unknown name makes every comparison fail
  }
  // From now on the function returns `result` instead of doing anything, after it did `passes` calls more.
  // vkWaitSemaphores waits before: nothing may be destroyed while a device that is not really lost uses it.
  static void fail(std::string_view name, VkResult result, std::int64_t passes = 0) {
    Slot* slot = find(name);
    slot->passes = passes;
    slot->fault = result;
  }
  // What is handed out from now on for a name; null: nothing, as if it did not exist.
  static void replace(const std::string& name, PFN_vkVoidFunction function) {
    const std::lock_guard lock(mutex_);
    replaced_[name] = function;
  }
  // The function behind a replaced one, counted as ever; after it was asked for.
  template <typename F>
  static F real(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return reinterpret_cast<F>(originals_[name]);
  }

  // "2 Buffer, 1 Memory": objects that were made and not destroyed; "" when there are none.
  static std::string live() {
    const std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& [kind, count] : live_)
      if (count != 0) text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + kind;
    return text;
  }
  // Of one kind.
  static std::int64_t live(const std::string& kind) {
    const std::lock_guard lock(mutex_);
    return live_[kind];
  }
  // From now on counts the objects that are made or destroyed with other callbacks than with this pUserData.
  static void expect_allocator(void* user) {
    strangers_ = 0;
    allocator_user_ = user;
  }
  static std::uint64_t strangers() { return strangers_; }
  // By `count`, which says what this thread has allocated so far: what was allocated inside the functions of
  // the table. The driver's and the layers', not the library's.
  static void count_allocations(std::size_t (*count)()) { count_ = count; }
  static std::size_t allocations_inside() { return inside_; }
  // What is allocated while one lives counts as inside; not within another.
  class Inside {
   public:
    Inside() = default;
    ~Inside() { inside_ += allocations() - before_; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    std::size_t before_ = allocations();
  };

 private:
  static std::size_t allocations() { return count_ ? count_() : 0; }

  struct Slot {
    const char* name;
    PFN_vkVoidFunction wrapper;
    std::atomic<PFN_vkVoidFunction> real = nullptr;
    std::atomic<std::uint64_t> calls = 0;
    std::atomic<std::int64_t> passes = 0;
    std::atomic<VkResult> fault = VK_SUCCESS;
    Slot(const char* n, PFN_vkVoidFunction w) : name(n), wrapper(w) {}
  };
#define TSR_TABLE_INDEX(name) k##name,
  enum Index : std::size_t { TSR_TABLE_FUNCTIONS(TSR_TABLE_INDEX) kCount };
#undef TSR_TABLE_INDEX

  template <std::size_t I, typename F>
  struct Wrapper;
  template <std::size_t I, typename R, typename... A>
  struct Wrapper<I, R(VKAPI_PTR*)(A...)> {
    static VKAPI_ATTR R VKAPI_CALL call(A... a) {
      Slot& slot = slots_[I];
      ++slot.calls;
      const auto real = reinterpret_cast<R(VKAPI_PTR*)(A...)>(slot.real.load());
      if constexpr (std::is_same_v<R, VkResult>) {
        const bool fails = slot.fault != VK_SUCCESS && slot.passes-- <= 0;
        if (fails && I != kWaitSemaphores) return slot.fault;
        const VkResult r = [&] {
          const Inside inside;
          return real(a...);
        }();
        if (fails) return slot.fault;
        if (r == VK_SUCCESS) note(slot.name, a...);
        return r;
      } else {
        note(slot.name, a...);
        const Inside inside;
        real(a...);
      }
    }
  };

  // Objects made and ended.
  template <typename... A>
  static void note([[maybe_unused]] std::string_view name, [[maybe_unused]] A... a) {
    constexpr bool has_allocator = (std::is_same_v<A, const VkAllocationCallbacks*> || ...);
    if constexpr (has_allocator) {
      (note_allocator(a), ...);
      const auto all = std::make_tuple(a...);
      if constexpr (std::is_same_v<std::tuple_element_t<sizeof...(A) - 1, decltype(all)>,
                                   const VkAllocationCallbacks* const>) {
        const bool exists = std::get<sizeof...(A) - 2>(all) != VK_NULL_HANDLE;
        if (exists) count(name, -1);
      } else if (name == "vkCreateComputePipelines") {
        if constexpr (sizeof...(A) == 6) count(name, static_cast<std::int64_t>(std::get<2>(all)));
      } else {
        count(name, 1);
      }
    }
  }
  template <typename T>
  static void note_allocator(T value) {
    if constexpr (std::is_same_v<T, const VkAllocationCallbacks*>)
      if (allocator_user_ && (!value || value->pUserData != allocator_user_)) ++strangers_;
  }
  static void count(std::string_view name, std::int64_t change) {
    for (const std::string_view verb : {"vkCreateCompute", "vkCreate", "vkAllocate", "vkDestroy", "vkFree"})
      if (name.starts_with(verb)) {
        name.remove_prefix(verb.size());
        break;
      }
    if (name.ends_with("s")) name.remove_suffix(1);
    const std::lock_guard lock(mutex_);
    live_[std::string(name)] += change;
  }

  static Slot* find(std::string_view name) {
    for (Slot& slot : slots_)
      if (slot.name == name) return &slot;
    return nullptr;
  }
  static PFN_vkVoidFunction hand_out(std::string_view name, PFN_vkVoidFunction found) {
    Slot* const slot = found ? find(name) : nullptr;
    if (slot) slot->real = found;
    const PFN_vkVoidFunction counted = slot ? slot->wrapper : found;
    const std::lock_guard lock(mutex_);
    const auto it = replaced_.find(std::string(name));
    if (it == replaced_.end()) return counted;
    originals_[std::string(name)] = counted;
    return it->second;
  }
  static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_of_device(VkDevice device, const char* name) {
    return hand_out(name, device_loader_.load()(device, name));
  }

  static Slot slots_[kCount];
  inline static std::mutex mutex_;  // the maps
  inline static std::map<std::string, PFN_vkVoidFunction> replaced_, originals_;
  inline static std::map<std::string, std::int64_t> live_;
  inline static std::atomic<PFN_vkGetDeviceProcAddr> device_loader_ = nullptr;
  inline static std::atomic<void*> allocator_user_ = nullptr;
  inline static std::atomic<std::uint64_t> strangers_ = 0;
  inline static std::size_t (*count_)() = nullptr;
  inline static thread_local std::size_t inside_ = 0;
};

#define TSR_TABLE_SLOT(name) \
  {"vk" #name, reinterpret_cast<PFN_vkVoidFunction>(Wrapper<k##name, PFN_vk##name>::call)},
inline VulkanTable::Slot VulkanTable::slots_[kCount] = {TSR_TABLE_FUNCTIONS(TSR_TABLE_SLOT)};
#undef TSR_TABLE_SLOT

}  // namespace tessera::test
