// Weights that come a little at a time, fail to, and come back: on memory that the CPU does not write in
// place.
#include <chrono>
#include <thread>

#include "host_fixture.h"

namespace tessera::test {
namespace {

class Weights : public HostTest {
 protected:
  static constexpr std::uint64_t kStream = 100'000;

  void SetUp() override {
    HostTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    wanted_ = expected();
    open();
    desc_ = on_host();
    host_desc_.memory_user = this;
    host_desc_.allocate_memory = [](void* user, const tessera_memory_request* request,
                                    tessera_memory_block* block) -> int32_t {
      return static_cast<Weights*>(user)->allocate(*request, *block);
    };
    host_desc_.free_memory = [](void* user, const tessera_memory_block* block) {
      auto& self = *static_cast<Weights*>(user);
      TSR_HOST_CALL(self.host_, FreeMemory)(self.host_.device, block->memory, nullptr);
      --self.blocks_;
    };
  }

  // Mapped only where it has to be.
  VkResult allocate(const tessera_memory_request& request, tessera_memory_block& block) {
    names_.push_back(request.name);
    if (request.name == fails_ && passes_-- <= 0) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    void* mapped = nullptr;
    block.memory = host_.allocate(request.bytes, request.memory_type, &mapped);
    if (request.mapped != 0) block.mapped = mapped;
    ++blocks_;
    return VK_SUCCESS;
  }

  // A step that may bring weights, and what it brought is waited for.
  static tessera_step_state step(Session& session) {
    const tessera_step_state state = take(session.step(0)).state;
    take(session.wait(10'000'000'000));
    return state;
  }
  static int steps_until_loaded(Session& session) {
    int steps = 0;
    for (tessera_step_result r{}; steps < 10'000; ++steps) {
      r = take(session.step(0));
      if (r.state != TESSERA_STEP_LOADING || r.loaded_bytes == r.total_bytes) break;
    }
    return steps;
  }
  tessera_context_desc desc_{};
  std::vector<std::string> names_;  // of the buffers that were asked for
  std::string fails_;               // of the buffers that get no memory, after passes_ of them
  int passes_ = 0, blocks_ = 0;
  Ids wanted_;
};

TEST_P(Weights, StreamInOneSubmissionAStep) {
  const Context context = take(Context::create(desc_));
  const Model model = take(context.load(kQwen2));
  for (const std::uint64_t bytes : {std::uint64_t{20'000}, kStream, UINT64_MAX}) {
    Session session = prompted(model, bytes);
    const std::uint64_t total = session.stats().weight_bytes;
    std::uint64_t loaded = 0;
    std::uint64_t steps = 0;
    while (loaded < total && steps < 10'000) {
      const std::uint64_t submits = VulkanTable::calls("vkQueueSubmit");
      const tessera_step_result r = take(session.step(0));
      ASSERT_EQ(r.state, TESSERA_STEP_LOADING);
      EXPECT_LE(VulkanTable::calls("vkQueueSubmit") - submits, 1u);
      if (r.loaded_bytes == loaded)  // both copies are under way
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      else
        ++steps;
      loaded = r.loaded_bytes;
    }
    // Steps end with a row.
    EXPECT_LE(steps, 2 * (total / std::min(bytes, total) + 1)) << bytes;
    EXPECT_EQ(next(session, 4), wanted_) << bytes;
  }
}

TEST_P(Weights, WhatFailedComesAgain) {
  const Context context = take(Context::create(desc_));
  const Model model = take(context.load(kQwen2));
  Session session = prompted(model, kStream);
  fails_ = "staging of weights";
  expect_failure(session.step(0), TESSERA_OUT_OF_MEMORY, "staging of weights");
  fails_.clear();
  EXPECT_EQ(step(session), TESSERA_STEP_LOADING);
  VulkanTable::fail("vkQueueSubmit", VK_ERROR_OUT_OF_HOST_MEMORY);
  expect_failure(session.step(0), TESSERA_OUT_OF_MEMORY, "submitting");
  VulkanTable::reset();
  EXPECT_GT(steps_until_loaded(session), 0);
  EXPECT_EQ(next(session, 4), wanted_);
}

TEST_P(Weights, AFailedReloadKeepsNothing) {
  std::vector<const char*> caps(desc_.caps, desc_.caps + desc_.cap_count);
  caps.push_back("max_buffer_size=1m");  // several buffers
  desc_.caps = caps.data();
  desc_.cap_count = static_cast<std::uint32_t>(caps.size());
  const Context context = take(Context::create(desc_));
  const Model model = take(context.load(TESSERA_SOURCE_DIR "/models/tessera-tiny.gguf"));
  Session unhindered = prompted(model), session = prompted(model);
  const Ids wanted = next(unhindered, 4);
  EXPECT_TRUE(session.release_weights());
  const int released = blocks_;
  names_.clear();
  ASSERT_TRUE(session.step(0));
  ASSERT_GE(names_.size(), 3u);
  const std::string last = names_[2];
  EXPECT_TRUE(session.release_weights());
  EXPECT_EQ(blocks_, released);
  fails_ = last;
  for (int i = 0; i < 3; ++i) {
    expect_failure(session.step(0), TESSERA_OUT_OF_MEMORY, last);
    EXPECT_EQ(blocks_, released);
  }
  fails_.clear();
  EXPECT_EQ(next(session, 4), wanted);
}

TSR_ON_HOST(Weights);

}  // namespace
}  // namespace tessera::test
