// A planned graph with memory: pipelines and descriptor sets, ready to be recorded into a host's command
// buffers.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "schedule/graph_plan.h"
#include "schedule/pipelines.h"

namespace tessera {

// Memory of one slot. A range without a buffer is made by the binding.
struct SlotMemory {
  std::vector<BindingRange> tensors;  // by GraphPlan::tensors, all with a buffer but those of an OwnContent
  BindingRange scratch;
};

// What the binding's own memory has of tensors that no kernel writes.
struct OwnContent {
  std::size_t tensor = 0;  // index in GraphPlan::tensors
  std::vector<std::byte> bytes;
};

// Other stages of the device before and after, none where `stages` is 0.
struct HostBarriers {
  HostAccess before, after;
};

class GraphBinding {
 public:
  // Submits nothing. The device must outlive the binding; buffers are referred to by descriptor sets alone.
  static Result<std::unique_ptr<GraphBinding>> create(Device& device, std::shared_ptr<const GraphPlan> plan,
                                                      std::span<const OwnContent> contents,
                                                      std::span<const SlotMemory> slots,
                                                      const RunJobs& run_jobs);

  std::size_t slots() const { return slots_.size(); }
  // Commands alone: allocates nothing.
  void record(HostRecorder& to, std::size_t slot, const HostBarriers& barriers) const;

 private:
  struct Slot {
    std::unique_ptr<Buffer> scratch;                // null: the host's, or none is needed
    std::vector<std::unique_ptr<BindingSet>> sets;  // by step
  };
  // Where the binding's own buffer has what.
  struct Own {
    std::uint64_t params = 0, dummy = 0, bytes = 0;
    std::vector<BindingRange> tensors;  // by GraphPlan::tensors; without a buffer: not here
  };

  explicit GraphBinding(std::shared_ptr<const GraphPlan> plan) : plan_(std::move(plan)) {}
  Result<void> create_own(Device& device, std::span<const OwnContent> contents);
  Result<Slot> create_slot(Device& device, const SlotMemory& memory) const;
  BindingRange range_of(const Range& range, const SlotMemory& memory, const BindingRange& scratch) const;

  std::shared_ptr<const GraphPlan> plan_;
  std::vector<std::shared_ptr<Pipeline>> pipelines_;  // by step
  Own own_;
  std::unique_ptr<Buffer> own_buffer_;
  std::vector<Slot> slots_;
};

}  // namespace tessera
