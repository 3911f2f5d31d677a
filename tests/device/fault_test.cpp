// Devices that are old, poor or lost.
#include <gmock/gmock.h>

#include "probe.h"
#include "support/vulkan_table.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

VKAPI_ATTR void VKAPI_CALL old_properties(VkPhysicalDevice d, VkPhysicalDeviceProperties* out) {
  VulkanTable::real<PFN_vkGetPhysicalDeviceProperties>("vkGetPhysicalDeviceProperties")(d, out);
  out->apiVersion = VK_MAKE_API_VERSION(0, 1, 1, 99);
}
VKAPI_ATTR void VKAPI_CALL features_without_timeline(VkPhysicalDevice d, VkPhysicalDeviceFeatures2* out) {
  VulkanTable::real<PFN_vkGetPhysicalDeviceFeatures2>("vkGetPhysicalDeviceFeatures2")(d, out);
  for (auto* s = static_cast<VkBaseOutStructure*>(out->pNext); s; s = s->pNext)
    if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES)
      reinterpret_cast<VkPhysicalDeviceVulkan12Features*>(s)->timelineSemaphore = VK_FALSE;
}

class Faults : public ProbeTest {
 protected:
  void SetUp() override {
    VulkanTable::reset();
    ProbeTest::SetUp();
    if (!device_) return;
    // The fixture's own device steps aside for one behind the hooks.
    in_.reset();
    out_.reset();
    device_.reset();
    ASSERT_TRUE(VulkanTable::loader());
    instance_ = make_instance();
    ASSERT_TRUE(instance_);
    device_ = make_device({});
    ASSERT_TRUE(device_);
  }
  void TearDown() override {
    ProbeTest::TearDown();
    EXPECT_EQ(VulkanTable::live(), "");
  }
  std::shared_ptr<Instance> make_instance() {
    Instance::Desc desc;
    desc.get_instance_proc_addr = VulkanTable::entry();
    desc.debug_messages = true;
    desc.log = log_.sink();
    return take(Instance::create(desc));
  }
  // With `function` in place of the one of that name.
  template <typename F>
  std::string why_refused(const std::string& name, F function) {
    VulkanTable::replace(name, reinterpret_cast<PFN_vkVoidFunction>(function));
    const auto instance = make_instance();
    const auto reports = take(instance->enumerate());
    EXPECT_GT(reports.size(), index_);
    const auto device = Device::create(instance, on_index());
    EXPECT_FALSE(device);
    EXPECT_EQ(device.error().code, Code::no_device);
    EXPECT_THAT(device.error().message, HasSubstr(reports[index_].refused));
    EXPECT_THAT(device.error().message, HasSubstr(reports[index_].name));
    EXPECT_FALSE(pick_device(reports, ""));
    VulkanTable::reset();
    return reports[index_].refused;
  }
  Device::Desc on_index() const {
    Device::Desc desc;
    desc.index = index_;
    return desc;
  }
  void expect_lost(const Error& error) { EXPECT_EQ(error.code, Code::device_lost) << error.message; }
  void expect_everything_lost() {
    expect_lost(device_->create_buffer(4, Memory::device, "x").error());
    expect_lost(device_->create_pipeline(probe_desc(1)).error());
    expect_lost(device_->create_command_list(0).error());
    expect_lost(device_->submit({}).error());
    expect_lost(device_->wait(1, 0).error());
    std::vector<std::byte> bytes(4);
    expect_lost(device_->upload(*in_, 0, bytes).error());
    expect_lost(device_->download(*in_, 0, bytes).error());
    expect_lost(device_->pipeline_cache().error());
  }
};

TEST_F(Faults, DevicesBelowTheFloorAreListedWithTheReason) {
  EXPECT_EQ(why_refused("vkGetPhysicalDeviceProperties", old_properties), "Vulkan 1.1; 1.2 is needed");
  EXPECT_EQ(why_refused("vkGetPhysicalDeviceFeatures2", features_without_timeline),
            "no feature timelineSemaphore of VkPhysicalDeviceVulkan12Features");
}

TEST_F(Faults, AMissingFunctionIsNamed) {
  VulkanTable::replace("vkCmdFillBuffer", nullptr);
  const auto device = Device::create(instance_, on_index());
  VulkanTable::reset();
  ASSERT_FALSE(device);
  EXPECT_THAT(device.error().message, HasSubstr("lacks vkCmdFillBuffer"));
  EXPECT_FALSE(Device::create(nullptr, {}));
}

TEST_F(Faults, LossAtSubmission) {
  open(*device_);
  const auto list = take(device_->create_command_list(0));
  expect_ok(list->finish());
  VulkanTable::fail("vkQueueSubmit", VK_ERROR_DEVICE_LOST);
  const CommandList* lists[] = {list.get()};
  expect_lost(device_->submit(lists).error());
  VulkanTable::reset();
  expect_everything_lost();
}

TEST_F(Faults, LossWhileWaiting) {
  open(*device_);
  const auto pipeline = take(device_->create_pipeline(probe_desc(2)));
  const auto set = take(device_->create_binding_set(*pipeline, ranges()));
  const auto list = take(device_->create_command_list(0));
  const std::uint32_t push[] = {1, kCount};
  list->barrier();
  list->dispatch(*pipeline, *set, push, {0, 0, 0}, {kGroups, 1, 1});
  expect_ok(list->finish());
  const CommandList* lists[] = {list.get()};
  const std::uint64_t value = take(device_->submit(lists));
  VulkanTable::fail("vkWaitSemaphores", VK_ERROR_DEVICE_LOST);
  expect_lost(device_->wait(value, 10'000'000'000).error());
  VulkanTable::reset();
  expect_everything_lost();
}

TEST_F(Faults, AnotherDeviceWorksAfterALoss) {
  VulkanTable::fail("vkQueueSubmit", VK_ERROR_DEVICE_LOST);
  expect_lost(device_->submit({}).error());
  VulkanTable::reset();
  device_ = make_device({});
  ASSERT_TRUE(device_);
  open(*device_);
  EXPECT_EQ(run(*device_, probe_desc(2), 1)[999], 1999u);
}

TEST_F(Faults, ExhaustedMemoryIsAnError) {
  VulkanTable::fail("vkAllocateMemory", VK_ERROR_OUT_OF_DEVICE_MEMORY);
  const auto buffer = device_->create_buffer(1 << 20, Memory::device, "weights");
  VulkanTable::reset();
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, Code::out_of_memory);
  EXPECT_THAT(buffer.error().message, HasSubstr("buffer 'weights' of 1.00 MiB: memory heap"));
  EXPECT_EQ(device_->memory_use().bytes, 0u);
}

}  // namespace
}  // namespace tessera::test
