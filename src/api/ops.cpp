#include "ops/ops.h"

#include <algorithm>
#include <chrono>

#include "api/handles.h"
#include "api/op_request.h"

using namespace tessera;
using namespace tessera::api;

namespace {

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
    TSR_TRY(const OpRequest request, make_request(*context, d, false));
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

tessera_status tessera_ops(const tessera_op_list_sink* sink, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const tessera_op_list_sink s, sized(sink, "tessera_op_list_sink"));
    for (const OpInfo& op : op_list()) list_op(op, s);
    return {};
  });
}

}  // extern "C"
