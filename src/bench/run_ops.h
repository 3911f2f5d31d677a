// Cases on a device: checked on sampled elements against the reference, then timed by GPU timestamps; by the
// host's clock from submission to completion where the device has none.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "bench/one_op.h"
#include "kernels/choose.h"
#include "reference/reference.h"
#include "schedule/gpu_walker.h"

namespace tessera::bench {

struct OpTime {
  std::string failed;  // why there is no time: no kernel, refused by limits, wrong; else empty
  bool wrong = false;  // an element was over its bound
  std::uint32_t samples = 0;
  double median_s = 0, min_s = 0, max_s = 0;
  std::uint64_t checked = 0;  // elements compared with the reference
  double worst_ratio = 0;     // error / bound
  // Of attention: tiles of scores, those that lists and masks leave and all there are; 0 of other ops.
  AttentionTiles tiles = {};
};

struct OpOptions {
  std::uint32_t samples = 10;
  double seconds = 3;     // after as much measured time three samples are enough
  std::string form = {};  // Target::form; empty: the device's choice
};

// A case made ready on a device.
class TimedOp {
 public:
  static Result<TimedOp> create(Device& device, const OpCase& c, const std::string& form = {});
  // One run.
  Result<double> seconds();
  // Of the run before; sets checked, worst_ratio and, where an element is over its bound, wrong and failed.
  Result<void> check(OpTime& out);

 private:
  explicit TimedOp(const OpCase& c) : case_(c), op_(build(c, whole(c))) {}
  Result<void> compare(const Window& window, const OneOp& part, const ReferenceOutput& expected, OpTime& out);

  OpCase case_;
  OneOp op_;
  bool gpu_clock_ = false;
  std::unique_ptr<GpuWalker> walker_;
};

// A case that was checked, and what is known of it.
struct ReadyOp {
  TimedOp op;
  OpTime time;
};
// Times them in turn, a run of each a round, after warming up: sets samples and times. Nothing of none.
Result<void> measure(std::span<ReadyOp> ops, const OpOptions& options);

// Errors are those after which nothing more can run (device_lost); what concerns the case
// alone is in `failed`.
Result<OpTime> time_op(Device& device, const OpCase& c, const OpOptions& options);

// Whether the device times itself.
inline bool has_gpu_clock(const Device& device) { return device.report().limits.timestamp_ns > 0; }

// What the device reaches: bytes a second read and written by a copy of 256 MiB (less where buffers are
// smaller), and f32 multiply-adds from registers, two operations each.
struct Peaks {
  double copy_bytes_per_s = 0;
  double flops_per_s = 0;
};
Result<Peaks> measure_peaks(Device& device);

}  // namespace tessera::bench
