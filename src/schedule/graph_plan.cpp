#include "schedule/graph_plan.h"

#include <algorithm>

#include "graph/check.h"

namespace tessera {
namespace {

// The tensor of several values' name.
constexpr const char* kTogether = "weights";

PlanTensor tensor_of(const Program& program, const MemoryMap& map, ValueId id) {
  const Place& place = map.places[id];
  return {program.values[id].name, {id}, place.buffer, place.offset, place.bytes, false, false};
}

// Values whose places an operand covers from the first to the last become one tensor.
void join(const Operand& operand, const MemoryMap& map, std::vector<PlanTensor>& tensors) {
  const Place &first = map.places[operand.value], &last = map.places[operand.last];
  const auto inside = [&](const PlanTensor& t) {
    return t.buffer == first.buffer && t.offset >= first.offset && t.offset <= last.offset;
  };
  PlanTensor together{kTogether, {},   first.buffer, first.offset, last.offset + last.bytes - first.offset,
                      false,     false};
  std::vector<PlanTensor> others;
  for (PlanTensor& t : tensors)
    if (inside(t))
      together.values.insert(together.values.end(), t.values.begin(), t.values.end());
    else
      others.push_back(std::move(t));
  others.push_back(std::move(together));
  tensors = std::move(others);
}

void mark(const Range& range, std::vector<PlanTensor>& tensors, std::vector<bool>& bound) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    PlanTensor& t = tensors[i];
    if (!t.holds(range)) continue;
    bound[i] = true;
    t.reads = t.reads || range.access == Access::read || range.access == Access::read_write;
    t.writes = t.writes || range.access == Access::write || range.access == Access::read_write;
  }
}

std::vector<PlanTensor> tensors_of(const GraphPlan& plan) {
  std::vector<PlanTensor> all;
  for (ValueId id = 0; id < plan.map.places.size(); ++id)
    if (plan.map.places[id].bytes != 0) all.push_back(tensor_of(*plan.program, plan.map, id));
  // Whatever form was chosen: what a host binds depends on the device's limits alone.
  for (const Call& call : plan.calls)
    for (const Operand& operand : call.operands)
      if (operand.last != kNoValue) join(operand, plan.map, all);
  std::vector<bool> bound(all.size());
  for (const Step& step : plan.scheduled.steps)
    for (const Range& range : step.ranges) mark(range, all, bound);
  std::vector<PlanTensor> out;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (bound[i]) out.push_back(std::move(all[i]));
  return out;
}

}  // namespace

Result<GraphPlan> plan_graph(std::shared_ptr<const Program> program, const Target& target) {
  TSR_CHECK(check_program(*program, false));
  if (program->graphs.size() != 1) return Error{Code::internal, "a plan is of one graph"};
  GraphPlan plan;
  plan.program = std::move(program);
  const Graph& graph = plan.program->graphs[0];
  TSR_TRY(plan.map, map_memory(*plan.program, target.limits));
  TSR_TRY(plan.scheduled, schedule(*plan.program, graph, plan.map, target, true));
  TSR_TRY(plan.calls, lower(*plan.program, graph, plan.map, target.limits));
  plan.tensors = tensors_of(plan);
  return plan;
}

}  // namespace tessera
