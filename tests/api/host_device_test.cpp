// Contexts on a device that the test made itself.
#include "api_fixture.h"
#include "support/vulkan_host.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

// Named .../Gpu, as tests of a device are; the parameter means nothing.
class HostDevice : public ApiTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    if (env("TESSERA_TEST_DEVICE") == "none") GTEST_SKIP() << "TESSERA_TEST_DEVICE=none";
    ASSERT_TRUE(VulkanTable::loader());
    VulkanTable::reset();
    features_.pNext = &v12_;
    v12_.timelineSemaphore = VK_TRUE;
  }
  void TearDown() override {
    host_.close();
    EXPECT_EQ(VulkanTable::live(), "");
    VulkanTable::reset();
    ApiTest::TearDown();
  }
  // The host's device as the library gets it.
  tessera_context_desc desc() {
    if (!host_.device) EXPECT_TRUE(host_.open(device_index(), &features_));
    host_desc_ = init<tessera_host_device>();
    host_desc_.instance = host_.instance;
    host_desc_.physical_device = host_.physical;
    host_desc_.device = host_.device;
    host_desc_.api_version = host_.api_version;
    host_desc_.features = &features_;
    host_desc_.queue = host_.queue;
    host_desc_.queue_family = host_.queue_family;
    tessera_context_desc out = gpu();
    out.device = nullptr;
    out.get_instance_proc_addr = VulkanTable::entry();
    out.host = &host_desc_;
    return out;
  }
  // Tokens that a greedy session of the test model says.
  Ids speak(const Context& context) {
    const Model model = take(context.load(kQwen2));
    tessera_session_desc session_desc = init<tessera_session_desc>();
    session_desc.context = 64;
    Session session = take(model.session(session_desc));
    EXPECT_TRUE(session.append(take(model.tokenize(kPrompt))));
    Ids ids;
    for (int i = 0; i < 4; ++i) ids.push_back(take(session.next()));
    return ids;
  }
  std::uint32_t device_index() {
    std::uint32_t index = 0;
    auto sink = init<tessera_device_sink>();
    sink.user = &index;
    sink.device = [](void* user, const tessera_device_info* info) {
      if (info->chosen != 0) *static_cast<std::uint32_t*>(user) = info->index;
    };
    const tessera_context_desc own = gpu();
    tessera_error error;
    EXPECT_EQ(tessera_devices(&own, &sink, &error), TESSERA_OK) << error.message;
    return index;
  }

  VulkanHost host_;
  tessera_host_device host_desc_{};
  VkPhysicalDeviceVulkan12Features v12_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
  VkPhysicalDeviceFeatures2 features_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
};

TEST_P(HostDevice, SpeaksAsAnOwnDeviceAndKeepsNothing) {
  const Ids expected = speak(take(Context::create(gpu())));
  const tessera_context_desc on_host = desc();
  const std::string before = VulkanTable::live();
  EXPECT_EQ(before, "1 Device, 1 Instance");
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(speak(take(Context::create(on_host))), expected);
    EXPECT_EQ(VulkanTable::live(), before);
  }
  EXPECT_GT(VulkanTable::calls("vkQueueSubmit"), 0u);
  EXPECT_EQ(VulkanTable::calls("vkDeviceWaitIdle"), 0u);
  EXPECT_EQ(VulkanTable::calls("vkQueueWaitIdle"), 0u);
}

TEST_P(HostDevice, WhatIsMissingIsNamed) {
  v12_.timelineSemaphore = VK_FALSE;
  expect_failure(Context::create(desc()), TESSERA_NO_DEVICE,
                 "the host did not enable the feature timelineSemaphore of VkPhysicalDeviceVulkan12Features");
  v12_.timelineSemaphore = VK_TRUE;
  auto bad = desc();
  host_desc_.queue_family = 99;
  expect_failure(Context::create(bad), TESSERA_NO_DEVICE, "queue family 99 has no compute");
  bad = desc();
  host_desc_.api_version = VK_API_VERSION_1_1;
  expect_failure(Context::create(bad), TESSERA_NO_DEVICE, "the host's instance: Vulkan 1.1; 1.2 is needed");
  bad = desc();
  host_desc_.device = nullptr;
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "tessera_host_device.device is NULL");
  bad = desc();
  bad.device = "0";
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "a host's device is given");
  bad.device = "reference";
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "the reference needs no device");
}

INSTANTIATE_TEST_SUITE_P(Api, HostDevice, testing::Values(true),
                         [](const auto&) { return std::string("Gpu"); });

}  // namespace
}  // namespace tessera::test
