// Plans recorded into command buffers of a host's, between its own commands.
#include <algorithm>
#include <map>

#include "host_fixture.h"
#include "op_call.h"
#include "plan_host.h"
#include "support/host_work.h"

namespace tessera::test {
namespace {

constexpr std::uint32_t kTransfer = VK_PIPELINE_STAGE_TRANSFER_BIT,
                        kCompute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
constexpr std::uint32_t kShader = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
constexpr std::uint32_t kJunk = 0x7fff7fff;  // NaN in F32 and in F16

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

const Case kCases[] = {
    {"softmax", "softmax", {{"input", "F32", {33, 70}}}},
    {"rms_norm", "rms_norm", {{"X", "F32", {5, 96}}, {"scale", "F32", {96}}}},
    {"matmul", "matmul", {{"X", "F32", {7, 64}}, {"W", "F32", {33, 64}}, {"bias", "F32", {33}}}},
    {"matmul_q4_0",
     "matmul",
     {{"X", "F16", {1, 96}},
      {"W", "Q4_0", {20, 96}},
      {"W_up", "Q4_0", {20, 96}},
      {"residual", "F16", {1, 20}}},
     {"act=silu"}},
    {"matmul_batch", "matmul", {{"X", "F32", {3, 5, 32}}, {"W", "Q8_0", {3, 12, 32}}}, {"precision=mixed"}},
    {"feed_forward",
     "feed_forward",
     {{"X", "F32", {6, 64}},
      {"W", "Q8_0", {96, 64}},
      {"W_up", "Q8_0", {96, 64}},
      {"W_down", "F16", {40, 96}}},
     {"act=silu"}},
    {"mlp",
     "mlp",
     {{"X", "F32", {17, 12}}, {"W1", "F32", {32, 12}}, {"bias1", "F32", {32}}, {"W2", "F32", {8, 32}}}},
    {"attention",
     "attention",
     {{"Q", "F16", {1, 4, 33, 32}}, {"K", "F16", {1, 2, 33, 32}}, {"V", "F16", {1, 2, 33, 32}}},
     {"is_causal=1"},
     {"lse"}},
    {"attention_split",
     "attention",
     {{"Q", "F16", {1, 8, 1, 64}}, {"K", "F16", {1, 2, 4096, 64}}, {"V", "F16", {1, 2, 4096, 64}}}},
    {"attention_past",
     "attention",
     {{"Q", "F32", {1, 2, 3, 16}},
      {"K", "F32", {1, 2, 3, 16}},
      {"V", "F32", {1, 2, 3, 16}},
      {"past_key", "F32", {1, 2, 9, 16}},
      {"past_value", "F32", {1, 2, 9, 16}}},
     {"is_causal=1"}},
    {"attention_paged",
     "attention",
     {{"Q", "F32", {2, 2, 1, 16}}, {"K", "F32", {5, 2, 8, 16}}, {"V", "F32", {5, 2, 8, 16}}},
     {},
     {},
     {tensor_of<std::int64_t>("block_table", "I64", {2, 2}, {4, 0, 1, 3}),
      tensor_of<std::int64_t>("nonpad_kv_seqlen", "I64", {2}, {11, 16})}},
    {"rope_append",
     "rope_append",
     {{"QKV", "F32", {2, 3, 64}},
      {"cos_cache", "F32", {20, 8}},
      {"sin_cache", "F32", {20, 8}},
      {"past_key", "F32", {2, 1, 20, 16}},
      {"past_value", "F32", {2, 1, 20, 16}}},
     {"position=7"}},
    {"kv_append",
     "kv_append",
     {{"past_cache", "F16", {2, 3, 9, 8}}, {"update", "F32", {2, 3, 2, 8}}},
     {"position=4"}},
    {"rotary",
     "rotary_embedding",
     {{"X", "F32", {1, 2, 3, 8}}, {"cos_cache", "F32", {10, 4}}, {"sin_cache", "F32", {10, 4}}},
     {},
     {},
     {tensor_of<std::int64_t>("position_ids", "I64", {1, 3}, {9, 0, 4})}},
    {"embedding",
     "embedding",
     {{"table", "Q8_0", {11, 64}}},
     {"scale=2"},
     {},
     {tensor_of<std::int64_t>("ids", "I64", {5}, {10, 0, 3, 3, 7})}},
    {"linear_attention",
     "linear_attention",
     {{"query", "F16", {2, 19, 32}},
      {"key", "F16", {2, 19, 16}},
      {"value", "F16", {2, 19, 24}},
      {"past_state", "F32", {2, 2, 8, 12}},
      {"decay", "F32", {2, 19, 2}}},
     {"update_rule=gated", "q_num_heads=4", "kv_num_heads=2"}},
    {"add", "add", {{"A", "F32", {301}}, {"B", "F32", {301}}}},
};

// What a recording may not call.
constexpr const char* kForbidden[] = {"vkAllocateMemory",
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
std::uint64_t forbidden_calls() {
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

TEST_P(Recording, GivesWhatRunGives) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    expect_frames(c.call(1), c.call(100));
  }
}

TEST_P(Recording, WorksInSecondaryCommandBuffers) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    expect_in_secondary(c.call(7));
  }
}

