#include <algorithm>

#include "host_fixture.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

class HostDevice : public HostTest {
 protected:
  // "name=value" of every limit and capability of the one device that `desc` is about.
  std::vector<std::string> values(const tessera_context_desc& desc) {
    struct State {
      bool chosen = false;
      std::vector<std::string> lines;
    } state;
    auto sink = init<tessera_device_sink>();
    sink.user = &state;
    sink.device = [](void* user, const tessera_device_info* info) {
      static_cast<State*>(user)->chosen = info->chosen != 0;
    };
    sink.value = [](void* user, const char* name, double value, int) {
      auto& s = *static_cast<State*>(user);
      if (s.chosen) s.lines.push_back(std::string(name) + "=" + std::to_string(value));
    };
    tessera_error error;
    EXPECT_EQ(tessera_devices(&desc, &sink, &error), TESSERA_OK) << error.message;
    return state.lines;
  }
};

TEST_P(HostDevice, TenContextsSpeakAsAnOwnDeviceAndKeepNothing) {
  open();
  const Ids as_own = expected();
  VulkanTable::reset();
  const std::string before = VulkanTable::live();
  EXPECT_EQ(before, "1 Device, 1 Instance");
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(speak(take(Context::create(on_host()))), as_own);
    EXPECT_EQ(VulkanTable::live(), before);
  }
  EXPECT_GT(VulkanTable::calls("vkQueueSubmit"), 0u);
  EXPECT_EQ(VulkanTable::calls("vkDeviceWaitIdle"), 0u);
  EXPECT_EQ(VulkanTable::calls("vkQueueWaitIdle"), 0u);
}

TEST_P(HostDevice, OwnDevicesGoWithTheirContexts) {
  for (int i = 0; i < 2; ++i) {
    speak(take(Context::create(own())));
    EXPECT_EQ(VulkanTable::live(), "");
  }
}

TEST_P(HostDevice, HasWhatWasEnabled) {
  open();
  tessera_context_desc host = on_host(), mine = gpu();
  host.caps = mine.caps = nullptr;
  host.cap_count = mine.cap_count = 0;
  std::vector<std::string> all = values(mine), lent = values(host);
  ASSERT_EQ(all.size(), lent.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    // Of no use to a context that gets its queue from a host, so not asked for.
    if (all[i].starts_with("push_descriptor=") || all[i].starts_with("global_priority=")) continue;
    // Of the queue family.
    if (all[i].starts_with("timestamp_ns=")) continue;
    EXPECT_EQ(lent[i], all[i]);
  }
  host_desc_.extension_count = 0;
  VkPhysicalDeviceTimelineSemaphoreFeatures timeline{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES};
  timeline.timelineSemaphore = VK_TRUE;
  host_desc_.features = &timeline;
  for (const char* off : {"fp16=", "storage16=", "int_dot=", "coopmat=", "executable_properties="})
    EXPECT_THAT(values(host), testing::Contains(off + std::to_string(0.0)));
}

// Vulkan 1.3 has features in one struct that are extensions of 1.2.
TEST_P(HostDevice, HasTheSameWithExtensionsOfVulkan12) {
  const auto of = [&](std::string_view cap) {
    auto desc = on_host();
    desc.cap_count = 0;
    for (const std::string& line : values(desc))
      if (line.starts_with(cap)) return line;
    return std::string("none");
  };
  open();
  const std::string size_control = of("subgroup_size_control="), int_dot = of("int_dot=");
  open(VK_API_VERSION_1_2);
  const tessera_requirements_info info = requirements_.info();
  const std::vector<std::string> names(info.device_extensions,
                                       info.device_extensions + info.device_extension_count);
  const auto has = [&](const char* name) { return std::ranges::count(names, name) != 0; };
  const std::string off = std::to_string(0.0);
  EXPECT_EQ(of("subgroup_size_control="),
            has(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME) ? size_control : "subgroup_size_control=" + off);
  EXPECT_EQ(of("int_dot="),
            has(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME) ? int_dot : "int_dot=" + off);
  EXPECT_EQ(speak(take(Context::create(on_host()))), expected());
}

TEST_P(HostDevice, HasTheKeysOfAnOwnDevice) {
  open();
  const Context lent = take(Context::create(on_host())), own_one = take(Context::create(own()));
  EXPECT_EQ(lent.rates_key(), own_one.rates_key());
  EXPECT_EQ(lent.cache_key(), own_one.cache_key());
}

TEST_P(HostDevice, WithLittleEnabledWorksToo) {
  VkPhysicalDeviceVulkan12Features v12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
  v12.timelineSemaphore = VK_TRUE;
  ASSERT_TRUE(host_.open_instance(index_, VK_API_VERSION_1_2));
  requirements_ = take(Requirements::create(requirements_desc()));
  ASSERT_TRUE(host_.open_device(&v12, {}, requirements_.info().queue_family));
  tessera_context_desc desc = on_host();
  host_desc_.extension_count = 0;
  host_desc_.features = &v12;
  EXPECT_EQ(speak(take(Context::create(desc))).size(), 4u);
}

