// A program of one graph, planned for memory of someone else's: what is to be bound, and the steps that use
// it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "schedule/steps.h"

namespace tessera {

// Values that are bound in one piece: one, or several that a kernel reads through one binding.
struct PlanTensor {
  std::string name;
  std::vector<ValueId> values;  // in the order that they lie
  BufferId buffer = 0;          // where GraphPlan::map has it
  std::uint64_t offset = 0, bytes = 0;
  bool reads = false, writes = false;  // as the shaders declare it

  bool holds(const Range& range) const {
    return range.buffer == buffer && range.offset >= offset && range.offset < offset + bytes;
  }
};

struct GraphPlan {
  std::shared_ptr<const Program> program;
  MemoryMap map;
  ScheduledGraph scheduled;
  std::vector<Call> calls;
  std::vector<PlanTensor> tensors;  // those that some step binds
};

// Pure; unsupported when the device's limits cannot hold the program.
Result<GraphPlan> plan_graph(std::shared_ptr<const Program> program, const Target& target);

}  // namespace tessera
