#pragma once

#include <mutex>

#include "device/gpu.h"

namespace tessera {

// A queue and its timeline semaphore, made with the first submission. Thread-safe.
class Queue {
 public:
  Queue(Gpu& gpu, VkQueue queue, std::uint32_t family, bool computes)
      : gpu_(gpu), queue_(queue), family_(family), computes_(computes) {}
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  std::uint32_t family() const { return family_; }
  bool computes() const { return computes_; }  // else it only copies
  // `other`, `after`: the queue and its value that the device waits for first; 0: nothing.
  Result<std::uint64_t> submit(std::span<const CommandList* const> lists, Queue& other, std::uint64_t after);
  Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns);
  Result<VkSemaphore> timeline();
  // The value that the latest submission signals; 0 before the first.
  std::uint64_t latest() const { return latest_; }
  // Waits a long but finite time, once: false when the device hangs, which Gpu::hung then says.
  bool drain(std::uint64_t value);

 private:
  Result<VkSemaphore> timeline_locked();
  VkResult submit_to_queue(const VkSubmitInfo& info);

  Gpu& gpu_;
  const VkQueue queue_;
  const std::uint32_t family_;
  const bool computes_;
  std::mutex mutex_;  // the VkQueue, and what is below
  VkSemaphore timeline_ = VK_NULL_HANDLE;
  std::vector<VkCommandBuffer> buffers_;  // of the submission that is being made
  std::atomic<std::uint64_t> latest_ = 0;
};

}  // namespace tessera