// Validation layers do not see every hazard between dispatches.
TEST_P(Recording, PutsBarriersWhereTheyAreNeeded) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const OpCall call = c.call(5);
    const OpPlan plan = take(plan_of(context_, call));
    const Planned planned = describe(plan);
    std::vector<Slot> slots;
    slots.push_back(make_slot(plan, planned, call, false));
    const OpBinding binding = take(bind(plan, slots));
    auto desc = init<tessera_record_desc>();
    desc.command_buffer = work_->begin();
    desc.before_stages = VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT;
    desc.before_access = VK_ACCESS_TRANSFER_WRITE_BIT;
    desc.after_stages = VK_PIPELINE_STAGE_HOST_BIT;
    desc.after_access = VK_ACCESS_HOST_READ_BIT;
    (void)CommandLog::take();
    record(binding, desc);
    expect_commands(CommandLog::take(), planned.kernels);
    work_->end(desc.command_buffer);
  }
}

// A binding of each length of a sequence that grows.
TEST_P(Recording, MakesNoPipelineForALength) {
  std::vector<OpBinding> kept;
  std::uint64_t made = 0;
  for (const std::uint64_t keys : {2048u, 3000u, 4096u, 6000u, 9000u}) {
    const Case growing{
        "",
        "attention",
        {{"Q", "F16", {1, 2, 1, 32}}, {"K", "F16", {1, 1, keys, 32}}, {"V", "F16", {1, 1, keys, 32}}}};
    const OpCall call = growing.call(1);
    const OpPlan plan = take(plan_of(context_, call));
    const Planned planned = describe(plan);
    ASSERT_EQ(planned.kernels.back(), "attention_merge");
    std::vector<Slot> slots;
    slots.push_back(make_slot(plan, planned, call, false));
    kept.push_back(take(bind(plan, slots)));
    const std::uint64_t calls = VulkanTable::calls("vkCreateComputePipelines");
    EXPECT_TRUE(kept.size() == 1 || calls == made) << keys;
    made = calls;
  }
}

