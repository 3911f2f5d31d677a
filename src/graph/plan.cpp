#include "graph/plan.h"

#include <algorithm>
#include <numeric>

namespace tessera {
namespace {

std::uint64_t round_up(std::uint64_t x, std::uint64_t alignment) {
  return (x + alignment - 1) / alignment * alignment;
}

// Lifetimes are inclusive at both ends, so an op's inputs never share memory with its outputs.
std::vector<Placement> lifetimes(const Program& program, const Graph& graph) {
  std::vector<Placement> placements;
  std::vector<std::uint32_t> index(program.values.size(), kNoValue);
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
    auto touch = [&](ValueId id) {
      if (id == kNoValue) return;
      const Value& value = program.values[id];
      if (value.storage != Storage::activation) return;
      if (index[id] == kNoValue) {
        index[id] = static_cast<std::uint32_t>(placements.size());
        placements.push_back({id, 0, round_up(file_bytes(value.elems(), info(value.dtype)), 4), i, i});
      }
      placements[index[id]].last_op = i;
    };
    for (ValueId id : graph.ops[i].in) touch(id);
    for (ValueId id : graph.ops[i].out) touch(id);
  }
  return placements;
}

// The lowest offset where `p` meets none of `placed` (sorted by offset) that lives at the same time.
std::uint64_t lowest_fit(const Placement& p, const std::vector<const Placement*>& placed,
                         std::uint64_t alignment) {
  std::uint64_t offset = 0;
  for (const Placement* q : placed) {
    if (q->last_op < p.first_op || p.last_op < q->first_op) continue;
    if (q->offset >= offset && q->offset - offset >= p.bytes) break;
    offset = std::max(offset, round_up(q->offset + q->bytes, alignment));
  }
  return offset;
}

void place_by_size(std::vector<Placement>& placements, std::uint64_t alignment) {
  std::vector<std::size_t> order(placements.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(
      order, [&](std::size_t a, std::size_t b) { return placements[a].bytes > placements[b].bytes; });
  std::vector<const Placement*> placed;
  for (std::size_t i : order) {
    placements[i].offset = lowest_fit(placements[i], placed, alignment);
    auto at = std::ranges::upper_bound(placed, placements[i].offset, {},
                                       [](const Placement* q) { return q->offset; });
    placed.insert(at, &placements[i]);
  }
}

}  // namespace

Plan plan_arena(const Program& program, const Graph& graph, std::uint64_t alignment, bool alias,
                std::span<const Scratch> scratch) {
  alignment = std::max<std::uint64_t>(alignment, 1);
  Plan plan;
  plan.placements = lifetimes(program, graph);
  for (const Scratch& s : scratch) plan.placements.push_back({kNoValue, 0, s.bytes, s.op, s.op});

  if (alias) {
    place_by_size(plan.placements, alignment);
  } else {
    std::uint64_t next = 0;
    for (Placement& p : plan.placements) {
      p.offset = next;
      next = round_up(next + p.bytes, alignment);
    }
  }
  for (const Placement& p : plan.placements)
    plan.arena_bytes = std::max(plan.arena_bytes, p.offset + p.bytes);
  return plan;
}

}  // namespace tessera
