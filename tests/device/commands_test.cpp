#include <gmock/gmock.h>

#include <array>

#include "probe.h"

namespace tessera::test {
namespace {

using testing::Contains;
using testing::HasSubstr;

class Commands : public ProbeTest {
 protected:
  void SetUp() override {
    ProbeTest::SetUp();
    if (!out_) return;
    pipeline_ = take(device_->create_pipeline(probe_desc(2)));
    set_ = take(device_->create_binding_set(*pipeline_, ranges()));
  }
  void TearDown() override {
    set_.reset();
    pipeline_.reset();
    ProbeTest::TearDown();
  }
  // The message that finish() gives after `record`.
  template <typename F>
  std::string misuse(F record) {
    const auto list = take(device_->create_command_list(0));
    record(*list);
    const auto result = list->finish();
    return result ? "" : result.error().message;
  }

  std::shared_ptr<Pipeline> pipeline_;
  std::unique_ptr<BindingSet> set_;
};

TEST_F(Commands, DispatchUsesSpecAndPushConstants) {
  const auto out = run(*device_, probe_desc(3), 7);
  ASSERT_EQ(out.size(), kCount);
  for (std::uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(out[i], i * 3 + 7) << i;
}

TEST_F(Commands, DispatchWithBaseTouchesOnlyItsGroups) {
  const auto out = run(*device_, probe_desc(1), 5, 2, 3);
  ASSERT_EQ(out.size(), kCount);
  for (std::uint32_t i = 0; i < kCount; ++i)
    ASSERT_EQ(out[i], i >= 2 * 64 && i < 5 * 64 ? i + 5 : kUntouched) << i;
}

TEST_F(Commands, SlicesOfAGridEqualTheWhole) {
  const auto list = take(device_->create_command_list(0));
  const std::uint32_t push[] = {1, kCount};
  for (std::uint32_t base = 0; base < kGroups; base += 5) {
    list->barrier();
    list->dispatch(*pipeline_, *set_, push, {base, 0, 0}, {std::min(5u, kGroups - base), 1, 1});
  }
  expect_ok(list->finish());
  submit_and_wait(*device_, *list);
  const auto out = results(*device_);
  for (std::uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(out[i], i * 2 + 1) << i;
}

TEST_F(Commands, ListsAreRecordedOnceAndSubmittedOften) {
  const auto back = take(device_->create_binding_set(
      *pipeline_, std::vector<BindingRange>{{out_.get(), 0, out_->size()}, {in_.get(), 0, in_->size()}}));
  const auto list = take(device_->create_command_list(0));
  const std::uint32_t push[] = {1, kCount};
  list->barrier();
  list->dispatch(*pipeline_, *set_, push, {0, 0, 0}, {kGroups, 1, 1});  // out = 2 in + 1
  list->barrier();
  list->dispatch(*pipeline_, *back, push, {0, 0, 0}, {kGroups, 1, 1});  // in = 2 out + 1
  expect_ok(list->finish());
  const std::uint64_t records = device_->record_count();
  const std::uint64_t submits = device_->submit_count();
  const CommandList* twice[] = {list.get(), list.get()};
  take(device_->submit(twice));
  const std::uint64_t last =
      take(device_->submit(std::span(twice).first(1)));  // while the others are pending
  EXPECT_TRUE(take(device_->wait(last, 10'000'000'000)));
  EXPECT_EQ(device_->record_count(), records);
  EXPECT_EQ(device_->submit_count(), submits + 2);
  // Six steps x -> 2x + 1 from x to in, five to out.
  const auto out = results(*device_);
  for (std::uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(out[i], i * 32 + 31) << i;
}

TEST_F(Commands, TimelineCountsUp) {
  const auto list = take(device_->create_command_list(0));
  expect_ok(list->finish());
  const CommandList* lists[] = {list.get()};
  const std::uint64_t first = take(device_->submit(lists));
  const std::uint64_t second = take(device_->submit(lists));
  EXPECT_EQ(second, first + 1);
  EXPECT_TRUE(take(device_->wait(0, 0)));
  EXPECT_TRUE(take(device_->wait(second, 10'000'000'000)));
  EXPECT_TRUE(take(device_->wait(first, 0)));
  const auto never = device_->wait(second + 1, 0);
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().code, Code::invalid_argument);
}

TEST_F(Commands, UnfinishedListIsRefused) {
  const auto list = take(device_->create_command_list(0));
  const CommandList* lists[] = {list.get()};
  const auto result = device_->submit(lists);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("not finished"));
}

// Under the layers (with tests/support/vk_layer_settings.txt) the log must show what the fixture fails on.
TEST_F(Commands, ValidationFindsAMissingBarrier) {
  const auto list = take(device_->create_command_list(0));
  const std::uint32_t push[] = {1, kCount};
  list->barrier();
  list->dispatch(*pipeline_, *set_, push, {0, 0, 0}, {kGroups, 1, 1});
  list->fill(*out_, 0, 16, 0);
  expect_ok(list->finish());
  const auto lines = log_.take();
  if (env("VK_INSTANCE_LAYERS").find("KHRONOS_validation") == std::string::npos) {
    EXPECT_TRUE(lines.empty());
  } else {
    EXPECT_THAT(lines, Contains(HasSubstr("SYNC-HAZARD-WRITE-AFTER-WRITE")));
  }
}

TEST_F(Commands, CopyAndFill) {
  const auto list = take(device_->create_command_list(0));
  list->barrier();
  list->fill(*out_, 0, 16, 0x01020304);
  list->copy(*in_, 40, *out_, 16, 8);
  list->barrier_to_host();
  expect_ok(list->finish());
  submit_and_wait(*device_, *list);
  const auto out = results(*device_);
  EXPECT_EQ(out[3], 0x01020304u);
  EXPECT_EQ(out[4], 10u);
  EXPECT_EQ(out[5], 11u);
  EXPECT_EQ(out[6], kUntouched);
}

TEST_F(Commands, SharedMemoryIsSeenBothWays) {
  if (!device_) return;
  open(*device_, Memory::shared);
  ASSERT_EQ(in_->mapped().size(), kCount * 4);
  const auto set = take(device_->create_binding_set(*pipeline_, ranges()));
  const auto list = take(device_->create_command_list(0));
  const std::uint32_t push[] = {0, kCount};
  list->barrier();
  list->dispatch(*pipeline_, *set, push, {0, 0, 0}, {kGroups, 1, 1});
  list->barrier_to_host();
  expect_ok(list->finish());
  auto* in = reinterpret_cast<std::uint32_t*>(in_->mapped().data());
  const auto* out = reinterpret_cast<const std::uint32_t*>(out_->mapped().data());
  for (std::uint32_t step = 1; step < 4; ++step) {
    in[5] = step;
    submit_and_wait(*device_, *list);
    EXPECT_EQ(out[5], 2 * step);
  }
}

TEST_F(Commands, Timestamps) {
  const auto list = take(device_->create_command_list(2));
  const std::uint32_t push[] = {1, kCount};
  list->barrier();
  list->timestamp(0);
  list->dispatch(*pipeline_, *set_, push, {0, 0, 0}, {kGroups, 1, 1});
  list->timestamp(1);
  expect_ok(list->finish());
  std::array<double, 2> ns{};
  if (device_->report().limits.timestamp_ns == 0) {
    EXPECT_EQ(list->timestamps(ns).error().code, Code::unsupported);
    return;
  }
  EXPECT_EQ(list->timestamps(ns).error().code, Code::invalid_argument);  // never submitted
  for (int i = 0; i < 2; ++i) {
    submit_and_wait(*device_, *list);
    EXPECT_FALSE(list->timestamps(std::span(ns).first(1)));
    expect_ok(list->timestamps(ns));
    EXPECT_EQ(ns[0], 0);
    EXPECT_GE(ns[1], 0);
  }
}

TEST_F(Commands, MisuseIsNamed) {
  const std::uint32_t push[] = {1, kCount};
  EXPECT_THAT(misuse([&](CommandList& l) {
                l.dispatch(*pipeline_, *set_, std::span(push).first(1), {0, 0, 0}, {1, 1, 1});
              }),
              HasSubstr("push bytes"));
  const std::uint32_t most = device_->report().limits.max_group_count[1];
  EXPECT_THAT(misuse([&](CommandList& l) {
                l.dispatch(*pipeline_, *set_, push, {0, most, 0}, {1, 1, 1});
              }),
              HasSubstr("max_group_count"));
  EXPECT_THAT(misuse([&](CommandList& l) {
                l.dispatch(*pipeline_, *set_, push, {0, 0, 0}, {1, 0, 1});
              }),
              HasSubstr("0 workgroups"));
  EXPECT_THAT(misuse([&](CommandList& l) { l.fill(*out_, 2, 4, 0); }), HasSubstr("multiples of 4"));
  EXPECT_THAT(misuse([&](CommandList& l) { l.copy(*in_, 0, *out_, 4, kCount * 4); }), HasSubstr("outside"));
  EXPECT_THAT(misuse([&](CommandList& l) { l.timestamp(0); }), HasSubstr("timestamp"));
}

TEST_F(Commands, BindingsAreChecked) {
  const auto refusal = [&](BindingRange second) {
    const BindingRange both[] = {{in_.get(), 0, 4}, second};
    const auto result = device_->create_binding_set(*pipeline_, both);
    return result ? std::string() : result.error().message;
  };
  const std::uint32_t alignment = device_->report().limits.min_storage_alignment;
  EXPECT_EQ(refusal({out_.get(), alignment, 4}), "");
  EXPECT_THAT(refusal({out_.get(), alignment / 2, 4}), HasSubstr("min_storage_alignment"));
  EXPECT_THAT(refusal({out_.get(), 0, kCount * 4 + 1}), HasSubstr("leaves its buffer"));
  EXPECT_THAT(refusal({out_.get(), 0, 0}), HasSubstr("empty"));
  EXPECT_THAT(refusal({nullptr, 0, 4}), HasSubstr("no buffer"));
  EXPECT_FALSE(device_->create_binding_set(*pipeline_, std::span<const BindingRange>()));
}

TEST_F(Commands, ManyBindingSets) {
  std::vector<std::unique_ptr<BindingSet>> sets;
  for (int i = 0; i < 600; ++i) sets.push_back(take(device_->create_binding_set(*pipeline_, ranges())));
  sets.erase(sets.begin(), sets.begin() + 300);
  for (int i = 0; i < 300; ++i) sets.push_back(take(device_->create_binding_set(*pipeline_, ranges())));
}

}  // namespace
}  // namespace tessera::test
