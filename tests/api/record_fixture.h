// Plans recorded into command buffers of a host's, between its own commands: what their tests share.
#pragma once

#include <algorithm>
#include <map>

#include "host_fixture.h"
#include "op_call.h"
#include "plan_host.h"
#include "support/host_work.h"

namespace tessera::test {

inline constexpr std::uint32_t kTransfer = VK_PIPELINE_STAGE_TRANSFER_BIT,
                               kCompute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
inline constexpr std::uint32_t kShader = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
inline constexpr std::uint32_t kJunk = 0x7fff7fff;  // NaN in F32 and in F16

using Outputs = std::map<std::string, std::vector<std::byte>>;

// Inputs of a call by a seed.
struct Input {
  std::string name, type;
  std::vector<std::uint64_t> shape;
};
struct Case {
  const char* name;
  const char* op;
  std::vector<Input> inputs;
  std::vector<std::string> attributes = {}, outputs = {};
  std::vector<Tensor> fixed = {};  // the same for every seed

  OpCall call(std::uint32_t seed) const {
    OpCall out{op, {}, attributes, outputs};
    for (const Input& input : inputs)
      out.inputs.push_back(random_tensor(input.name, input.type, input.shape, seed++));
    for (const Tensor& tensor : fixed) out.inputs.push_back(tensor);
    return out;
  }
};

// What a recording may not call.
inline constexpr const char* kForbidden[] = {"vkAllocateMemory",
                                             "vkMapMemory",
                                             "vkCreateBuffer",
                                             "vkBindBufferMemory",
                                             "vkCreateDescriptorPool",
                                             "vkAllocateDescriptorSets",
                                             "vkFreeDescriptorSets",
                                             "vkUpdateDescriptorSets",
                                             "vkCreateCommandPool",
                                             "vkAllocateCommandBuffers",
                                             "vkBeginCommandBuffer",
                                             "vkEndCommandBuffer",
                                             "vkCreateComputePipelines",
                                             "vkCreateShaderModule",
                                             "vkCreateSemaphore",
                                             "vkWaitSemaphores",
                                             "vkQueueSubmit",
                                             "vkQueueWaitIdle",
                                             "vkDeviceWaitIdle"};
inline std::uint64_t forbidden_calls() {
  std::uint64_t sum = 0;
  for (const char* name : kForbidden) sum += VulkanTable::calls(name);
  return sum;
}

class Recording : public HostTest {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CommandLog::install();
    VulkanTable::count_allocations(allocations);
    open();
    work_ = std::make_unique<HostWork>(host_);
    make_context({});
  }
  void TearDown() override {
    work_.reset();
    context_ = Context();
    HostTest::TearDown();
  }
  void make_context(const std::vector<const char*>& caps) {
    tessera_context_desc desc = on_host();
    std::vector<const char*> all(desc.caps, desc.caps + desc.cap_count);
    all.insert(all.end(), caps.begin(), caps.end());
    desc.caps = all.data();
    desc.cap_count = static_cast<std::uint32_t>(all.size());
    context_ = take(Context::create(desc));
    ASSERT_NE(context_.get(), nullptr);
    CommandLog::settle();
  }

  // Buffers of one slot, each behind an offset, and what comes out.
  struct Slot {
    std::vector<const HostBuffer*> device, staging, readback;  // by tensor; null: none
    const HostBuffer* scratch = nullptr;
    tessera_bound_range scratch_range = init<tessera_bound_range>();
    std::vector<tessera_bound_range> ranges;
  };

  static tessera_bound_range range(const std::string& name, const HostBuffer& buffer, std::uint64_t offset) {
    auto out = init<tessera_bound_range>();
    out.name = name.c_str();
    out.buffer = buffer.buffer;
    out.offset = offset;
    return out;
  }

  Slot make_slot(const OpPlan& plan, const Planned& planned, const OpCall& call, bool own_scratch) {
    Slot slot;
    for (const PlannedTensor& t : planned.tensors) {
      slot.device.push_back(nullptr);
      slot.staging.push_back(nullptr);
      slot.readback.push_back(nullptr);
      if (t.optional) continue;
      slot.device.back() = &host_.make_buffer(t.alignment + t.bytes);
      slot.ranges.push_back(range(t.name, *slot.device.back(), t.alignment));
      if (!t.output.empty()) slot.readback.back() = &host_.make_buffer(t.bytes);
      if (t.inputs.empty()) continue;
      slot.staging.back() = &host_.make_buffer(t.bytes);
      take(plan.pack(t.name, call.inputs, slot.staging.back()->bytes));
    }
    if (own_scratch && planned.scratch_bytes != 0) {
      slot.scratch = &host_.make_buffer(planned.scratch_alignment + planned.scratch_bytes);
      slot.scratch_range = range("", *slot.scratch, planned.scratch_alignment);
    }
    return slot;
  }

