#include "schedule/steps.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

namespace tessera {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

Result<std::vector<Dispatch>> one(Result<Dispatch> dispatch) {
  if (!dispatch) return dispatch.error();
  return std::vector<Dispatch>{*std::move(dispatch)};
}

// The dispatches of a call and the scratch that they share.
Result<std::vector<Dispatch>> choose(const Call& call, const Target& target, std::uint64_t& scratch_bytes) {
  using Chosen = Result<std::vector<Dispatch>>;
  return std::visit(
      Overloaded{
          [&](const EmbeddingShape& s) -> Chosen { return one(choose_embedding(s, target)); },
          [&](const NormShape& s) -> Chosen { return one(choose_norm(s, target)); },
          [&](const MatmulShape& s) -> Chosen { return one(choose_matmul(s, target)); },
          [&](const RopeAppendShape& s) -> Chosen { return one(choose_rope_append(s, target)); },
          [&](const RopeCall& s) -> Chosen { return one(choose_rope(s, target)); },
          [&](const KvAppendCall& s) -> Chosen { return one(choose_kv_append(s, target)); },
          [&](const ElementwiseShape& s) -> Chosen { return one(choose_elementwise(s, target)); },
          [&](const SoftmaxShape& s) -> Chosen { return one(choose_softmax(s, target)); },
          [&](const LastRowCall& s) -> Chosen { return one(choose_last_row(s.dim, s.residual, target)); },
          [&](const AdvanceCall&) -> Chosen { return one(choose_advance(target)); },
          [&](const SampleCall& s) -> Chosen {
            scratch_bytes = std::uint64_t{s.vocab} * 4;
            return one(choose_sample(s.vocab, s.context, target));
          },
          [&](const AttentionShape& s) -> Chosen {
            TSR_TRY(AttentionChoice choice, choose_attention(s, target));
            scratch_bytes = choice.partial_bytes;
            return std::move(choice.dispatches);
          }},
      call.shape);
}

// Operands of dispatch `index` of `count` of a call, in the binding order that kernels/choose.h states.
std::vector<Operand> operands_of(const Call& call, std::size_t index, std::size_t count) {
  std::vector<Operand> operands = call.operands;
  if (std::holds_alternative<SampleCall>(call.shape)) operands.push_back({kScratch});
  if (count == 2) {
    const Operand state = operands[3], out = operands[4];
    if (index == 0)
      operands[4] = {kScratch};
    else
      operands = {{kScratch}, state, out};
  }
  return operands;
}

const char* name(Access access) {
  switch (access) {
    case Access::none: return "-";
    case Access::read: return "r";
    case Access::write: return "w";
    case Access::read_write: return "rw";
  }
  return "?";
}

bool writes(Access access) { return access == Access::write || access == Access::read_write; }

}  // namespace

Result<ScheduledGraph> choose_kernels(const std::vector<Call>& calls, const Target& target) {
  ScheduledGraph out;
  for (const Call& call : calls) {
    std::uint64_t scratch_bytes = 0;
    TSR_TRY(std::vector<Dispatch> dispatches, choose(call, target, scratch_bytes));
    if (scratch_bytes != 0) out.scratch.push_back({call.op, scratch_bytes});
    for (std::size_t i = 0; i < dispatches.size(); ++i) {
      Step step;
      step.op = call.op;
      step.operands = operands_of(call, i, dispatches.size());
      step.dispatch = std::move(dispatches[i]);
      out.steps.push_back(std::move(step));
    }
  }
  return out;
}

