#include "api/plan.h"

#include <algorithm>

#include "base/text.h"
#include "kernels/target.h"
#include "ops/arguments.h"
#include "schedule/weights.h"

namespace tessera::api {

Result<const HostTensor*> PlannedOp::find(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const HostTensor& t : tensors) {
    if (planned(t).name == name) return &t;
    names.push_back(planned(t).name);
  }
  return Error{Code::invalid_argument,
               request.op + ": the plan has no tensor " + quote(name, 80) + suggest(name, names)};
}

Result<void> write_content(const BuiltOp& op, const GraphPlan& graph, const PlanTensor& tensor,
                           std::span<std::byte> out) {
  constexpr std::uint64_t kRowBytes = 1u << 20;  // repacked at once
  const auto ours = [&](ValueId id) { return std::ranges::find(tensor.values, id) != tensor.values.end(); };
  std::ranges::fill(out, std::byte{0});
  MemoryMap map{{}, graph.map.places};  // of its weights alone
  for (ValueId id = 0; id < map.places.size(); ++id)
    if (const Value& value = op.program->values[id];
        !ours(id) || (value.storage == Storage::constant && value.data == nullptr))  // of zeros
      map.places[id] = {};
  WeightRows weights(*op.program, map);
  while (weights.done() < weights.total()) {
    TSR_TRY(const WeightRows::Rows rows, weights.next(kRowBytes));
    std::ranges::copy(rows.bytes, out.data() + (rows.offset - tensor.offset));
  }
  for (const BuiltOp::Write& write : op.writes)
    if (ours(write.value))
      std::ranges::copy(write.bytes(),
                        out.data() + (map.places[write.value].offset - tensor.offset + write.offset));
  return {};
}

