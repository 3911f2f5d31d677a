// Work beside a host's on the host's own device: its buffers, its command buffers, and the transfer lane.
#include <gmock/gmock.h>

#include "probe.h"
#include "support/vulkan_host.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kValues = 1000;
constexpr std::uint64_t kBytes = kValues * 4;
constexpr std::array<std::uint32_t, 3> kAll{(kValues + 63) / 64, 1, 1};

class OnHost : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!device_) return;
    VulkanTable::reset();
    VkPhysicalDeviceVulkan12Features v12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    v12.timelineSemaphore = VK_TRUE;
    ASSERT_TRUE(host_.open_instance(index_));
    ASSERT_TRUE(host_.open_device(&v12, {}, 0));
    Instance::Desc instance;
    instance.get_instance_proc_addr = VulkanTable::entry();
    instance.instance = host_.instance;
    instance.api_version = host_.api_version;
    adopted_instance_ = take(Instance::create(instance));
    Device::Desc desc;
    desc.log = log_.sink();
    desc.host.emplace();
    desc.host->physical_device = host_.physical;
    desc.host->device = host_.device;
    desc.host->features = &v12;
    desc.host->compute = {host_.queue, 0};
    adopted_ = take(Device::create(adopted_instance_, desc));
    ASSERT_TRUE(adopted_);
  }
  void TearDown() override {
    adopted_.reset();
    adopted_instance_.reset();
    host_.close();
    EXPECT_EQ(VulkanTable::live(), "");
    GpuTest::TearDown();
  }

  VulkanHost host_;
  std::shared_ptr<Instance> adopted_instance_;
  std::unique_ptr<Device> adopted_;
};

TEST_F(OnHost, RecordsBetweenTheHostsCommands) {
  const HostBuffer in = host_.make_buffer(kBytes), out = host_.make_buffer(kBytes);
  const HostBuffer last = host_.make_buffer(kBytes);
  const auto from = take(adopted_->adopt_buffer(from_handle(in.buffer), kBytes));
  const auto to = take(adopted_->adopt_buffer(from_handle(out.buffer), kBytes));
  const auto pipeline = take(adopted_->create_pipeline(probe_desc(3)));
  const BindingRange ranges[] = {{from.get(), 0, kBytes}, {to.get(), 0, kBytes}};
  const auto set = take(adopted_->create_binding_set(*pipeline, ranges));
  ASSERT_TRUE(from && to && pipeline && set);

  const HostAccess copies{VK_PIPELINE_STAGE_TRANSFER_BIT,
                          VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT};
  const VkCommandBuffer commands = host_.begin();
  TSR_HOST_CALL(host_, CmdFillBuffer)(commands, in.buffer, 0, kBytes, 7);
  VulkanTable::reset();
  expect_ok(adopted_->record_into(commands, [&](HostRecorder& recorder) {
    const std::uint32_t push[] = {5, kValues};
    recorder.barrier_from(copies);
    recorder.dispatch(*pipeline, *set, push, {0, 0, 0}, kAll);
    recorder.barrier_to(copies);
  }));
  for (const char* call : {"vkBeginCommandBuffer", "vkEndCommandBuffer", "vkAllocateMemory", "vkQueueSubmit",
                           "vkAllocateDescriptorSets", "vkUpdateDescriptorSets", "vkCreateDescriptorPool"})
    EXPECT_EQ(VulkanTable::calls(call), 0u) << call;
  EXPECT_EQ(VulkanTable::calls("vkCmdDispatch"), 1u);
  const VkBufferCopy all{0, 0, kBytes};
  TSR_HOST_CALL(host_, CmdCopyBuffer)(commands, out.buffer, last.buffer, 1, &all);
  VkMemoryBarrier visible{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  visible.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT;
  visible.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
  TSR_HOST_CALL(host_, CmdPipelineBarrier)
  (commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &visible, 0, nullptr, 0,
   nullptr);
  host_.run(commands);
  EXPECT_THAT(last.as<std::uint32_t>(), testing::Each(7u * 3 + 5));
}

TEST_F(OnHost, RefusesMisuse) {
  const HostBuffer buffer = host_.make_buffer(kBytes);
  EXPECT_EQ(adopted_->adopt_buffer(0, kBytes).error().code, Code::invalid_argument);
  EXPECT_EQ(adopted_->adopt_buffer(from_handle(buffer.buffer), 0).error().code, Code::invalid_argument);
  const auto adopted = take(adopted_->adopt_buffer(from_handle(buffer.buffer), kBytes));
  EXPECT_TRUE(adopted->mapped().empty());
  EXPECT_EQ(adopted_->memory_use().bytes, 0u);
  const VkCommandBuffer commands = host_.begin();
  const auto result = adopted_->record_into(
      commands, [&](HostRecorder& recorder) { recorder.fill(*adopted, 0, kBytes + 4, 0); });
  EXPECT_EQ(result.error().code, Code::internal);
  EXPECT_THAT(result.error().message, HasSubstr("fill: an empty range, or one outside its buffer"));
  host_.run(commands);
}

// On the device of the library's own; where it has no transfer queue, both lanes are one queue.
class Lanes : public ProbeTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!device_) return;
    Device::Desc desc;
    desc.index = index_;
    desc.transfer_queue = true;
    desc.low_priority = true;
    desc.log = log_.sink();
    device_ = take(Device::create(instance_, desc));
    ASSERT_TRUE(device_);
    open(*device_, Memory::device, BufferLanes::both);
  }
};