  static Expected<OpBinding> bind(const OpPlan& plan, const std::vector<Slot>& slots) {
    std::vector<tessera_slot> views;
    for (const Slot& slot : slots) {
      views.push_back(init<tessera_slot>());
      views.back().tensors = slot.ranges.data();
      views.back().tensor_count = static_cast<std::uint32_t>(slot.ranges.size());
      views.back().scratch = slot.scratch != nullptr ? &slot.scratch_range : nullptr;
    }
    auto desc = init<tessera_bind_desc>();
    desc.slots = views.data();
    desc.slot_count = static_cast<std::uint32_t>(views.size());
    return plan.bind(desc);
  }

  // The host's own work before: inputs copied to the device, the rest filled with junk.
  void record_inputs(VkCommandBuffer commands, const Planned& planned, const Slot& slot) {
    for (std::size_t i = 0; i < planned.tensors.size(); ++i) {
      const PlannedTensor& t = planned.tensors[i];
      if (slot.staging[i] != nullptr)
        work_->copy(commands, *slot.staging[i], 0, *slot.device[i], t.alignment, t.bytes);
      else if (slot.device[i] != nullptr)
        work_->fill(commands, *slot.device[i], t.alignment, t.bytes / 4 * 4, kJunk);
    }
    if (slot.scratch != nullptr) work_->fill(commands, *slot.scratch, 0, VK_WHOLE_SIZE, kJunk);
  }
  // And after.
  void record_outputs(VkCommandBuffer commands, const Planned& planned, const Slot& slot) {
    for (std::size_t i = 0; i < planned.tensors.size(); ++i)
      if (slot.readback[i] != nullptr)
        work_->copy(commands, *slot.device[i], planned.tensors[i].alignment, *slot.readback[i], 0,
                    planned.tensors[i].bytes);
    work_->barrier(commands, kTransfer, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                   VK_ACCESS_HOST_READ_BIT);
  }

  // Records and sees that nothing but commands was made.
  static void record(const OpBinding& binding, tessera_record_desc desc) {
    const std::uint64_t calls = forbidden_calls();
    const std::size_t others = VulkanTable::allocations_inside(), all = allocations();
    const auto recorded = binding.record(desc);
    EXPECT_EQ(allocations() - all, VulkanTable::allocations_inside() - others);
    EXPECT_EQ(forbidden_calls(), calls);
    EXPECT_TRUE(recorded) << recorded.failure().message;
  }

  // One frame in one command buffer, both barriers by Tessera.
  VkCommandBuffer frame(const OpBinding& binding, const Planned& planned, const Slot& slot,
                        std::uint32_t number) {
    const VkCommandBuffer commands = work_->begin();
    record_inputs(commands, planned, slot);
    auto desc = init<tessera_record_desc>();
    desc.command_buffer = commands;
    desc.slot = number;
    desc.before_stages = desc.after_stages = kTransfer;
    desc.before_access = VK_ACCESS_TRANSFER_WRITE_BIT;
    desc.after_access = VK_ACCESS_TRANSFER_READ_BIT;
    record(binding, desc);
    record_outputs(commands, planned, slot);
    work_->end(commands);
    return commands;
  }

  static Outputs results(const Planned& planned, const Slot& slot) {
    Outputs out;
    for (std::size_t i = 0; i < planned.tensors.size(); ++i)
      if (slot.readback[i] != nullptr)
        out[planned.tensors[i].output].assign(slot.readback[i]->bytes.begin(), slot.readback[i]->bytes.end());
    return out;
  }

  // What tessera_op_run gives, to the last bit.
  void expect_same(const OpCall& call, const Outputs& found) {
    const auto expected = take(context_.op(call.op, call.inputs, call.attributes, call.outputs));
    EXPECT_EQ(found.size(), expected.size());
    for (const Tensor& tensor : expected) {
      const auto at = found.find(tensor.name);
      ASSERT_NE(at, found.end()) << tensor.name;
      ASSERT_GE(at->second.size(), tensor.data.size()) << tensor.name;
      EXPECT_EQ(std::memcmp(at->second.data(), tensor.data.data(), tensor.data.size()), 0) << tensor.name;
    }
  }

