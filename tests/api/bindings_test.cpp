// What a host binds to plans, and what is refused.
#include "record_fixture.h"

namespace tessera::test {
namespace {

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
