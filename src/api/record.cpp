// Plans bound to a host's buffers and recorded into its command buffers.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <functional>
#include <tuple>

#include "api/plan.h"
#include "schedule/graph_binding.h"

using namespace tessera;
using namespace tessera::api;

struct tessera_binding {
  Device* device = nullptr;
  std::unique_ptr<GraphBinding> graph;
};

namespace {

// The memory of one slot out of a host's description.
class SlotReader {
 public:
  // `buffers` keeps what the slot refers to.
  SlotReader(Device& device, const PlannedOp& plan, std::size_t number,
             std::vector<std::unique_ptr<Buffer>>& buffers)
      : device_(device),
        plan_(plan),
        alignment_(device.report().limits.min_storage_alignment),
        slot_(plan.request.op + ": slot " + std::to_string(number)),
        buffers_(buffers) {
    memory_.tensors.resize(plan.graph.tensors.size());
  }

  Result<SlotMemory> read(const tessera_slot& slot) {
    TSR_TRY(const auto ranges, sized_array(slot.tensors, slot.tensor_count, "tensors of a slot"));
    for (const tessera_bound_range& range : ranges) TSR_CHECK(add_tensor(range));
    for (const HostTensor& tensor : plan_.tensors)
      if (!tensor.optional && memory_.tensors[tensor.index].buffer == nullptr)
        return refuse(quoted(tensor) + " is not bound");
    if (slot.scratch != nullptr) TSR_CHECK(add_scratch(slot.scratch));
    return std::move(memory_);
  }

 private:
  struct Used {
    std::string what;
    tessera_vk_buffer buffer;
    std::uint64_t begin, end;
    bool written;
  };

  Error refuse(const std::string& what) const { return {Code::invalid_argument, slot_ + ": " + what}; }
  std::string quoted(const HostTensor& tensor) const { return "tensor '" + plan_.planned(tensor).name + "'"; }

  Result<void> add_tensor(const tessera_bound_range& range) {
    if (range.name == nullptr) return refuse("a tensor's name is NULL");
    TSR_TRY(const HostTensor* const tensor, plan_.find(range.name));
    BindingRange& bound = memory_.tensors[tensor->index];
    if (bound.buffer != nullptr) return refuse(quoted(*tensor) + " is bound twice");
    const PlanTensor& planned = plan_.planned(*tensor);
    TSR_TRY(bound, take(quoted(*tensor), range, planned.bytes, planned.writes));
    return {};
  }

  Result<void> add_scratch(const tessera_bound_range* scratch) {
    TSR_TRY(const tessera_bound_range range, sized(scratch, "scratch"));
    const std::uint64_t bytes = plan_.graph.scheduled.plan.arena_bytes;
    if (bytes == 0) return {};
    TSR_TRY(memory_.scratch, take("scratch", range, bytes, true));
    return {};
  }

  Result<BindingRange> take(const std::string& what, const tessera_bound_range& range, std::uint64_t bytes,
                            bool written) {
    if (range.buffer == tessera_vk_buffer{}) return refuse(what + " has no buffer");
    if (range.offset % alignment_ != 0)
      return refuse(what + " is at offset " + std::to_string(range.offset) + ", no multiple of " +
                    std::to_string(alignment_));
    if (range.bytes != 0 && range.bytes < bytes)
      return refuse(what + " takes " + std::to_string(bytes) + " bytes, its range has " +
                    std::to_string(range.bytes));
    if (range.offset > UINT64_MAX - bytes) return refuse(what + " is past the end of any buffer");
    const Used used{what, range.buffer, range.offset, range.offset + bytes, written};
    for (const Used& other : used_)
      if (other.buffer == used.buffer && other.begin < used.end && used.begin < other.end &&
          (other.written || used.written))
        return refuse(what + " overlaps " + other.what + ", and one of them is written");
    used_.push_back(used);
    TSR_TRY(auto buffer, device_.adopt_buffer(from_handle(range.buffer), used.end));
    buffers_.push_back(std::move(buffer));
    return BindingRange{buffers_.back().get(), range.offset, bytes};
  }

