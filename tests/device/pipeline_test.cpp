#include <gmock/gmock.h>

#include <thread>

#include "probe.h"
#include "support/vulkan_table.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Needs no memory and no queue: passes on drivers that only compile, too.
using Pipelines = GpuTest;

// The same, seen by the table.
class CountedPipelines : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!device_) return;
    device_.reset();
    VulkanTable::reset();
    Instance::Desc desc;
    desc.get_instance_proc_addr = VulkanTable::entry();
    desc.debug_messages = true;
    desc.log = log_.sink();
    instance_ = take(Instance::create(desc));
    ASSERT_TRUE(instance_);
    device_ = make_device({});
    ASSERT_TRUE(device_);
  }
  void TearDown() override {
    GpuTest::TearDown();
    EXPECT_EQ(VulkanTable::live(), "");
    VulkanTable::reset();
  }
  std::shared_ptr<Pipeline> make(std::int64_t number) {
    return take(device_->create_pipeline(probe_desc(static_cast<std::uint32_t>(number))));
  }
  static std::int64_t live() { return VulkanTable::live("Pipeline"); }
};
using PipelinesRun = ProbeTest;

TEST_F(Pipelines, TheSameDescIsMadeOnce) {
  const auto first = take(device_->create_pipeline(probe_desc(2)));
  const std::vector<std::uint32_t> copy(std::begin(kProbeSpirv), std::end(kProbeSpirv));
  PipelineDesc same = probe_desc(2);
  same.module = bytes_of(copy);
  same.name = "another name";
  EXPECT_EQ(first, take(device_->create_pipeline(same)));
  EXPECT_EQ(device_->pipelines_made(), 1u);
  EXPECT_NE(first, take(device_->create_pipeline(probe_desc(3))));
  EXPECT_EQ(device_->pipelines_made(), 2u);
}

TEST_F(Pipelines, ThreadsShareTheWork) {
  constexpr std::uint32_t kDescs = 6;
  std::vector<std::vector<std::shared_ptr<Pipeline>>> made(4);
  std::vector<std::thread> threads;
  for (auto& mine : made)
    threads.emplace_back([&] {
      for (std::uint32_t i = 0; i < kDescs; ++i) {
        auto result = device_->create_pipeline(probe_desc(i + 10));
        mine.push_back(result ? *result : nullptr);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(device_->pipelines_made(), kDescs);
  for (const auto& mine : made) EXPECT_EQ(mine, made[0]);
  for (const auto& pipeline : made[0]) EXPECT_TRUE(pipeline);
}

TEST_F(CountedPipelines, GoWithTheirUsersButForTheLatest) {
  constexpr std::int64_t kMost = Device::kPipelinesKept, kMore = 3;
  std::vector<std::shared_ptr<Pipeline>> used;
  for (std::int64_t i = 0; i < kMost + kMore; ++i) used.push_back(make(i));
  EXPECT_EQ(live(), kMost + kMore);
  EXPECT_EQ(make(0), used[0]);  // in use, however long ago it was asked for; now it is the latest
  const Pipeline* const last = used.back().get();
  used.clear();
  EXPECT_EQ(live(), kMost);
  const std::uint32_t made = device_->pipelines_made();
  EXPECT_EQ(make(kMost + kMore - 1).get(), last);
  make(0);
  EXPECT_EQ(device_->pipelines_made(), made);
  make(1);  // long gone
  EXPECT_EQ(device_->pipelines_made(), made + 1);
  for (std::int64_t i = 0; i < 2 * kMost; ++i) make(kMost + i);
  EXPECT_EQ(live(), kMost);
}

TEST_F(CountedPipelines, WhatCouldNotBeMadeIsTriedAgain) {
  VulkanTable::fail("vkCreateComputePipelines", VK_ERROR_OUT_OF_DEVICE_MEMORY);
  std::vector<std::thread> threads;
  std::atomic<int> refused = 0;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      const auto result = device_->create_pipeline(probe_desc(5));
      refused += !result && result.error().code == Code::out_of_memory;
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(refused, 4);
  VulkanTable::reset();
  EXPECT_TRUE(make(5));
  EXPECT_EQ(device_->pipelines_made(), 1u);
}

TEST_F(Pipelines, RefusalsAreNamed) {
  const auto refusal = [&](const PipelineDesc& desc) {
    const auto result = device_->create_pipeline(desc);
    return result ? std::string() : result.error().message;
  };
  PipelineDesc desc = probe_desc(1);
  desc.module = bytes_of(std::span(kProbeSpirv).subspan(1));
  EXPECT_THAT(refusal(desc), HasSubstr("'probe': its module is no SPIR-V"));
  desc = probe_desc(1);
  desc.push_bytes = 1 << 20;
  EXPECT_THAT(refusal(desc), HasSubstr("push constants"));
  desc = probe_desc(1);
  desc.binding_count = device_->report().limits.max_bindings + 1;
  EXPECT_THAT(refusal(desc), HasSubstr("storage buffers"));
  desc = probe_desc(1);
  desc.required_subgroup_size = 3;
  EXPECT_THAT(refusal(desc), HasSubstr("subgroup size"));
  EXPECT_EQ(device_->pipelines_made(), 0u);
}

TEST_F(PipelinesRun, EverySubgroupSizeOfTheDevice) {
  const DeviceReport& report = device_->report();
  if (!report.caps.subgroup_size_control) return;
  for (std::uint32_t size = report.limits.min_subgroup_size; size <= report.limits.max_subgroup_size;
       size *= 2) {
    PipelineDesc desc = probe_desc(4);
    desc.required_subgroup_size = size;
    const auto out = run(*device_, desc, 1);
    ASSERT_EQ(out.size(), kCount);
    EXPECT_EQ(out[999], 3997u);
  }
}

TEST_F(Pipelines, CacheSurvivesARestart) {
  take(device_->create_pipeline(probe_desc(2)));
  const auto blob = take(device_->pipeline_cache());
  ASSERT_GT(blob.size(), 64u);
  device_.reset();
  const auto again = make_device({}, blob);
  ASSERT_TRUE(again);
  take(again->create_pipeline(probe_desc(2)));
  EXPECT_TRUE(log_.take().empty());
}

TEST_F(Pipelines, DamagedCacheIsIgnoredWithAWarning) {
  take(device_->create_pipeline(probe_desc(2)));
  auto blob = take(device_->pipeline_cache());
  blob[70] ^= std::byte{1};
  device_.reset();
  const auto again = make_device({}, blob);
  ASSERT_TRUE(again);
  EXPECT_THAT(log_.take(), ElementsAre(HasSubstr("pipeline cache is ignored: its checksum is wrong")));
  take(again->create_pipeline(probe_desc(2)));
}

TEST_F(Pipelines, OverridesShowInTheReport) {
  device_.reset();
  const auto low = make_device({{"max_push_bytes", 128}, {"storage16", 0}, {"max_group_count_x", 7}});
  ASSERT_TRUE(low);
  EXPECT_EQ(low->report().limits.max_push_bytes, 128u);
  EXPECT_EQ(low->report().limits.max_group_count[0], 7u);
  EXPECT_FALSE(low->report().caps.storage16);
  Device::Desc desc;
  desc.index = index_;
  desc.overrides = {{"max_push_bytes", 1u << 30}};
  const auto high = Device::create(instance_, desc);
  ASSERT_FALSE(high);
  EXPECT_EQ(high.error().code, Code::invalid_argument);
  desc.overrides.clear();
  desc.index = 1000;
  const auto missing = Device::create(instance_, desc);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::no_device);
}

}  // namespace
}  // namespace tessera::test
