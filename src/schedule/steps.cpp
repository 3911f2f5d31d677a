#include "schedule/steps.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <map>

namespace tessera {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

struct Chosen {  // the dispatches of a call and the scratches that they share
  std::vector<Dispatch> dispatches;
  std::vector<std::uint64_t> scratch;
};

Result<Chosen> one(Result<Dispatch> dispatch, std::vector<std::uint64_t> scratch = {}) {
  if (!dispatch) return dispatch.error();
  return Chosen{{*std::move(dispatch)}, std::move(scratch)};
}

Result<Chosen> choose(const Call& call, const Target& target) {
  using Out = Result<Chosen>;
  return std::visit(
      Overloaded{[&](const EmbeddingShape& s) -> Out { return one(choose_embedding(s, target)); },
                 [&](const NormShape& s) -> Out { return one(choose_norm(s, target)); },
                 [&](const MatmulShape& s) -> Out {
                   TSR_TRY(MatmulChoice choice, choose_matmul_call(s, target));
                   return Chosen{std::move(choice.dispatches), std::move(choice.scratch)};
                 },
                 [&](const QkvShape& s) -> Out { return one(choose_qkv_append(s, target)); },
                 [&](const FeedForwardShape& s) -> Out {
                   TSR_TRY(FeedForwardChoice choice, choose_feed_forward(s, target));
                   return Chosen{std::move(choice.dispatches), std::move(choice.scratch)};
                 },
                 [&](const MlpShape& s) -> Out {
                   TSR_TRY(MlpChoice choice, choose_mlp(s, target));
                   return Chosen{std::move(choice.dispatches), std::move(choice.scratch)};
                 },
                 [&](const RopeAppendShape& s) -> Out { return one(choose_rope_append(s, target)); },
                 [&](const RopeCall& s) -> Out { return one(choose_rope(s, target)); },
                 [&](const KvAppendCall& s) -> Out { return one(choose_kv_append(s, target)); },
                 [&](const ElementwiseShape& s) -> Out { return one(choose_elementwise(s, target)); },
                 [&](const SoftmaxShape& s) -> Out { return one(choose_softmax(s, target)); },
                 [&](const LastRowCall& s) -> Out { return one(choose_last_row(s.dim, s.residual, target)); },
                 [&](const AdvanceCall& c) -> Out { return one(choose_advance(c.chunk, target)); },
                 [&](const SampleCall& s) -> Out {
                   return one(choose_sample(s.vocab, s.context, target), {std::uint64_t{s.vocab} * 4});
                 },
                 [&](const LinearAttentionShape& s) -> Out {
                   TSR_TRY(CallChoice choice, choose_linear_attention(s, target));
                   return Chosen{std::move(choice.dispatches), std::move(choice.scratch)};
                 },
                 [&](const AttentionShape& s) -> Out {
                   TSR_TRY(AttentionChoice choice, choose_attention(s, target));
                   return Chosen{std::move(choice.dispatches), std::move(choice.scratch)};
                 }},
      call.shape);
}

// By binding, as Dispatch::operands or else the order that kernels/choose.h states.
std::vector<Operand> operands_of(const Call& call, const Dispatch& dispatch) {
  std::vector<Operand> operands = call.operands;
  if (std::holds_alternative<SampleCall>(call.shape)) operands.push_back({kScratch});
  if (dispatch.operands.empty()) return operands;
  std::vector<Operand> by_binding;
  for (const OperandIndex i : dispatch.operands) {
    if (i == kParamsOperand)
      by_binding.push_back({kStepParams});
    else if (i != kNoOperand && i >= kScratchOperand)
      by_binding.push_back({kScratch, static_cast<std::uint64_t>(i - kScratchOperand)});
    else
      by_binding.push_back(i < operands.size() ? operands[i] : Operand{});
  }
  return by_binding;
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

// Large ones, which are mostly floats, in hexadecimal.
std::string print_words(const std::vector<std::uint32_t>& words) {
  std::string text;
  for (const std::uint32_t word : words) {
    char digits[16];
    std::snprintf(digits, sizeof digits, word < 1u << 24 ? " %" PRIu32 : " 0x%08" PRIx32, word);
    text += digits;
  }
  return text;
}

bool writes(Access access) { return access == Access::write || access == Access::read_write; }

}  // namespace

Result<ScheduledGraph> choose_kernels(const std::vector<Call>& calls, const Target& target) {
  ScheduledGraph out;
  for (const Call& call : calls) {
    TSR_TRY(Chosen chosen, choose(call, target));
    for (const std::uint64_t bytes : chosen.scratch) out.scratch.push_back({call.op, bytes});
    for (Dispatch& dispatch : chosen.dispatches) {
      Step step;
      step.op = call.op;
      step.operands = operands_of(call, dispatch);
      step.dispatch = std::move(dispatch);
      out.steps.push_back(std::move(step));
    }
  }
  return out;
}

namespace {

// Ranges of the operands of steps, one after the other.
class Binding {
 public:
  Binding(const Program& program, const Graph& graph, const MemoryMap& map, const Limits& limits,
          ScheduledGraph& scheduled)
      : map_(map),
        limits_(limits),
        scheduled_(scheduled),
        of_value_(program.values.size(), nullptr),
        of_scratch_(graph.ops.size()) {
    for (const Placement& p : scheduled.plan.placements) {
      if (p.value == kNoValue)
        of_scratch_[p.first_op].push_back(&p);
      else
        of_value_[p.value] = &p;
    }
  }

