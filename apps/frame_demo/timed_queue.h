// Tessera's way to the renderer's queue: each of its submissions goes between two timestamps of the
// renderer's own, which so sees what it takes of a frame.
#pragma once

#include <array>

#include "gpu.h"

namespace demo {

class TimedQueue {
 public:
  static Expected<TimedQueue> create(const Gpu& gpu);  // gpu must outlive it

  // Sets tessera_host_device::submit; `host` is used while this object lives and stays where it is.
  void lend(tessera_host_device& host);
  // What is submitted from now on belongs to this frame; before, nothing is timed.
  void begin_frame(std::size_t frame) { frame_ = frame; }
  // Milliseconds of the device that the frame's submissions took; to be called once, when they have ended.
  Expected<double> take(std::size_t frame);
  bool measures() const { return timestamp_bits_ > 0; }
  std::size_t submits() const { return submits_; }

 private:
  static constexpr std::size_t kNoFrame = static_cast<std::size_t>(-1);
  struct Span {  // around one submission
    VkCommandBuffer before = VK_NULL_HANDLE, after = VK_NULL_HANDLE;
    bool used = false;
    std::size_t frame = 0;
  };
  Expected<Done> record(VkCommandBuffer commands, std::uint32_t query, bool reset) const;
  VkResult submit(VkQueue queue, const VkSubmitInfo& work);

  VkDevice device_ = VK_NULL_HANDLE;
  std::uint32_t timestamp_bits_ = 0;
  double nanoseconds_per_tick_ = 0;
  QueryPool queries_;
  CommandPool pool_;
  std::array<Span, 16> spans_;  // more than two frames in flight need
  std::size_t frame_ = kNoFrame, submits_ = 0;
};

}  // namespace demo