TEST_F(Lanes, WaitForEachOther) {
  const auto stage = take(device_->create_buffer(kCount * 4, Memory::upload, "stage"));
  const auto pipeline = take(device_->create_pipeline(probe_desc(2)));
  const auto set = take(device_->create_binding_set(*pipeline, ranges()));
  const auto copy = take(device_->create_command_list(0, Lane::transfer));
  const auto compute = take(device_->create_command_list(0));
  ASSERT_TRUE(stage && pipeline && set && copy && compute);
  copy->barrier();
  copy->copy(*stage, 0, *in_, 0, kCount * 4);
  copy->barrier();
  expect_ok(copy->finish());
  const std::uint32_t push[] = {1, kCount};
  compute->barrier();
  compute->dispatch(*pipeline, *set, push, {0, 0, 0}, {kGroups, 1, 1});
  compute->barrier();
  expect_ok(compute->finish());
  const CommandList *copies[] = {copy.get()}, *dispatches[] = {compute.get()};
  std::uint64_t computed = 0;
  for (std::uint32_t round = 0; round < 10; ++round) {
    auto* const words = reinterpret_cast<std::uint32_t*>(stage->mapped().data());
    std::fill(words, words + kCount, round);
    // The copy may not overtake the dispatch that reads what it overwrites.
    const std::uint64_t copied = take(device_->submit(copies, Lane::transfer, computed));
    computed = take(device_->submit(dispatches, Lane::compute, copied));
    EXPECT_TRUE(take(device_->wait(computed, 10'000'000'000)));
    EXPECT_EQ(results(*device_), std::vector<std::uint32_t>(kCount, round * 2 + 1));
  }
  EXPECT_EQ(device_->submit(dispatches, Lane::compute, 1u << 20).error().code, Code::invalid_argument);
  if (device_->has_transfer_queue()) {
    EXPECT_THAT(device_->submit(dispatches, Lane::transfer).error().message, HasSubstr("another lane"));
    EXPECT_NE(take(device_->timeline(Lane::transfer)), take(device_->timeline(Lane::compute)));
  } else {
    EXPECT_EQ(take(device_->timeline(Lane::transfer)), take(device_->timeline(Lane::compute)));
  }
}

}  // namespace
}  // namespace tessera::test
