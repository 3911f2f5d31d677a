#pragma once

#include <mutex>

#include "device/gpu.h"

namespace tessera {

// The compute queue and its timeline semaphore, made with the first submission. Thread-safe.
class Queue {
 public:
  explicit Queue(Gpu& gpu) : gpu_(gpu) {}
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  Result<std::uint64_t> submit(std::span<const CommandList* const> lists);
  Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns);
  // The value that the latest submission signals; 0 before the first.
  std::uint64_t latest() const { return latest_; }
  // Waits a long but finite time for a submission; false when the device may still work on it, or on others,
  // and is abandoned therefore: what was made on it stays, new work is refused as on a lost one.
  bool ended(std::uint64_t value);

 private:
  Gpu& gpu_;
  std::mutex mutex_;  // the VkQueue, and creation of the semaphore
  VkSemaphore timeline_ = VK_NULL_HANDLE;
  std::atomic<std::uint64_t> latest_ = 0;
};

}  // namespace tessera