namespace {

// Whether rows lie otherwise than one after the other.
bool is_packed(const GraphPlan& graph, const PlanTensor& tensor) {
  if (tensor.values.size() > 1) return true;
  const Value& value = graph.program->values[tensor.values[0]];
  const Place& place = graph.map.places[tensor.values[0]];
  if (info(value.dtype).block_elems > 1) return true;
  return place.row_bytes != 0 && place.row_bytes != file_bytes(value.last_dim(), info(value.dtype));
}

// What its values are made of.
std::vector<std::string> inputs_of(const BuiltOp& op, const PlanTensor& tensor) {
  std::vector<std::string> inputs;
  for (const BuiltOp::Content& content : op.contents)
    if (std::ranges::find(tensor.values, content.value) != tensor.values.end())
      for (const std::string& name : content.inputs)
        if (std::ranges::find(inputs, name) == inputs.end()) inputs.push_back(name);
  return inputs;
}

HostTensor host_tensor(const PlannedOp& plan, std::size_t index) {
  const PlanTensor& planned = plan.graph.tensors[index];
  HostTensor out;
  out.index = index;
  out.inputs = inputs_of(plan.op, planned);
  out.packed = is_packed(plan.graph, planned);
  out.optional = out.inputs.empty() && !planned.writes;
  if (planned.values.size() > 1) return out;
  const Value& value = plan.graph.program->values[planned.values[0]];
  out.type = info(value.dtype).name;
  out.shape = value.shape;
  const auto output = std::ranges::find(plan.op.outputs, planned.values[0], &OpOutput::value);
  if (output != plan.op.outputs.end()) out.output = output->name;
  return out;
}

// The inputs that the tensor's content lacks data of; "" when there are none.
std::string missing_inputs(const BuiltOp& op, const PlanTensor& tensor) {
  for (const BuiltOp::Content& content : op.contents)
    if (!content.known && std::ranges::find(tensor.values, content.value) != tensor.values.end()) {
      std::string names;
      for (const std::string& name : content.inputs) names += (names.empty() ? "" : ", ") + name;
      return names;
    }
  return {};
}

// Of every tensor but those that kernels bind without a use: nothing is known to be in them.
void find_tensors(PlannedOp& plan) {
  for (std::size_t i = 0; i < plan.graph.tensors.size(); ++i) {
    const PlanTensor& planned = plan.graph.tensors[i];
    const auto has_content = [&](ValueId id) {
      return std::ranges::find(plan.op.contents, id, &BuiltOp::Content::value) != plan.op.contents.end();
    };
    if (planned.writes || std::ranges::any_of(planned.values, has_content))
      plan.tensors.push_back(host_tensor(plan, i));
  }
  for (HostTensor& tensor : plan.tensors)
    for (const std::string& name : tensor.inputs) tensor.input_names.push_back(name.c_str());
}

Result<std::shared_ptr<const PlannedOp>> make_plan(const Device& device, OpRequest request) {
  auto plan = std::make_shared<PlannedOp>();
  plan->request = std::move(request);
  TSR_TRY(plan->op, build_op(plan->request));
  TSR_TRY(plan->graph, plan_graph(plan->op.program, target_of(device)));
  find_tensors(*plan);
  return std::shared_ptr<const PlannedOp>(std::move(plan));
}

void report_kernel(const Dispatch& d, const AttentionTiles& tiles, const tessera_plan_sink& sink) {
  if (sink.kernel == nullptr) return;
  const std::string name(kernel(d.kernel).name);
  tessera_op_kernel out{};
  out.size = sizeof(out);
  out.name = name.c_str();
  std::ranges::copy(d.grid, out.groups);
  out.flops = d.flops;
  out.bytes = d.bytes;
  out.tile_rows = d.tile_rows;
  out.tile_keys = d.tile_keys;
  out.tiles = tiles.computed;
  out.all_tiles = tiles.all;
  sink.kernel(sink.user, &out);
}

template <typename Choice>
Result<std::vector<Refusal>> refused_of(Result<Choice> choice) {
  if (!choice.ok()) return choice.error();
  return std::move(choice->refused);
}

// Forms that a call with forms to choose between was refused; none of others.
Result<std::vector<Refusal>> refused_of(const Call& call, const Target& target) {
  if (const auto* s = std::get_if<AttentionShape>(&call.shape))
    return refused_of(choose_attention(*s, target));
  if (const auto* s = std::get_if<MatmulShape>(&call.shape))
    return refused_of(choose_matmul_call(*s, target));
  if (const auto* s = std::get_if<FeedForwardShape>(&call.shape))
    return refused_of(choose_feed_forward(*s, target));
  if (const auto* s = std::get_if<MlpShape>(&call.shape)) return refused_of(choose_mlp(*s, target));
  return std::vector<Refusal>{};
}

// Each once: an op may take several calls.
Result<void> report_refusals(const std::vector<Call>& calls, const Target& target,
                             const tessera_plan_sink& sink) {
  if (sink.refused == nullptr) return {};
  std::vector<Refusal> told;
  for (const Call& call : calls) {
    TSR_TRY(const std::vector<Refusal> refused, refused_of(call, target));
    for (const Refusal& refusal : refused) {
      if (std::ranges::find(told, refusal) != told.end()) continue;
      sink.refused(sink.user, refusal.tier.c_str(), refusal.reason.c_str());
      told.push_back(refusal);
    }
  }
  return {};
}

// The call that an op's steps were chosen for.
const AttentionShape* attention_of(const std::vector<Call>& calls, std::uint32_t op) {
  const auto call = std::ranges::find(calls, op, &Call::op);
  return call == calls.end() ? nullptr : std::get_if<AttentionShape>(&call->shape);
}

void report_tensors(const PlannedOp& plan, std::uint64_t alignment, const tessera_plan_sink& sink) {
  if (sink.output != nullptr)
    for (const OpOutput& output : plan.op.outputs) {
      const tessera_tensor tensor = describe(output);
      sink.output(sink.user, &tensor);
    }
  if (sink.tensor == nullptr) return;
  for (const HostTensor& t : plan.tensors) {
    const PlanTensor& planned = plan.planned(t);
    tessera_plan_tensor out{};
    out.size = sizeof(out);
    out.name = planned.name.c_str();
    out.type = t.type.c_str();
    out.shape = t.shape.data();
    out.dims = static_cast<uint32_t>(t.shape.size());
    out.bytes = planned.bytes;
    out.alignment = alignment;
    out.reads = planned.reads;
    out.writes = planned.writes;
    out.packed = t.packed;
    out.optional = t.optional;
    out.inputs = t.input_names.data();
    out.input_count = static_cast<uint32_t>(t.input_names.size());
    out.output = t.output.c_str();
    sink.tensor(sink.user, &out);
  }
}

Result<void> describe_plan(const Device& device, const PlannedOp& plan, const tessera_plan_sink& sink) {
  const Target target = target_of(device);
  const GraphPlan& graph = plan.graph;
  report_tensors(plan, target.limits.min_storage_alignment, sink);
  tessera_plan_totals totals{};
  totals.size = sizeof(totals);
  for (const Step& step : graph.scheduled.steps) {
    const Dispatch& d = step.dispatch;
    totals.flops += d.flops;
    totals.bytes += d.bytes;
    const AttentionShape* attention = attention_of(graph.calls, step.op);
    report_kernel(d, attention != nullptr ? count_tiles(*attention, d) : AttentionTiles{}, sink);
  }
  TSR_CHECK(report_refusals(graph.calls, target, sink));
  if (sink.total == nullptr) return {};
  totals.scratch_bytes = graph.scheduled.plan.arena_bytes;
  totals.scratch_alignment = target.limits.min_storage_alignment;
  for (const Place& place : graph.map.places) totals.tensor_bytes += place.bytes;
  sink.total(sink.user, &totals);
  return {};
}

// The plan's input of this name, with the caller's data.
Result<void> give_data(const tessera_tensor& from, std::uint32_t number, OpRequest& request) {
  TSR_TRY(const OpTensor given, make_tensor(from, "input " + std::to_string(number)));
  const std::string what = request.op + ": " + given.name;
  const auto input = std::ranges::find(request.inputs, given.name, &OpTensor::name);
  if (input == request.inputs.end()) return Error{Code::invalid_argument, what + " is no input of the plan"};
  if (input->type != given.type || input->shape != given.shape)
    return Error{Code::invalid_argument, what + " is " + given.type + " " + shape_text(given.shape) +
                                             ", the plan is of " + input->type + " " +
                                             shape_text(input->shape)};
  if (given.data.empty() && product(given.shape) != 0)
    return Error{Code::invalid_argument, what + " has no data"};
  input->data = given.data;
  return {};
}

Result<void> pack(const PlannedOp& plan, std::string_view name, std::span<const tessera_tensor> inputs,
                  std::span<std::byte> out) {
  TSR_TRY(const HostTensor* const tensor, plan.find(name));
  const PlanTensor& planned = plan.planned(*tensor);
  const auto refuse = [&](const std::string& what) {
    return Error{Code::invalid_argument, plan.request.op + ": " + planned.name + what};
  };
  if (tensor->inputs.empty() && !tensor->optional) return refuse(" holds nothing before the op runs");
  if (out.size() != planned.bytes)
    return refuse(" takes " + std::to_string(planned.bytes) + " bytes, there is room for " +
                  std::to_string(out.size()));
  OpRequest request = plan.request;
  for (std::uint32_t i = 0; i < inputs.size(); ++i) TSR_CHECK(give_data(inputs[i], i, request));
  TSR_TRY(const BuiltOp op, build_op(request));
  if (const std::string missing = missing_inputs(op, planned); !missing.empty())
    return refuse(" needs data of " + missing);
  return write_content(op, plan.graph, planned, out);
}

}  // namespace
}  // namespace tessera::api

