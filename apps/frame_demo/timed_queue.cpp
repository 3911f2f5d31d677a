#include "timed_queue.h"

#include <algorithm>

namespace demo {

Expected<TimedQueue> TimedQueue::create(const Gpu& gpu) {
  TimedQueue out;
  out.device_ = gpu.device();
  out.timestamp_bits_ = gpu.timestamp_bits();
  out.nanoseconds_per_tick_ = gpu.nanoseconds_per_tick();
  if (!out.measures()) return out;
  const auto count = static_cast<std::uint32_t>(2 * out.spans_.size());
  VkQueryPoolCreateInfo queries{VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
  queries.queryType = VK_QUERY_TYPE_TIMESTAMP;
  queries.queryCount = count;
  if (auto made = out.queries_.make(gpu.device(), vkCreateQueryPool, queries, "creating a query pool"); !made)
    return made.failure();
  VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
  pool.queueFamilyIndex = gpu.family();
  if (auto made = out.pool_.make(gpu.device(), vkCreateCommandPool, pool, "creating a command pool"); !made)
    return made.failure();
  std::vector<VkCommandBuffer> commands(count);
  VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
  allocate.commandPool = out.pool_.get();
  allocate.commandBufferCount = count;
  if (auto made =
          checked(vkAllocateCommandBuffers(gpu.device(), &allocate, commands.data()), "allocating commands");
      !made)
    return made.failure();
  for (std::uint32_t i = 0; i < count; ++i)
    if (auto recorded = out.record(commands[i], i, i % 2 == 0); !recorded) return recorded.failure();
  for (std::size_t i = 0; i < out.spans_.size(); ++i) {
    out.spans_[i].before = commands[2 * i];
    out.spans_[i].after = commands[2 * i + 1];
  }
  return out;
}

// Both timestamps wait for all before them: what an earlier frame still draws is not counted.
Expected<Done> TimedQueue::record(VkCommandBuffer commands, std::uint32_t query, bool reset) const {
  const VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  if (auto begun = checked(vkBeginCommandBuffer(commands, &info), "recording a timestamp"); !begun)
    return begun;
  if (reset) vkCmdResetQueryPool(commands, queries_.get(), query, 2);
  vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries_.get(), query);
  return checked(vkEndCommandBuffer(commands), "recording a timestamp");
}

void TimedQueue::lend(tessera_host_device& host) {
  host.queue_user = this;
  host.submit = [](void* user, VkQueue queue, const VkSubmitInfo* work) -> std::int32_t {
    return static_cast<TimedQueue*>(user)->submit(queue, *work);
  };
}

VkResult TimedQueue::submit(VkQueue queue, const VkSubmitInfo& work) {
  ++submits_;
  const auto span = std::find_if(spans_.begin(), spans_.end(), [](const Span& s) { return !s.used; });
  if (!measures() || frame_ == kNoFrame || span == spans_.end())
    return vkQueueSubmit(queue, 1, &work, VK_NULL_HANDLE);
  std::array<VkSubmitInfo, 3> all{VkSubmitInfo{VK_STRUCTURE_TYPE_SUBMIT_INFO}, work,
                                  VkSubmitInfo{VK_STRUCTURE_TYPE_SUBMIT_INFO}};
  all[0].commandBufferCount = all[2].commandBufferCount = 1;
  all[0].pCommandBuffers = &span->before;
  all[2].pCommandBuffers = &span->after;
  span->used = true;
  span->frame = frame_;
  return vkQueueSubmit(queue, static_cast<std::uint32_t>(all.size()), all.data(), VK_NULL_HANDLE);
}

Expected<double> TimedQueue::take(std::size_t frame) {
  double milliseconds = 0;
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    Span& span = spans_[i];
    if (!span.used || span.frame != frame) continue;
    std::array<std::uint64_t, 2> ticks{};
    const VkResult result =
        vkGetQueryPoolResults(device_, queries_.get(), static_cast<std::uint32_t>(2 * i), 2, sizeof(ticks),
                              ticks.data(), sizeof(ticks[0]), VK_QUERY_RESULT_64_BIT);
    if (result != VK_SUCCESS) return vulkan_failure(result, "reading timestamps");
    span.used = false;
    const std::uint64_t passed = (ticks[1] - ticks[0]) << (64 - timestamp_bits_) >> (64 - timestamp_bits_);
    milliseconds += static_cast<double>(passed) * nanoseconds_per_tick_ * 1e-6;
  }
  return milliseconds;
}

}  // namespace demo
