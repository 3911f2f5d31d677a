// One host device, several threads. ThreadSanitizer runs these: .ci/run threads.
#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "host_fixture.h"
#include "op_call.h"
#include "plan_host.h"
#include "support/host_work.h"

namespace tessera::test {
namespace {

class Threads : public HostTest {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    as_own_ = expected();
    open();
    desc_ = on_host();
    host_desc_.queue_user = &queue_;
    host_desc_.lock = [](void* user, VkQueue_T*) { static_cast<std::mutex*>(user)->lock(); };
    host_desc_.unlock = [](void* user, VkQueue_T*) { static_cast<std::mutex*>(user)->unlock(); };
  }

  // The host's frames: work of its own on the queue that the library uses, until `busy` is 0.
  void draw(const std::atomic<int>& busy) {
    constexpr std::uint32_t kWords = 4096;
    HostWork work(host_);
    const HostBuffer& target = host_.make_buffer(kWords * 4);
    for (std::uint32_t frame = 1; frame < 4 || busy > 0; ++frame) {
      const VkCommandBuffer commands = work.begin();
      // The fence of the frame before orders them, but not every layer sees it between other threads'
      // submissions.
      work.barrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                   VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT);
      work.fill(commands, target, 0, kWords * 4, frame);
      work.barrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                   VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
      work.end(commands);
      {
        const std::lock_guard lock(queue_);
        work.submit(commands);
      }
      work.wait();
      EXPECT_EQ(target.as<std::uint32_t>()[kWords - 1], frame);
    }
  }

  // Each body on a thread of its own, beside the host's frames.
  void together(const std::function<void()>& first, const std::function<void()>& second) {
    std::atomic<int> busy = 2;
    const auto run = [&busy](const std::function<void()>& body) {
      return std::thread([&busy, &body] {
        body();
        --busy;
      });
    };
    std::thread a = run(first), b = run(second);
    draw(busy);
    a.join();
    b.join();
  }

  // A greedy generation in steps within a budget.
  static Ids speak_in_steps(const Model& model, double budget_us) {
    Session session = prompted(model);
    Ids ids;
    GenerateOptions options;
    options.max_tokens = 4;
    options.ignore_eos = true;
    options.on_token = [&ids](std::uint32_t id) {
      ids.push_back(id);
      return true;
    };
    EXPECT_TRUE(session.begin(std::move(options)));
    for (;;) {
      auto result = session.step(budget_us);
      if (!result) {
        ADD_FAILURE() << result.failure().message;
        return ids;
      }
      if (result->state == TESSERA_STEP_DONE) return ids;
      if (result->state == TESSERA_STEP_WAITING) take(session.wait(10'000'000'000));
    }
  }

  std::mutex queue_;
  tessera_context_desc desc_{};
  Ids as_own_;
};

TEST_P(Threads, TwoSessionsOfOneModelSpeakInTheHostsFrames) {
  const Context context = take(Context::create(desc_));
  const Model model = take(context.load(kQwen2));
  const auto body = [&] { EXPECT_EQ(speak_in_steps(model, 3000), as_own_); };
  together(body, body);
}

TEST_P(Threads, TwoContextsComeAndGo) {
  const auto body = [&] {
    for (int i = 0; i < 2; ++i) EXPECT_EQ(speak(take(Context::create(desc_))), as_own_);
  };
  together(body, body);
}

// A binding recorded from two threads into command buffers of two pools, while a session speaks.
TEST_P(Threads, OneBindingIsRecordedByBoth) {
  const Context context = take(Context::create(desc_));
  const OpCall call{"softmax", {random_tensor("input", "F32", {33, 70}, 5)}};
  const OpPlan plan = take(plan_of(context, call));
  const Planned planned = describe(plan);
  ASSERT_EQ(planned.tensors.size(), 2u);
  std::array<std::array<const HostBuffer*, 2>, 2> buffers{};
  std::vector<tessera_bound_range> ranges;
  for (auto& slot : buffers)
    for (std::size_t i = 0; i < 2; ++i) {
      slot[i] = &host_.make_buffer(planned.tensors[i].bytes);
      ranges.push_back(init<tessera_bound_range>());
      ranges.back().name = planned.tensors[i].name.c_str();
      ranges.back().buffer = slot[i]->buffer;
      if (planned.tensors[i].output.empty()) std::ranges::copy(call.inputs[0].data, slot[i]->bytes.begin());
    }
  std::array<tessera_slot, 2> slots;
  for (std::size_t i = 0; i < 2; ++i) {
    slots[i] = init<tessera_slot>();
    slots[i].tensors = &ranges[2 * i];
    slots[i].tensor_count = 2;
  }
  auto bind = init<tessera_bind_desc>();
  bind.slots = slots.data();
  bind.slot_count = 2;
  const OpBinding binding = take(plan.bind(bind));
  const auto wanted = take(context.op(call.op, call.inputs));
  const auto body = [&](std::uint32_t slot) {
    HostWork work(host_);
    for (int frame = 0; frame < 5; ++frame) {
      const VkCommandBuffer commands = work.begin();
      auto record = init<tessera_record_desc>();
      record.command_buffer = commands;
      record.slot = slot;
      record.before_stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;  // of the frame before
      record.before_access = VK_ACCESS_SHADER_WRITE_BIT;
      record.after_stages = VK_PIPELINE_STAGE_HOST_BIT;
      record.after_access = VK_ACCESS_HOST_READ_BIT;
      EXPECT_TRUE(binding.record(record));
      work.end(commands);
      {
        const std::lock_guard lock(queue_);
        work.submit(commands);
      }
      work.wait();
    }
    const std::size_t output = planned.tensors[0].output.empty() ? 1 : 0;
    EXPECT_EQ(std::memcmp(buffers[slot][output]->bytes.data(), wanted[0].data.data(), wanted[0].data.size()),
              0);
  };
  together([&] { body(0); }, [&] { body(1); });
}

// What a context and a model allow at once.
TEST_P(Threads, OneContextAnswersBoth) {
  const Context context = take(Context::create(desc_));
  const Model model = take(context.load(kQwen2));
  const Ids ids = take(model.tokenize(kPrompt));
  const auto body = [&] {
    const OpCall call{"add", {random_tensor("A", "F32", {301}, 1), random_tensor("B", "F32", {301}, 2)}};
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(take(model.tokenize(kPrompt)), ids);
      EXPECT_EQ(take(context.op(call.op, call.inputs)).size(), 1u);
      EXPECT_FALSE(take(context.pipeline_cache()).empty());
      take(plan_of(context, call));
      EXPECT_EQ(take(context.load(kQwen2)).tokenize(kPrompt)->size(), ids.size());
    }
  };
  together(body, body);
}

TSR_ON_HOST(Threads);

}  // namespace
}  // namespace tessera::test