using namespace tessera;
using namespace tessera::api;

extern "C" {

tessera_status tessera_plan_create(tessera_context* context, const tessera_op_desc* desc, tessera_plan** plan,
                                   tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_CHECK(require(plan, "plan"));
    TSR_TRY(const tessera_op_desc d, sized(desc, "tessera_op_desc"));
    TSR_TRY(OpRequest request, make_request(*context, d, true));
    if (context->device == nullptr) {
      TSR_CHECK(build_op(request));
      return Error{Code::invalid_argument, "the reference has no kernels to plan: choose a device"};
    }
    auto made = std::make_unique<tessera_plan>();
    made->context = context;
    TSR_TRY(made->plan, make_plan(*context->device, std::move(request)));
    *plan = made.release();
    return {};
  });
}

void tessera_plan_destroy(tessera_plan* plan) { delete plan; }

tessera_status tessera_plan_describe(const tessera_plan* plan, const tessera_plan_sink* sink,
                                     tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(plan, "plan"));
    TSR_TRY(const tessera_plan_sink s, sized(sink, "tessera_plan_sink"));
    return describe_plan(*plan->context->device, *plan->plan, s);
  });
}

tessera_status tessera_plan_pack(const tessera_plan* plan, const char* tensor, const tessera_tensor* inputs,
                                 uint32_t input_count, void* out, uint64_t bytes, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(plan, "plan"));
    TSR_CHECK(require(tensor, "tensor"));
    TSR_CHECK(require(out, "out"));
    TSR_TRY(const auto given, sized_array(inputs, input_count, "inputs"));
    return pack(*plan->plan, tensor, given, {static_cast<std::byte*>(out), bytes});
  });
}

}  // extern "C"