TEST_P(HostDevice, WhatIsMissingIsNamed) {
  open();
  const VkPhysicalDeviceVulkan12Features nothing{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
  tessera_context_desc bad = on_host();
  host_desc_.features = &nothing;
  expect_failure(Context::create(bad), TESSERA_NO_DEVICE,
                 "the host did not enable the feature timelineSemaphore of VkPhysicalDeviceVulkan12Features");
  bad = on_host();
  host_desc_.queue_family = 99;
  expect_failure(Context::create(bad), TESSERA_NO_DEVICE, "queue family 99 has no compute");
  bad = on_host();
  host_desc_.api_version = VK_API_VERSION_1_1;
  expect_failure(Context::create(bad), TESSERA_NO_DEVICE, "the host's instance: Vulkan 1.1; 1.2 is needed");
  bad = on_host();
  host_desc_.device = nullptr;
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "tessera_host_device.device is NULL");
  bad = on_host();
  host_desc_.lock = [](void*, VkQueue_T*) {};
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "lock and unlock go together");
  bad = on_host();
  bad.device = "0";
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "a host's device is given");
  bad.device = "reference";
  expect_failure(Context::create(bad), TESSERA_INVALID_ARGUMENT, "the reference needs no device");
}

TEST_P(HostDevice, SubmitsThroughTheHost) {
  open();
  struct Queue {
    VulkanHost* host;
    int submits = 0, locks = 0, unlocks = 0;
  } queue{&host_};
  const Ids as_own = expected();
  tessera_context_desc desc = on_host();
  host_desc_.queue_user = &queue;
  host_desc_.submit = [](void* user, VkQueue_T* to, const VkSubmitInfo* info) -> int32_t {
    auto& q = *static_cast<Queue*>(user);
    ++q.submits;
    return TSR_HOST_CALL(*q.host, QueueSubmit)(to, 1, info, VK_NULL_HANDLE);
  };
  VulkanTable::reset();
  EXPECT_EQ(speak(take(Context::create(desc))), as_own);
  EXPECT_GT(queue.submits, 0);
  EXPECT_EQ(VulkanTable::calls("vkQueueSubmit"), static_cast<std::uint64_t>(queue.submits));

  host_desc_.submit = nullptr;
  host_desc_.lock = [](void* user, VkQueue_T*) { ++static_cast<Queue*>(user)->locks; };
  host_desc_.unlock = [](void* user, VkQueue_T*) { ++static_cast<Queue*>(user)->unlocks; };
  VulkanTable::reset();
  EXPECT_EQ(speak(take(Context::create(desc))), as_own);
  EXPECT_EQ(VulkanTable::calls("vkQueueSubmit"), static_cast<std::uint64_t>(queue.locks));
  EXPECT_EQ(queue.locks, queue.unlocks);
}

TEST_P(HostDevice, SignalsItsTimeline) {
  open();
  const Context context = take(Context::create(on_host()));
  const VkSemaphore timeline = take(context.timeline());
  ASSERT_NE(timeline, VK_NULL_HANDLE);
  EXPECT_EQ(take(context.timeline()), timeline);
  speak(context);
  std::uint64_t value = 0;
  EXPECT_EQ(TSR_HOST_CALL(host_, GetSemaphoreCounterValue)(host_.device, timeline, &value), VK_SUCCESS);
  EXPECT_EQ(value, VulkanTable::calls("vkQueueSubmit"));
  expect_failure(take(Context::create(reference())).timeline(), TESSERA_UNSUPPORTED, "no timeline");
}

TEST_P(HostDevice, ALostDeviceLosesItsContextAlone) {
  open();
  const std::string before = VulkanTable::live();
  const Ids as_own = expected();
  {
    const Context context = take(Context::create(on_host()));
    const Model model = take(context.load(kQwen2));
    Session session = session_of(model);
    EXPECT_TRUE(session.append(take(model.tokenize(kPrompt))));
    EXPECT_TRUE(session.next());
    VulkanTable::fail("vkQueueSubmit", VK_ERROR_DEVICE_LOST);
    expect_failure(session.next(), TESSERA_DEVICE_LOST, "VK_ERROR_DEVICE_LOST");
    VulkanTable::reset();
    expect_failure(session.next(), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(session.step(1000), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(session.step(1000), TESSERA_DEVICE_LOST, "lost earlier");  // and every time
    expect_failure(session.poll(), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(session.wait(1), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(session.begin({}), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(session.save(), TESSERA_DEVICE_LOST, "lost earlier");
    auto desc = init<tessera_session_desc>();
    desc.context = 64;
    expect_failure(model.session(desc), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(context.pipeline_cache(), TESSERA_DEVICE_LOST, "lost earlier");
    expect_failure(context.timeline(), TESSERA_DEVICE_LOST, "lost earlier");
    EXPECT_EQ(VulkanTable::calls("vkQueueSubmit"), 0u);
  }
  EXPECT_EQ(VulkanTable::live(), before);
  EXPECT_EQ(speak(take(Context::create(on_host()))), as_own);
}

TEST_P(HostDevice, TwoContextsShareADevice) {
  open();
  const Ids as_own = expected();
  const Context first = take(Context::create(on_host())), second = take(Context::create(on_host()));
  EXPECT_EQ(speak(first), as_own);
  EXPECT_EQ(speak(second), as_own);
}

TSR_ON_HOST(HostDevice);

}  // namespace
}  // namespace tessera::test
