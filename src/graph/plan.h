// Memory by lifetimes: where each activation of a graph lives in one arena.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace tessera {

struct Placement {
  ValueId value = kNoValue;
  std::uint64_t offset = 0;                 // bytes, multiple of the alignment
  std::uint64_t bytes = 0;                  // max_rows rows; not rounded
  std::uint32_t first_op = 0, last_op = 0;  // lifetime, inclusive
};

struct Plan {
  std::vector<Placement> placements;  // one an activation of the graph, by first_op
  std::uint64_t arena_bytes = 0;
};

// Extra activations that a lowering needs beside the graph's own values (split-attention partials).
struct Scratch {
  std::uint32_t op = 0;  // lives only in this op
  std::uint64_t bytes = 0;
};

// Greedy by size: the largest value first, at the lowest offset free during its whole lifetime.
// alias=false gives every value its own place (verification). Scratch placements follow, in order.
Plan plan_arena(const Program& program, const Graph& graph, std::uint64_t alignment, bool alias,
                std::span<const Scratch> scratch = {});

std::string print(const Program& program, const Plan& plan);

}  // namespace tessera