  Range range_of(const Step& step, const Operand& operand, Access access) {
    const std::uint64_t align = limits_.min_storage_alignment;
    if (operand.value == kNoValue) {
      // A place of its own each time, so that a declared write to it never meets another.
      const Range range{kDummy, scheduled_.dummy_bytes, align, Access::none};
      scheduled_.dummy_bytes += align;
      return range;
    }
    if (operand.value == kStepParams)
      return {kParams, params_at(step.dispatch.params), step.dispatch.params.size() * 4, access};
    const Placement* placed =
        operand.value == kScratch ? of_scratch_[step.op][operand.first_row] : of_value_[operand.value];
    if (placed != nullptr)
      return {kArena, placed->offset + operand.from_byte, placed->bytes - operand.from_byte, access};
    const Place& place = map_.places[operand.value];
    if (operand.last != kNoValue) {
      const Place& last = map_.places[operand.last];
      return {place.buffer, place.offset, last.offset + last.bytes - place.offset, access};
    }
    if (operand.rows != 0)
      return {place.buffer, place.offset + operand.first_row * place.row_bytes,
              operand.rows * place.row_bytes, access};
    return {place.buffer, place.offset + operand.from_byte, place.bytes - operand.from_byte, access};
  }

 private:
  // Where these words are, which are added unless an earlier step has the same ones.
  std::uint64_t params_at(const std::vector<std::uint32_t>& words) {
    const auto found = params_.find(words);
    if (found != params_.end()) return found->second;
    const std::uint64_t at = round_up(scheduled_.params.size() * 4, limits_.min_storage_alignment);
    scheduled_.params.resize(at / 4);
    scheduled_.params.insert(scheduled_.params.end(), words.begin(), words.end());
    return params_[words] = at;
  }

  const MemoryMap& map_;
  const Limits& limits_;
  ScheduledGraph& scheduled_;
  std::vector<const Placement*> of_value_;
  std::vector<std::vector<const Placement*>> of_scratch_;  // by op
  std::map<std::vector<std::uint32_t>, std::uint64_t> params_;
};

}  // namespace

Result<void> bind_arena(const Program& program, const Graph& graph, const MemoryMap& map,
                        const Limits& limits, bool alias, ScheduledGraph& scheduled) {
  scheduled.plan = plan_arena(program, graph, limits.min_storage_alignment, alias, scheduled.scratch);
  if (scheduled.plan.arena_bytes > limits.max_buffer_size)
    return Error{Code::unsupported,
                 "the arena of graph '" + graph.name + "' takes " +
                     std::to_string(scheduled.plan.arena_bytes) +
                     " bytes, more than this device's max_buffer_size (use a smaller chunk)"};
  Binding binding(program, graph, map, limits, scheduled);
  for (Step& step : scheduled.steps) {
    const Kernel& k = kernel(step.dispatch.kernel);
    if (step.operands.size() != k.binding_count)
      return Error{Code::internal, "kernel " + std::string(k.name) + " has " +
                                       std::to_string(k.binding_count) + " bindings, the schedule gives " +
                                       std::to_string(step.operands.size())};
    step.ranges.resize(k.binding_count);
    for (std::uint32_t b = 0; b < k.binding_count; ++b) {
      const Access access = (step.dispatch.user_bindings >> b & 1) != 0 ? Access::read : k.access[b];
      const Range& range = step.ranges[b] = binding.range_of(step, step.operands[b], access);
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
    if (!step.dispatch.params.empty()) text += "    params" + print_words(step.dispatch.params) + "\n";
    for (std::size_t b = 0; b < step.ranges.size(); ++b) {
      const Range& r = step.ranges[b];
      if (r.access == Access::none) continue;
      const ValueId id = step.operands[b].value;
      text += "    " + std::to_string(b) + " " + name(r.access) + " " +
              (id == kScratch      ? std::string("scratch")
               : id == kStepParams ? std::string("params")
                                   : program.values[id].name) +
              " @ " + map.buffers[r.buffer].name + "+" + std::to_string(r.offset) + ":" +
              std::to_string(r.bytes) + "\n";
    }
  }
  return text;
}

}  // namespace tessera
