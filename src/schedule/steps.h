// Passes 2 to 5: calls to steps. All pure; a list of steps prints as text.
//   choose_kernels   a kernel, its constants, parameters and grid for each call
//   bind_arena       operands to ranges of buffers, activations by the plan
//   find_hazards     which step must see what an earlier one wrote, from the shaders' declared access alone
//   place_barriers   as few as cover every hazard
#pragma once

#include <string>
#include <vector>

#include "schedule/lower.h"

namespace tessera {

struct Range {
  BufferId buffer = kDummy;
  std::uint64_t offset = 0, bytes = 0;
  Access access = Access::none;  // as the shader declares it; none: never touched
  bool overlaps(const Range& other) const {
    return buffer == other.buffer && offset < other.offset + other.bytes && other.offset < offset + bytes;
  }
  bool operator==(const Range&) const = default;
};

struct Step {
  std::uint32_t op = 0;
  Dispatch dispatch;
  std::vector<Operand> operands;  // by binding; kScratch and kStepParams are no values
  std::vector<Range> ranges;      // by binding, from bind_arena on
  bool barrier_before = false;
  double cost_us = 0;  // estimate at full rows
};

struct Hazard {
  std::uint32_t from = 0, to = 0;  // step indices
  Range range;                     // of `to`
  bool operator==(const Hazard&) const = default;
};

// A call's scratch operand is marked by this value, and its number among those of the op by first_row; its
// bytes are in ScheduledGraph::scratch, by op and in order.
inline constexpr ValueId kScratch = 0xfffffffeu;
// A step's own parameter buffer (Dispatch::params).
inline constexpr ValueId kStepParams = 0xfffffffdu;

struct ScheduledGraph {
  std::vector<Step> steps;
  std::vector<Scratch> scratch;
  Plan plan;
  std::uint64_t dummy_bytes = 0;
  std::vector<std::uint32_t> params;  // content of kParams, equal ones of several steps once
};

Result<ScheduledGraph> choose_kernels(const std::vector<Call>& calls, const Target& target);
// alias: let values whose lifetimes do not meet share memory.
Result<void> bind_arena(const Program& program, const Graph& graph, const MemoryMap& map,
                        const Limits& limits, bool alias, ScheduledGraph& scheduled);
std::vector<Hazard> find_hazards(const std::vector<Step>& steps);
// The first step always has a barrier: what earlier passes wrote.
void place_barriers(const std::vector<Hazard>& hazards, std::vector<Step>& steps);

// All five.
Result<ScheduledGraph> schedule(const Program& program, const Graph& graph, const MemoryMap& map,
                                const Target& target, bool alias);

std::string print(const Program& program, const Graph& graph, const MemoryMap& map,
                  const ScheduledGraph& scheduled);

}  // namespace tessera
