// A Walker on a Vulkan device: schedules every graph of a program, uploads its weights, makes the pipelines,
// binds and records once; run() replays.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "graph/walker.h"
#include "schedule/pipelines.h"
#include "schedule/slices.h"

namespace tessera {

struct GpuWalkerOptions {
  bool alias = true;  // false: every value has its own memory and stays readable after a run (verification)
  RunJobs run_jobs;   // for making pipelines; empty: the calling thread
  Progress progress;  // stages "pipelines" and, where load() waits, "weights"
  double slice_budget_us = kSliceBudgetUs;  // what a slice should take at most, as far as grids can be cut
  bool stream = false;                      // made without its weights: load() brings them
  std::string form;  // of attention, whatever was measured (Target::form); empty: by choice
  // For tests that plant faults: called with every graph's schedule before anything is made of it. Ranges
  // stay within the arena and the buffers that were planned.
  std::function<void(const Graph&, ScheduledGraph&)> edit_schedule;
};

class GpuWalker : public Walker {
 public:
  // The device must outlive the walker. unsupported when the device's limits cannot hold the program.
  static Result<std::unique_ptr<GpuWalker>> create(Device& device, std::shared_ptr<const Program> program,
                                                   GpuWalkerOptions options);

  // Runs one op of a graph alone: a submission of its steps. Slow; for verification.
  virtual Result<void> run_op(std::uint32_t graph, std::uint32_t op) = 0;
  // As Walker::read, and with alias=false activations too (of the graph that ran last).
  virtual Result<void> read_activation(std::uint32_t graph, ValueId value, std::span<std::byte> out) = 0;
  // GPU time of the graph's latest run, by timestamps around its slices; unsupported without timestamps.
  virtual Result<double> gpu_seconds(std::uint32_t graph) = 0;
  virtual std::string print_schedule() const = 0;
};

}  // namespace tessera
