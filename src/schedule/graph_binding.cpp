#include "schedule/graph_binding.h"

#include <algorithm>
#include <cstring>

namespace tessera {

Result<std::unique_ptr<GraphBinding>> GraphBinding::create(Device& device,
                                                           std::shared_ptr<const GraphPlan> plan,
                                                           std::span<const OwnContent> contents,
                                                           std::span<const SlotMemory> slots,
                                                           const RunJobs& run_jobs) {
  std::unique_ptr<GraphBinding> binding(new GraphBinding(std::move(plan)));
  const std::vector<Step>* const steps = &binding->plan_->scheduled.steps;
  TSR_TRY(StepPipelines pipelines, make_pipelines(device, {&steps, 1}, run_jobs, {}));
  binding->pipelines_ = std::move(pipelines.of[0]);
  TSR_CHECK(binding->create_own(device, contents));
  for (const SlotMemory& memory : slots) {
    TSR_TRY(Slot slot, binding->create_slot(device, memory));
    binding->slots_.push_back(std::move(slot));
  }
  return binding;
}

// Mapped, so that nothing has to be submitted to fill it.
Result<void> GraphBinding::create_own(Device& device, std::span<const OwnContent> contents) {
  const std::uint64_t align = device.report().limits.min_storage_alignment;
  const auto place = [&](std::uint64_t bytes) {
    const std::uint64_t at = own_.bytes;
    own_.bytes = round_up(at + bytes, align);
    return at;
  };
  const ScheduledGraph& scheduled = plan_->scheduled;
  own_.params = place(scheduled.params.size() * 4);
  own_.dummy = place(scheduled.dummy_bytes);
  own_.tensors.resize(plan_->tensors.size());
  for (const OwnContent& content : contents) {
    const std::uint64_t bytes = plan_->tensors[content.tensor].bytes;
    own_.tensors[content.tensor] = {nullptr, place(bytes), bytes};
  }
  if (own_.bytes == 0) return {};
  TSR_TRY(own_buffer_, device.create_buffer(own_.bytes, Memory::shared, "binding"));
  std::byte* const to = own_buffer_->mapped().data();
  std::memset(to, 0, own_.bytes);
  if (!scheduled.params.empty())
    std::memcpy(to + own_.params, scheduled.params.data(), scheduled.params.size() * 4);
  for (const OwnContent& content : contents) {
    BindingRange& range = own_.tensors[content.tensor];
    range.buffer = own_buffer_.get();
    if (!content.bytes.empty())
      std::memcpy(to + range.offset, content.bytes.data(), std::min(content.bytes.size(), range.size));
  }
  return {};
}

Result<GraphBinding::Slot> GraphBinding::create_slot(Device& device, const SlotMemory& memory) const {
  Slot slot;
  BindingRange scratch = memory.scratch;
  const std::uint64_t scratch_bytes = plan_->scheduled.plan.arena_bytes;
  if (scratch.buffer == nullptr && scratch_bytes != 0) {
    TSR_TRY(slot.scratch, device.create_buffer(scratch_bytes, Memory::device, "scratch"));
    scratch = {slot.scratch.get(), 0, scratch_bytes};
  }
  for (std::size_t i = 0; i < pipelines_.size(); ++i) {
    std::vector<BindingRange> ranges;
    for (const Range& range : plan_->scheduled.steps[i].ranges)
      ranges.push_back(range_of(range, memory, scratch));
    TSR_TRY(auto set, device.create_binding_set(*pipelines_[i], ranges));
    slot.sets.push_back(std::move(set));
  }
  return slot;
}

// Where a range of the plan's map lies in this slot.
BindingRange GraphBinding::range_of(const Range& range, const SlotMemory& memory,
                                    const BindingRange& scratch) const {
  switch (range.buffer) {
    case kArena: return {scratch.buffer, scratch.offset + range.offset, range.bytes};
    case kDummy: return {own_buffer_.get(), own_.dummy + range.offset, range.bytes};
    case kParams: return {own_buffer_.get(), own_.params + range.offset, range.bytes};
    default: break;
  }
  const auto tensor =
      std::ranges::find_if(plan_->tensors, [&](const PlanTensor& t) { return t.holds(range); });
  const auto i = static_cast<std::size_t>(tensor - plan_->tensors.begin());
  const BindingRange& bound = memory.tensors[i].buffer != nullptr ? memory.tensors[i] : own_.tensors[i];
  return {bound.buffer, bound.offset + range.offset - tensor->offset, range.bytes};
}

void GraphBinding::record(HostRecorder& to, std::size_t slot, const HostBarriers& barriers) const {
  if (barriers.before.stages != 0) to.barrier_from(barriers.before);
  for (std::size_t i = 0; i < pipelines_.size(); ++i) {
    const Step& step = plan_->scheduled.steps[i];
    if (i != 0 && step.barrier_before) to.barrier();  // the first step's is the host's
    to.dispatch(*pipelines_[i], *slots_[slot].sets[i], step.dispatch.push, {}, step.dispatch.grid);
  }
  if (barriers.after.stages != 0) to.barrier_to(barriers.after);
}

}  // namespace tessera
