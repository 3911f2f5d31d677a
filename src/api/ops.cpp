#include "ops/ops.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "api/handles.h"
#include "kernels/target.h"
#include "schedule/memory_map.h"

using namespace tessera;
using namespace tessera::api;

namespace {

Result<OpTensor> make_tensor(const tessera_tensor* from, std::uint32_t index) {
  TSR_TRY(const tessera_tensor t, sized(from, "tessera_tensor"));
  const std::string what = "input " + std::to_string(index);
  if (t.name == nullptr || t.type == nullptr)
    return Error{Code::invalid_argument, what + ": its name or type is NULL"};
  if (t.dims != 0 && t.shape == nullptr)
    return Error{Code::invalid_argument, what + " ('" + t.name + "'): its shape is NULL"};
  OpTensor out{t.name, t.type, {}, {}};
  out.shape.assign(t.shape, t.shape + t.dims);
  if (t.data != nullptr) out.data = {static_cast<const std::byte*>(t.data), t.bytes};
  return out;
}

Result<OpRequest> make_request(const tessera_op_desc& desc, bool shapes_only) {
  TSR_CHECK(require(desc.op, "op"));
  if (desc.input_count != 0) TSR_CHECK(require(desc.inputs, "inputs"));
  if (desc.attribute_count != 0) TSR_CHECK(require(desc.attributes, "attributes"));
  if (desc.output_count != 0) TSR_CHECK(require(desc.outputs, "outputs"));
  OpRequest request{.op = desc.op, .inputs = {}, .attributes = {}, .outputs = {}, .shapes_only = shapes_only};
  const auto* at = reinterpret_cast<const std::byte*>(desc.inputs);
  for (std::uint32_t i = 0; i < desc.input_count; ++i) {
    TSR_TRY(OpTensor tensor, make_tensor(reinterpret_cast<const tessera_tensor*>(at), i));
    request.inputs.push_back(std::move(tensor));
    at += desc.inputs->size;
  }
  for (std::uint32_t i = 0; i < desc.attribute_count; ++i)
    request.attributes.emplace_back(desc.attributes[i] == nullptr ? "" : desc.attributes[i]);
  for (std::uint32_t i = 0; i < desc.output_count; ++i)
    request.outputs.emplace_back(desc.outputs[i] == nullptr ? "" : desc.outputs[i]);
  return request;
}

tessera_tensor describe(const OpOutput& output) {
  tessera_tensor out{};
  out.size = sizeof(out);
  out.name = output.name.c_str();
  out.type = output.type.c_str();
  out.shape = output.shape.data();
  out.dims = static_cast<uint32_t>(output.shape.size());
  out.bytes = output.bytes;
  return out;
}

Result<void> run_timed(Walker& walker, const tessera_op_desc& desc) {
  auto* device = dynamic_cast<GpuWalker*>(&walker);
  for (std::uint32_t i = 0; i < std::max(1u, desc.repeat); ++i) {
    const auto start = std::chrono::steady_clock::now();
    TSR_CHECK(walker.run(0));
    if (desc.seconds == nullptr) continue;
    const double on_host = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    desc.seconds[i] = on_host;
    if (device == nullptr) continue;
    if (const auto on_device = device->gpu_seconds(0)) desc.seconds[i] = *on_device;
  }
  return {};
}

Result<void> read_output(Walker& walker, const OpOutput& output, void* to) {
  const std::span<std::byte> out(static_cast<std::byte*>(to), output.bytes);
  if (!output.convert) return walker.read(output.value, 0, out);
  std::vector<std::byte> stored(value_bytes(walker.program().values[output.value]));
  TSR_CHECK(walker.read(output.value, 0, stored));
  output.convert(stored, out);
  return {};
}

void report_kernel(const Dispatch& d, const AttentionTiles& tiles, const tessera_op_plan_sink& sink) {
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
                             const tessera_op_plan_sink& sink) {
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

Result<void> plan(const Device& device, const Program& program, const tessera_op_plan_sink& sink) {
  const Target target = target_of(device);
  TSR_TRY(const MemoryMap map, map_memory(program, target.limits));
  TSR_TRY(const ScheduledGraph scheduled, schedule(program, program.graphs[0], map, target, true));
  TSR_TRY(const std::vector<Call> calls, lower(program, program.graphs[0], map, target.limits));
  std::uint64_t tensors = 0;
  for (const Place& place : map.places) tensors += place.bytes;
  double flops = 0, bytes = 0;
  for (const Step& step : scheduled.steps) {
    const Dispatch& d = step.dispatch;
    flops += d.flops;
    bytes += d.bytes;
    const auto call = std::ranges::find(calls, step.op, &Call::op);
    const auto* attention = call == calls.end() ? nullptr : std::get_if<AttentionShape>(&call->shape);
    report_kernel(d, attention != nullptr ? count_tiles(*attention, d) : AttentionTiles{}, sink);
  }
  TSR_CHECK(report_refusals(calls, target, sink));
  if (sink.total != nullptr) sink.total(sink.user, scheduled.plan.arena_bytes, tensors, flops, bytes);
  return {};
}

const char* kind_name(OpAttributeInfo::Kind kind) {
  switch (kind) {
    case OpAttributeInfo::Kind::integer: return "integer";
    case OpAttributeInfo::Kind::number: return "number";
    case OpAttributeInfo::Kind::choice: break;
  }
  return "choice";
}

void list_op(const OpInfo& op, const tessera_op_list_sink& sink) {
  const auto text = [](std::string_view view) { return std::string(view); };
  if (sink.op != nullptr)
    sink.op(sink.user, text(op.name).c_str(), text(op.summary).c_str(), text(op.equations).c_str());
  if (sink.tensor != nullptr)
    for (const auto& [list, is_output] : {std::pair(op.inputs, 0), std::pair(op.outputs, 1)})
      for (const OpTensorInfo& t : list)
        sink.tensor(sink.user, text(t.name).c_str(), text(t.types).c_str(), text(t.shape).c_str(),
                    text(t.text).c_str(), is_output, t.optional);
  if (sink.attribute != nullptr)
    for (const OpAttributeInfo& a : op.attributes)
      sink.attribute(sink.user, text(a.name).c_str(), kind_name(a.kind), text(a.fallback).c_str(),
                     text(a.allowed).c_str(), text(a.text).c_str());
}

}  // namespace

extern "C" {

tessera_status tessera_op_run(tessera_context* context, const tessera_op_desc* desc, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_TRY(const tessera_op_desc d, sized(desc, "tessera_op_desc"));
    TSR_TRY(const OpRequest request, make_request(d, false));
    TSR_TRY(const BuiltOp op, build_op(request));
    std::vector<void*> places;
    for (const OpOutput& output : op.outputs) {
      const tessera_tensor tensor = describe(output);
      places.push_back(d.output == nullptr ? nullptr : d.output(d.user, &tensor));
    }
    TSR_TRY(auto walker, make_walker(*context, op.program, {}));
    for (const BuiltOp::Write& write : op.writes)
      TSR_CHECK(walker->write(write.value, write.offset, write.bytes()));
    TSR_CHECK(run_timed(*walker, d));
    for (std::size_t i = 0; i < places.size(); ++i)
      if (places[i] != nullptr) TSR_CHECK(read_output(*walker, op.outputs[i], places[i]));
    return {};
  });
}

tessera_status tessera_op_plan(tessera_context* context, const tessera_op_desc* desc,
                               const tessera_op_plan_sink* sink, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_TRY(const tessera_op_desc d, sized(desc, "tessera_op_desc"));
    TSR_TRY(const tessera_op_plan_sink s, sized(sink, "tessera_op_plan_sink"));
    TSR_TRY(const OpRequest request, make_request(d, true));
    TSR_TRY(const BuiltOp op, build_op(request));
    if (context->device == nullptr)
      return Error{Code::invalid_argument, "the reference has no kernels to plan: choose a device"};
    for (const OpOutput& output : op.outputs) {
      const tessera_tensor tensor = describe(output);
      if (s.output != nullptr) s.output(s.user, &tensor);
    }
    return plan(*context->device, *op.program, s);
  });
}

tessera_status tessera_ops(const tessera_op_list_sink* sink, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const tessera_op_list_sink s, sized(sink, "tessera_op_list_sink"));
    for (const OpInfo& op : op_list()) list_op(op, s);
    return {};
  });
}

}  // extern "C"
