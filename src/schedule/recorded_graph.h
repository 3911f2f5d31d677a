// A scheduled graph on the device: its slices as command lists, what they were measured to take, and finer
// ones where that is too long.
#pragma once

#include "graph/walker.h"
#include "schedule/bound_steps.h"

namespace tessera {

class RecordedGraph {
 public:
  RecordedGraph(ScheduledGraph scheduled, std::uint32_t max_rows)
      : scheduled_(std::move(scheduled)), max_rows_(max_rows) {
    for (const Step& step : scheduled_.steps)
      masked_ = masked_ || step.dispatch.kernel == KernelId::mask_tiles;
  }

  ScheduledGraph& scheduled() { return scheduled_; }
  const ScheduledGraph& scheduled() const { return scheduled_; }
  BoundSteps& bound() { return bound_; }
  std::uint32_t slices() const { return static_cast<std::uint32_t>(recorded_.size()); }
  const Slice& slice(std::uint32_t i) const { return recorded_[i].slice; }
  const CommandList* commands(std::uint32_t i) const { return recorded_[i].commands.get(); }

  // Cuts and records all; on failure it keeps the lists it had.
  Result<void> record(Device& device, double slice_us);
  // The same slices again, over new bindings; what they were measured to take stays.
  Result<void> record_again(Device& device);

  // What a submission's times are for: nothing, tuning, or also prediction.
  enum class Measure : std::uint8_t { none, time, cost };
  void submitted(const SliceRun& run, std::uint64_t value, Measure measure);
  // Reads the times of what was submitted to be measured and has ended.
  Result<void> read_times(std::uint64_t completed);
  SlicePrediction predict(const SliceRun& run) const {
    return costs_.predict(run.first, run.rows, run.position + run.rows);
  }

  // Of the latest run; unsupported before it or without timestamps.
  Result<double> seconds() const;

  // Whether slices took more than half as much again as slice_us, and can be cut.
  bool too_coarse(double slice_us) const { return worst_us_ > 1.5 * slice_us && slice_us < finest_us_; }
  // Whether slices took less than a quarter of what they were cut for: how much a user's mask leaves is known
  // from times alone.
  bool too_fine() const { return masked_ && slices() > 4 && sum_us_ > 0 && 4 * sum_us_ < cost_us(); }
  double cost_us() const;  // of all steps, as they were estimated or measured
  // Records with the measured times. False when that would make no other number of slices, or there is no
  // memory for them.
  Result<bool> refine(Device& device, double slice_us);
  // How often all of it has been submitted.
  std::uint32_t runs() const { return runs_; }

 private:
  static constexpr double kAnything = 1e300;
  struct Recorded {
    Slice slice;
    std::unique_ptr<CommandList> commands;
    std::uint64_t value = 0;  // of its latest submission
    SliceRun run = {};        // that one's
    Measure measure = Measure::none;
    double last_us = 0, us = 0;  // what it took when it was measured last; the lesser of the last two times
  };

  using Lists = std::vector<std::unique_ptr<CommandList>>;
  Result<Lists> record_slices(Device& device, std::span<const Slice> slices) const;

  ScheduledGraph scheduled_;
  std::uint32_t max_rows_;
  BoundSteps bound_;
  std::vector<Recorded> recorded_;
  SliceCosts costs_;
  std::uint32_t unread_ = 0, runs_ = 0;
  double worst_us_ = 0,  // of what each slice took last
      sum_us_ = 0,       // of all, once all are known
      finest_us_ = kAnything;
  bool masked_ = false;
  double seconds_ = 0;  // of the last run of lists that were replaced
};

}  // namespace tessera
