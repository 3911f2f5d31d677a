// Draws lists into pictures that nobody presents, two frames in flight, and says when each frame was done.
#pragma once

#include <array>
#include <chrono>
#include <optional>

#include "../shared/png_file.h"
#include "draw.h"
#include "font.h"
#include "gpu.h"
#include "pipelines.h"

namespace demo {

using Clock = std::chrono::steady_clock;

using tool::Picture;

struct FinishedFrame {
  std::size_t id = 0;
  Clock::duration took{};  // from `begun` to the moment its fence was seen signalled
};

class Renderer {
 public:
  // The atlas is copied to the device. gpu must outlive the renderer.
  static Expected<Renderer> create(const Gpu& gpu, VkExtent2D extent, const Atlas& atlas);
  Renderer(Renderer&&) = default;
  Renderer& operator=(Renderer&&) = delete;
  ~Renderer();

  // Submits one frame; waits first when two are in flight.
  Expected<Done> submit(const DrawList& list, std::size_t id, Clock::time_point begun);
  // Sees frames end until `time`.
  Expected<Done> wait_until(Clock::time_point time);
  // Sees all frames end.
  Expected<Done> drain();
  // Frames that ended since the last call, in order.
  std::vector<FinishedFrame> take_finished() { return std::exchange(finished_, {}); }

  // One frame by itself, read back.
  Expected<Picture> picture(const DrawList& list);

 private:
  struct Slot {
    Image target;
    Framebuffer framebuffer;
    CommandPool pool;
    VkCommandBuffer commands = VK_NULL_HANDLE;
    Fence fence;
    Buffer instances;
    bool in_flight = false;
    std::size_t id = 0;
    Clock::time_point begun;
  };

  explicit Renderer(const Gpu& gpu, VkExtent2D extent) : gpu_(&gpu), extent_(extent) {}
  Expected<Done> make_slot(Slot& slot);
  Expected<Done> upload(const Atlas& atlas);
  Expected<Done> begin(Slot& slot);
  Expected<Done> record(Slot& slot, const DrawList& list);
  Expected<Done> end_and_submit(Slot& slot);
  void record_readback(Slot& slot, VkBuffer to);
  // Waits for the slot's frame until `time`; without one, for ever. Whether it ended.
  Expected<bool> reap(Slot& slot, std::optional<Clock::time_point> time);

  const Gpu* gpu_;
  VkExtent2D extent_;
  Image atlas_;
  Pipelines pipelines_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;  // of slots_; the oldest in flight, if it is
  std::vector<FinishedFrame> finished_;
};

}  // namespace demo
