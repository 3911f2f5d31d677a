#include "device/queue.h"

#include "device/commands.h"

namespace tessera {

Queue::~Queue() {
  if (timeline_ && !gpu_.abandoned) gpu_.vk.DestroySemaphore(gpu_.device, timeline_, nullptr);
}

Result<std::uint64_t> Queue::submit(std::span<const CommandList* const> lists) {
  if (gpu_.lost) return lost_error();
  std::vector<VkCommandBuffer> buffers;
  for (const CommandList* list : lists) {
    if (!list || !impl(*list).finished())
      return Error{Code::invalid_argument, "submit: a command list that is not finished"};
    buffers.push_back(impl(*list).handle());
  }

  const std::lock_guard lock(mutex_);
  if (!timeline_) {
    VkSemaphoreTypeCreateInfo type{VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO};
    type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
    VkSemaphoreCreateInfo info{VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, &type};
    const VkResult r = gpu_.vk.CreateSemaphore(gpu_.device, &info, nullptr, &timeline_);
    if (r != VK_SUCCESS) return gpu_.error(r, "timeline semaphore");
  }
  const std::uint64_t value = latest_ + 1;
  VkTimelineSemaphoreSubmitInfo signal{VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO};
  signal.signalSemaphoreValueCount = 1;
  signal.pSignalSemaphoreValues = &value;
  VkSubmitInfo info{VK_STRUCTURE_TYPE_SUBMIT_INFO, &signal};
  info.commandBufferCount = static_cast<std::uint32_t>(buffers.size());
  info.pCommandBuffers = buffers.data();
  info.signalSemaphoreCount = 1;
  info.pSignalSemaphores = &timeline_;
  const VkResult r = gpu_.vk.QueueSubmit(gpu_.queue, 1, &info, VK_NULL_HANDLE);
  if (r != VK_SUCCESS) return gpu_.error(r, "submitting");
  latest_ = value;
  for (const CommandList* list : lists) impl(*list).submitted(value);
  return value;
}

Result<bool> Queue::wait(std::uint64_t value, std::uint64_t timeout_ns) {
  if (gpu_.lost) return lost_error();
  if (value == 0) return true;
  if (value > latest_)
    return Error{Code::invalid_argument, "wait: nothing submitted signals " + std::to_string(value)};
  VkSemaphoreWaitInfo info{VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO};
  info.semaphoreCount = 1;
  info.pSemaphores = &timeline_;  // made before latest_ became non-zero
  info.pValues = &value;
  const VkResult r = gpu_.vk.WaitSemaphores(gpu_.device, &info, timeout_ns);
  if (r == VK_TIMEOUT) return false;
  if (r != VK_SUCCESS) return gpu_.error(r, "waiting for the device");
  return true;
}

bool Queue::ended(std::uint64_t value) {
  if (gpu_.abandoned) return false;
  // Far beyond any watchdog and any list of slices, so that only a hung driver exceeds it.
  constexpr std::uint64_t kLongest = 60'000'000'000;
  const auto done = wait(value, kLongest);
  if (done.ok() ? *done : gpu_.lost.load()) return true;  // a lost device runs nothing any more
  const bool known = gpu_.abandoned.exchange(true);
  gpu_.lost = true;
  if (known) return false;
  log(gpu_.log, LogLevel::error,
      "the device does not finish its work (" + (done.ok() ? "a minute has passed" : done.error().message) +
          "); what was made on it is never freed");
  return false;
}

}  // namespace tessera
