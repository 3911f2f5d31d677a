// Plans recorded into command buffers of a host's, between its own commands.
#include "record_fixture.h"

namespace tessera::test {
namespace {

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

}  // namespace
}  // namespace tessera::test