Result<void> bind_arena(const Program& program, const Graph& graph, const MemoryMap& map,
                        const Limits& limits, bool alias, ScheduledGraph& scheduled) {
  const std::uint64_t align = limits.min_storage_alignment;
  scheduled.plan = plan_arena(program, graph, align, alias, scheduled.scratch);
  if (scheduled.plan.arena_bytes > limits.max_buffer_size)
    return Error{Code::unsupported,
                 "the arena of graph '" + graph.name + "' takes " +
                     std::to_string(scheduled.plan.arena_bytes) +
                     " bytes, more than this device's max_buffer_size (use a smaller chunk)"};
  std::vector<const Placement*> of_value(program.values.size(), nullptr);
  std::vector<const Placement*> of_scratch(graph.ops.size(), nullptr);
  for (const Placement& p : scheduled.plan.placements) {
    if (p.value == kNoValue)
      of_scratch[p.first_op] = &p;
    else
      of_value[p.value] = &p;
  }
  for (Step& step : scheduled.steps) {
    const Kernel& k = kernel(step.dispatch.kernel);
    if (step.operands.size() != k.binding_count)
      return Error{Code::internal, "kernel " + std::string(k.name) + " has " +
                                       std::to_string(k.binding_count) + " bindings, the schedule gives " +
                                       std::to_string(step.operands.size())};
    step.ranges.resize(k.binding_count);
    for (std::uint32_t b = 0; b < k.binding_count; ++b) {
      const Operand& operand = step.operands[b];
      Range& range = step.ranges[b];
      range.access = k.access[b];
      const Placement* placed = operand.value == kScratch   ? of_scratch[step.op]
                                : operand.value == kNoValue ? nullptr
                                                            : of_value[operand.value];
      if (operand.value == kNoValue) {
        // A place of its own each time, so that a declared write to it never meets another.
        range = {kDummy, scheduled.dummy_bytes, align, Access::none};
        scheduled.dummy_bytes += align;
      } else if (placed != nullptr) {
        range.buffer = kArena;
        range.offset = placed->offset;
        range.bytes = placed->bytes;
      } else {
        const Place& place = map.places[operand.value];
        range.buffer = place.buffer;
        range.offset = place.offset + operand.first_row * place.row_bytes;
        range.bytes = operand.rows != 0 ? operand.rows * place.row_bytes : place.bytes;
      }
      if (range.bytes > limits.max_storage_range)
        return Error{Code::unsupported,
                     "an operand of '" + graph.ops[step.op].name + "' takes " + std::to_string(range.bytes) +
                         " bytes, more than this device's max_storage_range of " +
                         std::to_string(limits.max_storage_range) + " (use a smaller chunk)"};
    }
  }
  return {};
}

std::vector<Hazard> find_hazards(const std::vector<Step>& steps) {
  std::vector<Hazard> hazards;
  for (std::uint32_t to = 0; to < steps.size(); ++to)
    for (std::uint32_t from = 0; from < to; ++from) {
      const Range* found = nullptr;
      for (const Range& b : steps[to].ranges)
        for (const Range& a : steps[from].ranges)
          if (found == nullptr && a.access != Access::none && b.access != Access::none &&
              (writes(a.access) || writes(b.access)) && a.overlaps(b))
            found = &b;
      if (found != nullptr) hazards.push_back({from, to, *found});
    }
  return hazards;
}

void place_barriers(const std::vector<Hazard>& hazards, std::vector<Step>& steps) {
  if (!steps.empty()) steps[0].barrier_before = true;
  std::uint32_t last = 0;                 // the step before which the latest barrier stands
  for (const Hazard& hazard : hazards) {  // ordered by `to`
    if (hazard.from < last) continue;
    steps[hazard.to].barrier_before = true;
    last = hazard.to;
  }
}

Result<ScheduledGraph> schedule(const Program& program, const Graph& graph, const MemoryMap& map,
                                const Target& target, bool alias) {
  TSR_TRY(const std::vector<Call> calls, lower(program, graph, map, target.limits));
  TSR_TRY(ScheduledGraph scheduled, choose_kernels(calls, target));
  TSR_CHECK(bind_arena(program, graph, map, target.limits, alias, scheduled));
  place_barriers(find_hazards(scheduled.steps), scheduled.steps);
  return scheduled;
}

std::string print(const Program& program, const Graph& graph, const MemoryMap& map,
                  const ScheduledGraph& scheduled) {
  std::string text = "graph " + graph.name + ": " + std::to_string(scheduled.steps.size()) +
                     " steps, arena " + std::to_string(scheduled.plan.arena_bytes) + " bytes\n";
  for (std::size_t i = 0; i < scheduled.steps.size(); ++i) {
    const Step& step = scheduled.steps[i];
    const Kernel& k = kernel(step.dispatch.kernel);
    if (step.barrier_before) text += "  barrier\n";
    text += std::to_string(i) + " " + graph.ops[step.op].name + ": " + std::string(k.name) + " (" +
            std::to_string(step.dispatch.grid[0]) + "," + std::to_string(step.dispatch.grid[1]) + "," +
            std::to_string(step.dispatch.grid[2]) + ") spec";
    for (std::uint32_t v : step.dispatch.spec) text += " " + std::to_string(v);
    text += "\n";
    for (std::size_t b = 0; b < step.ranges.size(); ++b) {
      const Range& r = step.ranges[b];
      if (r.access == Access::none) continue;
      const ValueId id = step.operands[b].value;
      text += "    " + std::to_string(b) + " " + name(r.access) + " " +
              (id == kScratch ? std::string("scratch") : program.values[id].name) + " @ " +
              map.buffers[r.buffer].name + "+" + std::to_string(r.offset) + ":" + std::to_string(r.bytes) +
              "\n";
    }
  }
  return text;
}

}  // namespace tessera