// Row by row: one recording, whose state nobody touches between submissions.
TEST_P(Recording, KeepsTheStateOfALinearAttention) {
  const Case row{"",
                 "linear_attention",
                 {{"query", "F32", {1, 1, 16}},
                  {"key", "F32", {1, 1, 16}},
                  {"value", "F32", {1, 1, 20}},
                  {"past_state", "F32", {1, 2, 8, 10}},
                  {"decay", "F32", {1, 1, 16}},
                  {"beta", "F32", {1, 1, 2}}},
                 {"q_num_heads=2", "kv_num_heads=2"}};
  OpCall call = row.call(1);
  const OpPlan plan = take(plan_of(context_, call));
  const Planned planned = describe(plan);
  const PlannedTensor* state = planned.find("past_state");
  ASSERT_NE(state, nullptr) << planned.names();
  EXPECT_EQ(state->output, "present_state");
  EXPECT_TRUE(state->reads && state->writes);
  std::vector<Slot> slots;
  slots.push_back(make_slot(plan, planned, call, true));
  Slot& slot = slots[0];
  const OpBinding binding = take(bind(plan, slots));
  const auto at = static_cast<std::size_t>(state - planned.tensors.data());
  const VkCommandBuffer first = work_->begin();
  work_->copy(first, *slot.staging[at], 0, *slot.device[at], state->alignment, state->bytes);
  work_->end(first);
  work_->submit(first);
  work_->wait();
  // The frame copies no state: it is neither staged nor filled.
  const HostBuffer* device = std::exchange(slot.device[at], nullptr);
  slot.staging[at] = nullptr;
  const HostBuffer* readback = std::exchange(slot.readback[at], nullptr);
  const VkCommandBuffer commands = frame(binding, planned, slot, 0);
  const VkCommandBuffer last = work_->begin();
  work_->copy(last, *device, state->alignment, *readback, 0, state->bytes);
  work_->end(last);
  for (std::uint32_t t = 0; t < 5; ++t) {
    const std::vector<std::byte> past = call.inputs[3].data;
    call = row.call(10 + 10 * t);
    call.inputs[3].data = past;
    for (std::size_t i = 0; i < planned.tensors.size(); ++i)
      if (slot.staging[i] != nullptr)
        take(plan.pack(planned.tensors[i].name, call.inputs, slot.staging[i]->bytes));
    for (const VkCommandBuffer submitted : {commands, last}) {
      work_->submit(submitted);
      work_->wait();
    }
    Outputs found = results(planned, slot);
    found["present_state"].assign(readback->bytes.begin(), readback->bytes.end());
    expect_same(call, found);
    call.inputs[3].data = found["present_state"];
  }
}

// Kernels read a weight that no binding can cover in windows of rows.
TEST_P(Recording, CutsWeightsByRows) {
  make_context({"max_storage_range=1m"});
  const Case large{"", "matmul", {{"X", "F32", {2, 640}}, {"W", "F32", {700, 640}}}};
  expect_frames(large.call(1), large.call(2));
}

// The example of docs/embedding.md.
TEST_P(Recording, WorksFromC) {
  const OpCall call{"matmul",
                    {random_tensor("X", "F32", {3, 64}, 1), random_tensor("W", "Q4_0", {32, 64}, 2)}};
  const std::uint64_t x_bytes = call.inputs[0].data.size(), y_bytes = 3 * 32 * 4, y_offset = 4096;
  const auto& x = host_.make_buffer(x_bytes);
  const auto& activations = host_.make_buffer(y_offset + y_bytes);
  const auto& w = host_.make_buffer(4096);
  const auto& weights = host_.make_buffer(4096);
  const auto& y = host_.make_buffer(y_bytes);
  std::ranges::copy(call.inputs[0].data, x.bytes.begin());
  const VkCommandBuffer commands = work_->begin();
  work_->copy(commands, x, 0, activations, 0, x_bytes);
  work_->copy(commands, w, 0, weights, 0, 4096);
  plan_host host{context_.get(),
                 activations.buffer,
                 weights.buffer,
                 y_offset,
                 call.inputs[1].data.data(),
                 call.inputs[1].data.size(),
                 w.bytes.data(),
                 4096,
                 commands,
                 nullptr};
  ASSERT_EQ(plan_host_record(&host), 0);
  work_->copy(commands, activations, y_offset, y, 0, y_bytes);
  work_->barrier(commands, kTransfer, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                 VK_ACCESS_HOST_READ_BIT);
  work_->end(commands);
  work_->submit(commands);
  work_->wait();
  expect_same(call, {{"Y", {y.bytes.begin(), y.bytes.end()}}});
  tessera_binding_destroy(host.binding);
}

