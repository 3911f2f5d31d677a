#include <gmock/gmock.h>

#include <thread>

#include "probe.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Needs no memory and no queue: passes on drivers that only compile, too.
using Pipelines = GpuTest;
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
