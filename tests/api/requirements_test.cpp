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

// The real list, and VK_KHR_portability_enumeration.
VKAPI_ATTR VkResult VKAPI_CALL with_portability(const char* layer, std::uint32_t* count,
                                                VkExtensionProperties* out) {
  const auto real =
      VulkanTable::real<PFN_vkEnumerateInstanceExtensionProperties>("vkEnumerateInstanceExtensionProperties");
  std::uint32_t all = 0;
  VkResult r = real(layer, &all, nullptr);
  if (out) {
    r = real(layer, &all, out);
    std::strcpy(out[all].extensionName, "VK_KHR_portability_enumeration");
  }
  *count = all + 1;
  return r;
}
VKAPI_ATTR VkResult VKAPI_CALL without_extensions(const char*, std::uint32_t* count, VkExtensionProperties*) {
  *count = 0;
  return VK_SUCCESS;
}

class HostRequirements : public HostTest {
 protected:
  static std::vector<VkStructureType> types(const void* chain) {
    std::vector<VkStructureType> out;
    for (auto* s = static_cast<const VkBaseInStructure*>(chain); s; s = s->pNext) out.push_back(s->sType);
    return out;
  }
  bool has_extension(const std::string& name) {
    std::uint32_t count = 0;
    TSR_HOST_CALL(host_, EnumerateDeviceExtensionProperties)(host_.physical, nullptr, &count, nullptr);
    std::vector<VkExtensionProperties> all(count);
    TSR_HOST_CALL(host_, EnumerateDeviceExtensionProperties)(host_.physical, nullptr, &count, all.data());
    return std::ranges::any_of(all, [&](const auto& e) { return e.extensionName == name; });
  }
  // Features with a place in the structs of Vulkan 1.1, 1.2 and 1.3.
  static std::ptrdiff_t of_versions(const Requirements& r) {
    return std::ranges::count_if(r.list(), [](const tessera_requirement& one) {
      return std::string_view(one.structure).starts_with("VkPhysicalDeviceVulkan1");
    });
  }
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
  VkPhysicalDeviceFeatures2 mine{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
  expect_failure(requirements.enable(&mine), TESSERA_INVALID_ARGUMENT, "of no device");
}

TEST_P(HostRequirements, TellTheFlagOfPortability) {
  auto desc = init<tessera_requirements_desc>();
  desc.get_instance_proc_addr = VulkanTable::entry();
  const auto told = [&](auto function) {
    VulkanTable::replace("vkEnumerateInstanceExtensionProperties",
                         reinterpret_cast<PFN_vkVoidFunction>(function));
    const Requirements requirements = take(Requirements::create(desc));
    const tessera_requirements_info info = requirements.info();
    return std::pair(info.instance_extension_count, info.instance_create_flags);
  };
  EXPECT_EQ(told(with_portability), std::pair(1u, 1u));  // VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR
  EXPECT_EQ(told(without_extensions), std::pair(0u, 0u));
}

// On Vulkan 1.3 the host's other structs are of extensions, or of 1.3 as a whole.
TEST_P(HostRequirements, ChainNoFeatureTwice) {
  const std::vector<VkStructureType> alone = {
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES};
  for (const std::uint32_t version : {VK_API_VERSION_1_2, VK_API_VERSION_1_3}) {
    open(version);
    VkPhysicalDeviceProperties device{};
    TSR_HOST_CALL(host_, GetPhysicalDeviceProperties)(host_.physical, &device);
    const bool v13 = std::min(version, device.apiVersion) >= VK_API_VERSION_1_3;
    const std::vector<VkStructureType> all = types(requirements_.info().features);
    for (const VkStructureType type : all) EXPECT_EQ(std::ranges::count(all, type), 1) << type;
    EXPECT_EQ(std::ranges::count(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES), v13 ? 1 : 0);
    for (const VkStructureType type : alone)
      if (v13) {
        EXPECT_EQ(std::ranges::count(all, type), 0) << type;
      }
    for (const tessera_requirement& r : requirements_.list())
      if (!v13) {
        EXPECT_STRNE(r.structure, "VkPhysicalDeviceVulkan13Features") << r.name;
      }
  }
}

TEST_P(HostRequirements, LetAHostEnableMore) {
  ASSERT_TRUE(host_.open_instance(index_));
  requirements_ = take(Requirements::create(requirements_desc()));
  const tessera_requirements_info info = requirements_.info();
  std::vector<const char*> extensions(info.device_extensions,
                                      info.device_extensions + info.device_extension_count);
  VkBaseOutStructure* last = nullptr;
  VkPhysicalDeviceVulkan13Features supported{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
  VkPhysicalDeviceFeatures2 all{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &supported};
  for (auto* s = reinterpret_cast<VkBaseOutStructure*>(info.features); s; s = s->pNext) {
    last = s;
    if (s->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES) continue;
    TSR_HOST_CALL(host_, GetPhysicalDeviceFeatures2)(host_.physical, &all);
    reinterpret_cast<VkPhysicalDeviceVulkan13Features*>(s)->dynamicRendering = supported.dynamicRendering;
  }
  VkPhysicalDeviceIndexTypeUint8FeaturesEXT more{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_INDEX_TYPE_UINT8_FEATURES_EXT};
  if (has_extension(VK_EXT_INDEX_TYPE_UINT8_EXTENSION_NAME)) {
    more.indexTypeUint8 = VK_TRUE;
    last->pNext = reinterpret_cast<VkBaseOutStructure*>(&more);
    extensions.push_back(VK_EXT_INDEX_TYPE_UINT8_EXTENSION_NAME);
  }
  ASSERT_TRUE(host_.open_device(info.features, extensions, info.queue_family));
  const tessera_context_desc desc = on_host();
  host_desc_.extensions = extensions.data();
  host_desc_.extension_count = static_cast<std::uint32_t>(extensions.size());
  EXPECT_EQ(speak(take(Context::create(desc))), expected());
}

TEST_P(HostRequirements, AreSetBesideWhatAHostWants) {
  ASSERT_TRUE(host_.open_instance(index_));
  VkPhysicalDeviceProperties device{};
  TSR_HOST_CALL(host_, GetPhysicalDeviceProperties)(host_.physical, &device);
  if (device.apiVersion < VK_API_VERSION_1_3) return;  // such a host wants Vulkan 1.3
  requirements_ = take(Requirements::create(requirements_desc()));
  VkPhysicalDeviceVulkan13Features v13{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
  v13.dynamicRendering = VK_TRUE;
  VkPhysicalDeviceVulkan12Features v12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, &v13};
  VkPhysicalDeviceVulkan11Features v11{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, &v12};
  VkPhysicalDeviceFeatures2 mine{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &v11};
  const auto asked =
      std::ranges::count(requirements_.list(), TESSERA_DEVICE_FEATURE, &tessera_requirement::kind);
  EXPECT_EQ(take(requirements_.enable(&mine)), asked - of_versions(requirements_));
  EXPECT_EQ(v12.timelineSemaphore, VK_TRUE);
  EXPECT_EQ(v13.dynamicRendering, VK_TRUE);
  const tessera_requirements_info info = requirements_.info();
  ASSERT_TRUE(
      host_.open_device(&mine, {info.device_extensions, info.device_extension_count}, info.queue_family));
  const tessera_context_desc desc = on_host();
  host_desc_.features = &mine;
  EXPECT_EQ(speak(take(Context::create(desc))), expected());
}

TEST_P(HostRequirements, AreSetInTheHostsOwnStructs) {
  ASSERT_TRUE(host_.open_instance(index_));
  requirements_ = take(Requirements::create(requirements_desc()));
  VkPhysicalDeviceTimelineSemaphoreFeatures timeline{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES};
  VkPhysicalDeviceFeatures2 mine{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &timeline};
  const auto asked = static_cast<std::uint32_t>(
      std::ranges::count(requirements_.list(), TESSERA_DEVICE_FEATURE, &tessera_requirement::kind));
  EXPECT_EQ(take(requirements_.enable(&mine)), asked - 1);
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
  VkPhysicalDeviceFeatures2 mine{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
  expect_failure(requirements.enable(&mine), TESSERA_NO_DEVICE,
                 "cannot be used: no feature timelineSemaphore");
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
