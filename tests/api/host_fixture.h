// Contexts on a device that the test made itself, as an engine would.
#pragma once

#include <optional>

#include "api_fixture.h"
#include "support/vulkan_host.h"

namespace tessera::test {

// Tests are named .../Gpu, as all of a device are; the parameter means nothing else.
class HostTest : public ApiTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    TSR_NEED_DEVICE();
    keep_driver();
    ASSERT_TRUE(VulkanTable::loader());
    VulkanTable::reset();
    index_ = chosen_index();
  }
  void TearDown() override {
    host_.close();
    EXPECT_EQ(VulkanTable::live(), "");
    VulkanTable::reset();
    ApiTest::TearDown();
  }

  // Opens the host's device with all that tessera_requirements asks for.
  void open(std::uint32_t version = VK_API_VERSION_1_3) {
    ASSERT_TRUE(host_.open_instance(index_, version));
    requirements_ = take(Requirements::create(requirements_desc()));
    const tessera_requirements_info info = requirements_.info();
    ASSERT_STREQ(info.refused, "");
    ASSERT_NE(info.queue_family, TESSERA_NO_QUEUE_FAMILY);
    ASSERT_TRUE(host_.open_device(info.features, {info.device_extensions, info.device_extension_count},
                                  info.queue_family));
  }
  tessera_requirements_desc requirements_desc() const {
    auto desc = init<tessera_requirements_desc>();
    desc.get_instance_proc_addr = VulkanTable::entry();
    desc.instance = host_.instance;
    desc.physical_device = host_.physical;
    desc.api_version = host_.api_version;
    return desc;
  }
  // The host's device as the library gets it; host_desc_ may be changed before a context is made.
  tessera_context_desc on_host() {
    const tessera_requirements_info info = requirements_.info();
    host_desc_ = init<tessera_host_device>();
    host_desc_.instance = host_.instance;
    host_desc_.physical_device = host_.physical;
    host_desc_.device = host_.device;
    host_desc_.api_version = host_.api_version;
    host_desc_.extensions = info.device_extensions;
    host_desc_.extension_count = info.device_extension_count;
    host_desc_.features = info.features;
    host_desc_.queue = host_.queue;
    host_desc_.queue_family = host_.queue_family;
    tessera_context_desc out = own();
    out.device = nullptr;
    out.host = &host_desc_;
    return out;
  }
  // A device of the library's own, seen by the table.
  tessera_context_desc own() {
    tessera_context_desc out = gpu();
    out.get_instance_proc_addr = VulkanTable::entry();
    return out;
  }

  // What a greedy session of the test model says.
  static Ids speak(const Context& context) {
    const Model model = take(context.load(kQwen2));
    Session session = prompted(model);
    return next(session, 4);
  }
  // By an unhindered device of the library's own.
  Ids expected() { return speak(take(Context::create(gpu()))); }

  VulkanHost host_;
  Requirements requirements_;
  tessera_host_device host_desc_{};
  std::uint32_t index_ = 0;

 private:
  std::uint32_t chosen_index() {
    std::uint32_t index = 0;
    auto sink = init<tessera_device_sink>();
    sink.user = &index;
    sink.device = [](void* user, const tessera_device_info* info) {
      if (info->chosen != 0) *static_cast<std::uint32_t*>(user) = info->index;
    };
    const tessera_context_desc desc = gpu();
    tessera_error error;
    EXPECT_EQ(tessera_devices(&desc, &sink, &error), TESSERA_OK) << error.message;
    return index;
  }
};
#define TSR_ON_HOST(Suite) \
  INSTANTIATE_TEST_SUITE_P(Api, Suite, testing::Values(true), [](const auto&) { return std::string("Gpu"); })

}  // namespace tessera::test
