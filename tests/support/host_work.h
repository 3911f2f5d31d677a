// Command buffers of a host's in flight, and what is recorded into them beside the library's.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "support/allocations.h"
#include "support/vulkan_host.h"

namespace tessera::test {

class HostWork {
 public:
  // The host outlives it.
  explicit HostWork(VulkanHost& host) : host_(host) {
    VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    pool.queueFamilyIndex = host.queue_family;
    expect(TSR_HOST_CALL(host_, CreateCommandPool)(host.device, &pool, nullptr, &pool_));
  }
  ~HostWork() {
    wait();
    TSR_HOST_CALL(host_, DestroyCommandPool)(host_.device, pool_, nullptr);
  }
  HostWork(const HostWork&) = delete;
  HostWork& operator=(const HostWork&) = delete;

  VkCommandBuffer begin(VkCommandBufferLevel level = VK_COMMAND_BUFFER_LEVEL_PRIMARY) {
    VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    allocate.commandPool = pool_;
    allocate.level = level;
    allocate.commandBufferCount = 1;
    VkCommandBuffer commands = VK_NULL_HANDLE;
    expect(TSR_HOST_CALL(host_, AllocateCommandBuffers)(host_.device, &allocate, &commands));
    const VkCommandBufferInheritanceInfo inheritance{VK_STRUCTURE_TYPE_COMMAND_BUFFER_INHERITANCE_INFO};
    VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    info.pInheritanceInfo = &inheritance;
    expect(TSR_HOST_CALL(host_, BeginCommandBuffer)(commands, &info));
    return commands;
  }
  void end(VkCommandBuffer commands) { expect(TSR_HOST_CALL(host_, EndCommandBuffer)(commands)); }
  void submit(VkCommandBuffer commands) {
    const VkFenceCreateInfo info{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    fences_.push_back(VK_NULL_HANDLE);
    expect(TSR_HOST_CALL(host_, CreateFence)(host_.device, &info, nullptr, &fences_.back()));
    VkSubmitInfo submit{VK_STRUCTURE_TYPE_SUBMIT_INFO};
    submit.commandBufferCount = 1;
    submit.pCommandBuffers = &commands;
    expect(TSR_HOST_CALL(host_, QueueSubmit)(host_.queue, 1, &submit, fences_.back()));
  }
  // For every submission.
  void wait() {
    for (const VkFence fence : fences_) {
      expect(TSR_HOST_CALL(host_, WaitForFences)(host_.device, 1, &fence, VK_TRUE, UINT64_MAX));
      TSR_HOST_CALL(host_, DestroyFence)(host_.device, fence, nullptr);
    }
    fences_.clear();
  }

  void copy(VkCommandBuffer commands, const HostBuffer& from, std::uint64_t from_offset, const HostBuffer& to,
            std::uint64_t to_offset, std::uint64_t bytes) const {
    const VkBufferCopy region{from_offset, to_offset, bytes};
    TSR_HOST_CALL(host_, CmdCopyBuffer)(commands, from.buffer, to.buffer, 1, &region);
  }
  void fill(VkCommandBuffer commands, const HostBuffer& buffer, std::uint64_t offset, std::uint64_t bytes,
            std::uint32_t word) const {
    TSR_HOST_CALL(host_, CmdFillBuffer)(commands, buffer.buffer, offset, bytes, word);
  }
  void barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags from_access,
               VkPipelineStageFlags to, VkAccessFlags to_access) const {
    VkMemoryBarrier memory{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
    memory.srcAccessMask = from_access;
    memory.dstAccessMask = to_access;
    TSR_HOST_CALL(host_, CmdPipelineBarrier)(commands, from, to, 0, 1, &memory, 0, nullptr, 0, nullptr);
  }
  void execute(VkCommandBuffer primary, VkCommandBuffer secondary) const {
    TSR_HOST_CALL(host_, CmdExecuteCommands)(primary, 1, &secondary);
  }

 private:
  static void expect(VkResult result) { EXPECT_EQ(result, VK_SUCCESS); }

  VulkanHost& host_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  std::vector<VkFence> fences_;
};

// The dispatches and barriers that are recorded. Install it before a device is made and settle it when
// functions were asked for.
class CommandLog {
 public:
  struct Barrier {
    VkPipelineStageFlags from = 0, to = 0;
    VkAccessFlags from_access = 0, to_access = 0;
  };
  using Command = std::optional<Barrier>;  // none: a dispatch
  // Those since the last call.
  static std::vector<Command> take() { return std::exchange(log_, {}); }

  static void install() {
    for (std::size_t i = 0; i < kNames.size(); ++i) VulkanTable::replace(kNames[i], kWrappers[i]);
  }
  static void settle() {
    for (std::size_t i = 0; i < kNames.size(); ++i)
      real_[i] = VulkanTable::real<PFN_vkVoidFunction>(kNames[i]);
  }

 private:
  template <std::size_t I, typename F>
  struct Wrapper;
  template <std::size_t I, typename... A>
  struct Wrapper<I, void(VKAPI_PTR*)(A...)> {
    using F = void(VKAPI_PTR*)(A...);
    static VKAPI_ATTR void VKAPI_CALL call(A... a) {
      note(a...);
      reinterpret_cast<F>(real_[I])(a...);
    }
  };
  template <typename... Counts>
  static void note(VkCommandBuffer, Counts...) {  // a dispatch
    const VulkanTable::Inside inside;
    log_.emplace_back();
  }
  static void note(VkCommandBuffer, VkPipelineStageFlags from, VkPipelineStageFlags to, VkDependencyFlags,
                   std::uint32_t count, const VkMemoryBarrier* memory, std::uint32_t,
                   const VkBufferMemoryBarrier*, std::uint32_t, const VkImageMemoryBarrier*) {
    const VulkanTable::Inside inside;
    Barrier barrier{.from = from, .to = to};
    for (std::uint32_t i = 0; i < count; ++i) {
      barrier.from_access |= memory[i].srcAccessMask;
      barrier.to_access |= memory[i].dstAccessMask;
    }
    log_.emplace_back(barrier);
  }
  template <std::size_t I, typename F>
  static PFN_vkVoidFunction wrapper() {
    return reinterpret_cast<PFN_vkVoidFunction>(&Wrapper<I, F>::call);
  }

  static constexpr std::array<const char*, 3> kNames{"vkCmdDispatch", "vkCmdDispatchBase",
                                                     "vkCmdPipelineBarrier"};
  inline static const std::array<PFN_vkVoidFunction, 3> kWrappers{wrapper<0, PFN_vkCmdDispatch>(),
                                                                  wrapper<1, PFN_vkCmdDispatchBase>(),
                                                                  wrapper<2, PFN_vkCmdPipelineBarrier>()};
  inline static std::array<PFN_vkVoidFunction, 3> real_;
  inline static std::vector<Command> log_;
};

}  // namespace tessera::test