class Bindings : public Recording {
 protected:
  // A product with a slot that is right.
  void SetUp() override {
    Recording::SetUp();
    if (context_.get() == nullptr) return;
    plan_ = take(plan_of(context_, call_));
    planned_ = describe(plan_);
    slots_.push_back(make_slot(plan_, planned_, call_, true));
  }
  void refuses(const std::string& words) {
    expect_failure(bind(plan_, slots_), TESSERA_INVALID_ARGUMENT, words);
  }
  tessera_bound_range& bound(const std::string& name) {
    for (tessera_bound_range& r : slots_[0].ranges)
      if (r.name == name) return r;
    return slots_[0].ranges[0];
  }
  const OpCall call_{"matmul",
                     {random_tensor("X", "F32", {4, 32}, 1), random_tensor("W", "Q8_0", {8, 32}, 2)}};
  OpPlan plan_;
  Planned planned_;
  std::vector<Slot> slots_;
};

TSR_ON_HOST(Bindings);

TEST_P(Bindings, RefuseWhatDoesNotFit) {
  const std::vector<Slot> right = slots_;
  ASSERT_TRUE(bind(plan_, right));
  const auto again = [&] { slots_ = right; };
  bound("W").offset += 4;
  refuses("slot 0: tensor 'W' is at offset " + std::to_string(planned_.find("W")->alignment + 4));
  again();
  bound("X").bytes = 100;
  refuses("tensor 'X' takes 512 bytes, its range has 100");
  again();
  bound("X").name = "x";
  refuses("did you mean 'X'?");
  again();
  bound("X").name = nullptr;
  refuses("a tensor's name is NULL");
  again();
  bound("X").buffer = VK_NULL_HANDLE;
  refuses("tensor 'X' has no buffer");
  again();
  bound("X").name = "W";
  refuses("tensor 'W' is bound twice");
  again();
  slots_[0].ranges.pop_back();
  refuses("is not bound");
  again();
  bound("X").buffer = bound("Y").buffer;
  refuses("tensor 'Y' overlaps tensor 'X'");
  again();
  slots_.push_back(right[0]);
  slots_[1].ranges.clear();
  refuses("slot 1: tensor 'X' is not bound");
  slots_.clear();
  refuses("at least one slot");
  tessera_error error;
  tessera_binding* out = nullptr;
  auto desc = init<tessera_bind_desc>();
  EXPECT_EQ(tessera_bind(nullptr, &desc, &out, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_bind(plan_.get(), nullptr, &out, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_bind(plan_.get(), &desc, nullptr, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(out, nullptr);
}

TEST_P(Bindings, RefuseToRecord) {
  const OpBinding binding = take(bind(plan_, slots_));
  auto desc = init<tessera_record_desc>();
  expect_failure(binding.record(desc), TESSERA_INVALID_ARGUMENT, "command_buffer is NULL");
  desc.command_buffer = work_->begin();
  desc.slot = 1;
  expect_failure(binding.record(desc), TESSERA_INVALID_ARGUMENT, "no slot 1");
  desc.slot = 0;
  desc.after_access = VK_ACCESS_SHADER_READ_BIT;
  expect_failure(binding.record(desc), TESSERA_INVALID_ARGUMENT,
                 "after_access has bits, but after_stages has none");
  desc.after_stages = VK_PIPELINE_STAGE_2_COPY_BIT | VK_PIPELINE_STAGE_2_TRANSFER_BIT;
  expect_failure(binding.record(desc), TESSERA_INVALID_ARGUMENT,
                 "after_stages has 0x100000000, which VkPipelineStageFlags do not have");
  desc.after_stages = kCompute;
  desc.before_stages = kTransfer;
  desc.before_access = VK_ACCESS_2_SHADER_STORAGE_READ_BIT;
  expect_failure(binding.record(desc), TESSERA_INVALID_ARGUMENT,
                 "before_access has 0x200000000, which VkAccessFlags do not have");
  tessera_error error;
  EXPECT_EQ(tessera_record(nullptr, &desc, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_record(binding.get(), nullptr, &error), TESSERA_INVALID_ARGUMENT);
  work_->end(desc.command_buffer);
  tessera_binding_destroy(nullptr);
}

// Ops whose position is in a buffer of the host's, so that one plan serves every frame.
const Case kMoving[] = {
    {"kv_append", "kv_append", {{"past_cache", "F32", {1, 2, 9, 8}}, {"update", "F32", {1, 2, 2, 8}}}},
    {"kv_append_paged",
     "kv_append",
     {{"past_cache", "F32", {4, 2, 3, 8}}, {"update", "F32", {1, 2, 2, 8}}},
     {},
     {},
     {tensor_of<std::int64_t>("block_table", "I64", {1, 3}, {3, 2, 1})}},
    {"rope_append_paged",
     "rope_append",
     {{"QKV", "F32", {1, 2, 64}},
      {"cos_cache", "F32", {9, 8}},
      {"sin_cache", "F32", {9, 8}},
      {"past_key", "F32", {4, 1, 3, 16}},
      {"past_value", "F32", {4, 1, 3, 16}}},
     {},
     {},
     {tensor_of<std::int64_t>("block_table", "I64", {1, 3}, {3, 2, 1})}},
    {"attention",
     "attention",
     {{"Q", "F32", {1, 2, 2, 16}}, {"K", "F32", {1, 2, 9, 16}}, {"V", "F32", {1, 2, 9, 16}}},
     {"is_causal=1"}},
    {"embedding",
     "embedding",
     {{"table", "F32", {5, 16}}, {"positions", "F32", {9, 16}}},
     {},
     {},
     {tensor_of<std::int64_t>("ids", "I64", {2}, {4, 1})}},
};

TEST_P(Bindings, TakeTheHostsState) {
  for (const Case& c : kMoving) {
    SCOPED_TRACE(c.name);
    OpCall call = c.call(3);
    call.attributes.push_back("position=0");
    const OpPlan plan = take(plan_of(context_, call));
    const Planned planned = describe(plan);
    std::vector<Slot> slots;
    slots.push_back(make_slot(plan, planned, call, true));
    const HostBuffer& state = host_.make_buffer(planned.find("state")->bytes);
    take(plan.pack("state", {}, state.bytes));
    slots[0].ranges.push_back(range("state", state, 0));
    slots[0].ranges.back().name = "state";
    const OpBinding binding = take(bind(plan, slots));
    const VkCommandBuffer commands = frame(binding, planned, slots[0], 0);
    for (const std::uint32_t position : {0u, 2u, 7u}) {
      std::memcpy(state.bytes.data(), &position, 4);
      if (const PlannedTensor* ids = planned.find("ids")) {  // they lie at their positions
        const std::uint32_t words[] = {4, 1};
        const auto i = static_cast<std::size_t>(ids - planned.tensors.data());
        std::memcpy(slots[0].staging[i]->bytes.data() + 4 * position, words, sizeof words);
      }
      work_->submit(commands);
      work_->wait();
      call.attributes.back() = "position=" + std::to_string(position);
      expect_same(call, results(planned, slots[0]));
    }
  }
}

// The lengths too: what is bound are all blocks.
TEST_P(Bindings, TakeTheHostsLengths) {
  const Case paged{"",
                   "attention",
                   {{"Q", "F32", {1, 2, 1, 16}}, {"K", "F32", {4, 2, 3, 16}}, {"V", "F32", {4, 2, 3, 16}}},
                   {},
                   {},
                   {tensor_of<std::int64_t>("block_table", "I64", {1, 3}, {3, 2, 1})}};
  OpCall call = paged.call(1);
  call.inputs.push_back(tensor_of<std::int64_t>("nonpad_kv_seqlen", "I64", {1}, {2}));
  const OpPlan plan = take(plan_of(context_, call));
  const Planned planned = describe(plan);
  std::vector<Slot> slots;
  slots.push_back(make_slot(plan, planned, call, true));
  const OpBinding binding = take(bind(plan, slots));
  const VkCommandBuffer commands = frame(binding, planned, slots[0], 0);
  const auto lengths = static_cast<std::size_t>(planned.find("nonpad_kv_seqlen") - planned.tensors.data());
  for (const std::uint32_t keys : {2u, 7u, 9u}) {
    std::memcpy(slots[0].staging[lengths]->bytes.data(), &keys, 4);
    work_->submit(commands);
    work_->wait();
    call.inputs.back() = tensor_of<std::int64_t>("nonpad_kv_seqlen", "I64", {1}, {keys});
    expect_same(call, results(planned, slots[0]));
  }
}

}  // namespace
}  // namespace tessera::test