  Device& device_;
  const PlannedOp& plan_;
  std::uint64_t alignment_;
  std::string slot_;
  std::vector<std::unique_ptr<Buffer>>& buffers_;
  std::vector<Used> used_;
  SlotMemory memory_;
};

// What Tessera has of tensors that a slot may leave out.
Result<std::vector<OwnContent>> own_contents(const PlannedOp& plan) {
  std::vector<OwnContent> out;
  for (std::size_t i = 0; i < plan.graph.tensors.size(); ++i) {
    const auto listed = std::ranges::find(plan.tensors, i, &HostTensor::index);
    if (listed != plan.tensors.end() && !listed->optional) continue;
    const PlanTensor& tensor = plan.graph.tensors[i];
    OwnContent content{i, std::vector<std::byte>(tensor.bytes)};
    TSR_CHECK(write_content(plan.op, plan.graph, tensor, content.bytes));
    out.push_back(std::move(content));
  }
  return out;
}

Result<std::unique_ptr<GraphBinding>> bind(const tessera_plan& plan, const tessera_bind_desc& desc) {
  TSR_TRY(const auto slots, sized_array(desc.slots, desc.slot_count, "slots"));
  if (slots.empty()) return Error{Code::invalid_argument, "a binding needs at least one slot"};
  Device& device = *plan.context->device;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<SlotMemory> memory;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    TSR_TRY(SlotMemory slot, SlotReader(device, *plan.plan, i, buffers).read(slots[i]));
    memory.push_back(std::move(slot));
  }
  TSR_TRY(const std::vector<OwnContent> contents, own_contents(*plan.plan));
  const std::shared_ptr<const GraphPlan> graph(plan.plan, &plan.plan->graph);
  return GraphBinding::create(device, graph, contents, memory, plan.context->run_jobs);
}

// One side of a barrier; `which` is "before" or "after".
Result<HostAccess> host_access(const std::string& which, std::uint64_t stages, std::uint64_t access) {
  constexpr std::uint64_t kTaken = UINT32_MAX;  // the masks of Vulkan 1.0's barriers
  const auto refuse = [&](const std::string& what) { return Error{Code::invalid_argument, which + what}; };
  for (const auto& [name, type, mask] : {std::tuple("_stages", "VkPipelineStageFlags", stages),
                                         std::tuple("_access", "VkAccessFlags", access)})
    if (mask > kTaken) {
      char bits[24];
      std::snprintf(bits, sizeof bits, " has 0x%" PRIx64, mask & ~kTaken);
      return refuse(std::string(name) + bits + ", which " + type + " do not have");
    }
  if (stages == 0 && access != 0) return refuse("_access has bits, but " + which + "_stages has none");
  return HostAccess{static_cast<std::uint32_t>(stages), static_cast<std::uint32_t>(access)};
}

}  // namespace

extern "C" {

tessera_status tessera_bind(const tessera_plan* plan, const tessera_bind_desc* desc,
                            tessera_binding** binding, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(plan, "plan"));
    TSR_CHECK(require(binding, "binding"));
    TSR_TRY(const tessera_bind_desc d, sized(desc, "tessera_bind_desc"));
    auto made = std::make_unique<tessera_binding>();
    made->device = plan->context->device.get();
    TSR_TRY(made->graph, bind(*plan, d));
    *binding = made.release();
    return {};
  });
}

void tessera_binding_destroy(tessera_binding* binding) { delete binding; }

tessera_status tessera_record(const tessera_binding* binding, const tessera_record_desc* desc,
                              tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(binding, "binding"));
    TSR_TRY(const tessera_record_desc d, sized(desc, "tessera_record_desc"));
    TSR_CHECK(require(d.command_buffer, "command_buffer"));
    TSR_TRY(const HostAccess before, host_access("before", d.before_stages, d.before_access));
    TSR_TRY(const HostAccess after, host_access("after", d.after_stages, d.after_access));
    if (d.slot >= binding->graph->slots())
      return Error{Code::invalid_argument, "the binding has no slot " + std::to_string(d.slot)};
    const auto body = [&](HostRecorder& to) { binding->graph->record(to, d.slot, {before, after}); };
    return binding->device->record_into(d.command_buffer, std::ref(body));  // a copy could be on the heap
  });
}

}  // extern "C"
