#include <algorithm>

#include "host_fixture.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

VKAPI_ATTR void VKAPI_CALL no_features(VkPhysicalDevice d, VkPhysicalDeviceFeatures2* out) {
  VulkanTable::real<PFN_vkGetPhysicalDeviceFeatures2>("vkGetPhysicalDeviceFeatures2")(d, out);
  for (auto* s = static_cast<VkBaseOutStructure*>(out->pNext); s; s = s->pNext)
    if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES)
      reinterpret_cast<VkPhysicalDeviceVulkan12Features*>(s)->timelineSemaphore = VK_FALSE;
}

class HostRequirements : public HostTest {
 protected:
  static bool asks_for(const Requirements& r, const std::string& name) {
    for (const tessera_requirement& one : r.list())
      if (one.name == name) return true;
    return false;
  }
};

TEST_P(HostRequirements, NameWhatTheirArraysHold) {
  ASSERT_TRUE(host_.open_instance(index_));
  const Requirements requirements = take(Requirements::create(requirements_desc()));
  const tessera_requirements_info info = requirements.info();
  std::vector<std::string> instance, device;
  bool timeline = false;
  for (const tessera_requirement& r : requirements.list()) {
    EXPECT_STRNE(r.use, "") << r.name;
    EXPECT_TRUE(r.available) << r.name;
    EXPECT_EQ(r.kind == TESSERA_DEVICE_FEATURE, *r.structure != '\0') << r.name;
    if (r.kind == TESSERA_INSTANCE_EXTENSION) instance.emplace_back(r.name);
    if (r.kind == TESSERA_DEVICE_EXTENSION) device.emplace_back(r.name);
    if (r.name == std::string("timelineSemaphore")) timeline = r.required != 0;
  }
  EXPECT_TRUE(timeline);
  EXPECT_EQ(instance, std::vector<std::string>(info.instance_extensions,
                                               info.instance_extensions + info.instance_extension_count));
  EXPECT_EQ(device, std::vector<std::string>(info.device_extensions,
                                             info.device_extensions + info.device_extension_count));
  ASSERT_NE(info.features, nullptr);
  EXPECT_EQ(info.features->sType, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2);
}

TEST_P(HostRequirements, WithoutAnInstanceTellOfItsExtensions) {
  auto desc = init<tessera_requirements_desc>();
  desc.get_instance_proc_addr = VulkanTable::entry();
  const Requirements requirements = take(Requirements::create(desc));
  EXPECT_EQ(requirements.info().features, nullptr);
  EXPECT_EQ(requirements.info().queue_family, TESSERA_NO_QUEUE_FAMILY);
  EXPECT_STREQ(requirements.info().refused, "");
  EXPECT_EQ(VulkanTable::calls("vkCreateInstance"), 0u);
}

TEST_P(HostRequirements, AreSetInTheHostsOwnStructs) {
  ASSERT_TRUE(host_.open_instance(index_));
  requirements_ = take(Requirements::create(requirements_desc()));
  VkPhysicalDeviceTimelineSemaphoreFeatures timeline{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES};
  VkPhysicalDeviceFeatures2 mine{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &timeline};
  const auto asked = static_cast<std::uint32_t>(
      std::ranges::count(requirements_.list(), TESSERA_DEVICE_FEATURE, &tessera_requirement::kind));
  EXPECT_EQ(requirements_.enable(&mine), asked - 1);
  EXPECT_EQ(timeline.timelineSemaphore, VK_TRUE);
  ASSERT_TRUE(host_.open_device(&mine, {}, requirements_.info().queue_family));
  const tessera_context_desc desc = on_host();
  host_desc_.extension_count = 0;
  host_desc_.features = &mine;
  EXPECT_TRUE(Context::create(desc));
}

TEST_P(HostRequirements, LeaveOutWhatIsLowered) {
  ASSERT_TRUE(host_.open_instance(index_));
  const char* const caps[] = {"fp16=0", "executable_properties=0"};
  auto desc = requirements_desc();
  desc.caps = caps;
  desc.cap_count = 2;
  const Requirements requirements = take(Requirements::create(desc));
  EXPECT_FALSE(asks_for(requirements, "shaderFloat16"));
  EXPECT_FALSE(asks_for(requirements, "VK_KHR_pipeline_executable_properties"));
  EXPECT_FALSE(asks_for(requirements, "pipelineExecutableInfo"));
  EXPECT_TRUE(asks_for(requirements, "timelineSemaphore"));
}

TEST_P(HostRequirements, SayWhyADeviceIsRefused) {
  VulkanTable::replace("vkGetPhysicalDeviceFeatures2", reinterpret_cast<PFN_vkVoidFunction>(no_features));
  ASSERT_TRUE(host_.open_instance(index_));
  const Requirements requirements = take(Requirements::create(requirements_desc()));
  EXPECT_THAT(requirements.info().refused, HasSubstr("no feature timelineSemaphore"));
  EXPECT_EQ(requirements.info().features, nullptr);
  for (const tessera_requirement& r : requirements.list())
    EXPECT_FALSE(r.available && r.name == std::string("timelineSemaphore"));

  auto desc = requirements_desc();
  desc.physical_device = nullptr;
  expect_failure(Requirements::create(desc), TESSERA_INVALID_ARGUMENT, "go together");
  const char* const bad[] = {"no_such=0"};
  desc = requirements_desc();
  desc.caps = bad;
  desc.cap_count = 1;
  expect_failure(Requirements::create(desc), TESSERA_INVALID_ARGUMENT, "no_such");
}

TSR_ON_HOST(HostRequirements);

}  // namespace
}  // namespace tessera::test
