#include "device/queue.h"

#include "device/commands.h"

namespace tessera {

Queue::~Queue() {
  if (timeline_) gpu_.vk.DestroySemaphore(gpu_.device, timeline_, gpu_.allocator());
}

Result<VkSemaphore> Queue::timeline() {
  if (gpu_.lost) return lost_error();
  const std::lock_guard lock(mutex_);
  return timeline_locked();
}

Result<VkSemaphore> Queue::timeline_locked() {
  if (timeline_) return timeline_;
  VkSemaphoreTypeCreateInfo type{VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO};
  type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
  VkSemaphoreCreateInfo info{VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, &type};
  const VkResult r = gpu_.vk.CreateSemaphore(gpu_.device, &info, gpu_.allocator(), &timeline_);
  if (r != VK_SUCCESS) return gpu_.error(r, "timeline semaphore");
  return timeline_;
}

VkResult Queue::submit_to_queue(const VkSubmitInfo& info) {
  const HostCalls& host = gpu_.host;
  if (host.submit) return static_cast<VkResult>(host.submit(queue_, &info));
  if (host.lock) host.lock(queue_);
  const VkResult r = gpu_.vk.QueueSubmit(queue_, 1, &info, VK_NULL_HANDLE);
  if (host.unlock) host.unlock(queue_);
  return r;
}

Result<std::uint64_t> Queue::submit(std::span<const CommandList* const> lists, Queue& other,
                                    std::uint64_t after) {
  if (gpu_.lost) return lost_error();
  if (after > other.latest())
    return Error{Code::invalid_argument, "submit: nothing submitted signals " + std::to_string(after)};
  VkSemaphore awaited = VK_NULL_HANDLE;
  if (after > 0) {
    TSR_TRY(awaited, other.timeline());
  }

  const std::lock_guard lock(mutex_);
  buffers_.clear();
  for (const CommandList* list : lists) {
    if (!list || !impl(*list).finished())
      return Error{Code::invalid_argument, "submit: a command list that is not finished"};
    if (&impl(*list).queue() != this)
      return Error{Code::invalid_argument, "submit: a command list of another lane"};
    buffers_.push_back(impl(*list).handle());
  }
  TSR_TRY(const VkSemaphore timeline, timeline_locked());
  const std::uint64_t value = latest_ + 1;
  VkTimelineSemaphoreSubmitInfo values{VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO};
  values.signalSemaphoreValueCount = 1;
  values.pSignalSemaphoreValues = &value;
  VkSubmitInfo info{VK_STRUCTURE_TYPE_SUBMIT_INFO, &values};
  info.commandBufferCount = static_cast<std::uint32_t>(buffers_.size());
  info.pCommandBuffers = buffers_.data();
  info.signalSemaphoreCount = 1;
  info.pSignalSemaphores = &timeline;
  VkPipelineStageFlags stages = VK_PIPELINE_STAGE_TRANSFER_BIT;
  if (computes_) stages |= VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
  if (awaited) {
    values.waitSemaphoreValueCount = info.waitSemaphoreCount = 1;
    values.pWaitSemaphoreValues = &after;
    info.pWaitSemaphores = &awaited;
    info.pWaitDstStageMask = &stages;
  }
  const VkResult r = submit_to_queue(info);
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

bool Queue::drain(std::uint64_t value) {
  // Far beyond any watchdog and any list of slices, so that only a hung driver exceeds it, or a host that
  // never submits what it was given.
  constexpr std::uint64_t kLongest = 60'000'000'000;
  if (gpu_.hung) return false;
  const auto done = wait(value, kLongest);
  if (done.ok() ? *done : gpu_.lost.load()) return true;  // a lost device runs nothing any more
  if (!gpu_.hung.exchange(true))
    log(gpu_.log, LogLevel::error, "the device does not finish its work; what it may use is abandoned");
  return false;
}

}  // namespace tessera