  // Dispatches of `kernels` with a barrier between two of which one needs the other, in barriers of the
  // host's.
  static void expect_commands(const std::vector<CommandLog::Command>& commands,
                              const std::vector<std::string>& kernels) {
    const auto includes = [](std::uint32_t all, std::uint32_t part) { return (all & part) == part; };
    ASSERT_GE(commands.size(), 3u);
    const auto &before = commands.front(), &after = commands.back();
    ASSERT_TRUE(before && after);
    // Earlier recordings are waited for too.
    EXPECT_EQ(before->from,
              VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT | kCompute);
    EXPECT_EQ(before->from_access, VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    EXPECT_TRUE(includes(before->to, kCompute) && includes(before->to_access, kShader));
    EXPECT_TRUE(includes(after->from, kCompute) && includes(after->from_access, VK_ACCESS_SHADER_WRITE_BIT));
    EXPECT_EQ(after->to, static_cast<std::uint32_t>(VK_PIPELINE_STAGE_HOST_BIT));
    EXPECT_EQ(after->to_access, static_cast<std::uint32_t>(VK_ACCESS_HOST_READ_BIT));
    std::size_t at = 1;
    for (std::size_t i = 0; i < kernels.size(); ++i) {
      // Every kernel reads what the one before wrote, but for keys and values that are appended.
      if (i != 0 && !(kernels[i - 1] == "kv_append" && kernels[i] == "kv_append")) {
        const auto& between = commands.at(at++);
        ASSERT_TRUE(between) << "no barrier before " << kernels[i];
        EXPECT_TRUE(includes(between->from, kCompute) && includes(between->to, kCompute));
        EXPECT_TRUE(includes(between->from_access, VK_ACCESS_SHADER_WRITE_BIT));
        EXPECT_TRUE(includes(between->to_access, kShader));
      }
      ASSERT_FALSE(commands.at(at++)) << kernels[i];
    }
    EXPECT_EQ(at + 1, commands.size());
  }

  // Two frames in flight with memory of their own: nothing waits for the first before the second is
  // submitted.
  void expect_frames(const OpCall& first, const OpCall& second) {
    const OpCall* const calls[] = {&first, &second};
    OpPlan plan = take(plan_of(context_, first));
    const Planned planned = describe(plan);
    std::vector<Slot> slots;
    for (std::uint32_t i = 0; i < 2; ++i) slots.push_back(make_slot(plan, planned, *calls[i], i == 1));
    const std::uint64_t submits = VulkanTable::calls("vkQueueSubmit");
    const OpBinding binding = take(bind(plan, slots));
    EXPECT_EQ(VulkanTable::calls("vkQueueSubmit"), submits);
    plan = OpPlan();  // the binding stays
    VkCommandBuffer frames[2];
    for (std::uint32_t i = 0; i < 2; ++i) frames[i] = frame(binding, planned, slots[i], i);
    for (int round = 0; round < 2; ++round) {
      for (const VkCommandBuffer commands : frames) work_->submit(commands);
      work_->wait();
      for (std::uint32_t i = 0; i < 2; ++i) expect_same(*calls[i], results(planned, slots[i]));
    }
  }

  // In a secondary command buffer, with the host's own barriers.
  void expect_in_secondary(const OpCall& call) {
    const OpPlan plan = take(plan_of(context_, call));
    const Planned planned = describe(plan);
    std::vector<Slot> slots;
    slots.push_back(make_slot(plan, planned, call, true));
    const OpBinding binding = take(bind(plan, slots));
    const VkCommandBuffer secondary = work_->begin(VK_COMMAND_BUFFER_LEVEL_SECONDARY);
    auto desc = init<tessera_record_desc>();
    desc.command_buffer = secondary;
    record(binding, desc);
    work_->end(secondary);
    const VkCommandBuffer primary = work_->begin();
    record_inputs(primary, planned, slots[0]);
    work_->barrier(primary, kTransfer, VK_ACCESS_TRANSFER_WRITE_BIT, kCompute, kShader);
    work_->execute(primary, secondary);
    work_->barrier(primary, kCompute, VK_ACCESS_SHADER_WRITE_BIT, kTransfer, VK_ACCESS_TRANSFER_READ_BIT);
    record_outputs(primary, planned, slots[0]);
    work_->end(primary);
    work_->submit(primary);
    work_->wait();
    expect_same(call, results(planned, slots[0]));
  }

  Context context_;
  std::unique_ptr<HostWork> work_;
};

TSR_ON_HOST(Recording);

}  // namespace tessera::test
