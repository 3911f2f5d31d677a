// A loader between us and the real one that makes devices old, poor or lost.
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <atomic>

#include "device/vulkan_extra.h"
#include "probe.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

enum class Fault { none, old_device, no_timeline, submit_lost, wait_lost, no_memory, no_function };
std::atomic<Fault> fault;

PFN_vkGetInstanceProcAddr real_loader() {
#ifdef __APPLE__
  static void* library = dlopen("libvulkan.1.dylib", RTLD_NOW);
#else
  static void* library = dlopen("libvulkan.so.1", RTLD_NOW);
#endif
  return library ? reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library, "vkGetInstanceProcAddr"))
                 : nullptr;
}

PFN_vkGetPhysicalDeviceProperties real_properties;
PFN_vkGetPhysicalDeviceFeatures2 real_features;
PFN_vkGetDeviceProcAddr real_device_proc;
PFN_vkQueueSubmit real_submit;
PFN_vkWaitSemaphores real_wait;
PFN_vkAllocateMemory real_allocate;

VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice d, VkPhysicalDeviceProperties* out) {
  real_properties(d, out);
  if (fault == Fault::old_device) out->apiVersion = VK_MAKE_API_VERSION(0, 1, 1, 99);
}
VKAPI_ATTR void VKAPI_CALL features(VkPhysicalDevice d, VkPhysicalDeviceFeatures2* out) {
  real_features(d, out);
  if (fault != Fault::no_timeline) return;
  for (auto* s = static_cast<VkBaseOutStructure*>(out->pNext); s; s = s->pNext)
    if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES)
      reinterpret_cast<VkPhysicalDeviceVulkan12Features*>(s)->timelineSemaphore = VK_FALSE;
}
VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue q, std::uint32_t n, const VkSubmitInfo* info, VkFence fence) {
  return fault == Fault::submit_lost ? VK_ERROR_DEVICE_LOST : real_submit(q, n, info, fence);
}
VKAPI_ATTR VkResult VKAPI_CALL wait(VkDevice d, const VkSemaphoreWaitInfo* info, std::uint64_t timeout) {
  const VkResult r = real_wait(d, info, timeout);  // so that nothing is destroyed while in use
  return fault == Fault::wait_lost ? VK_ERROR_DEVICE_LOST : r;
}
VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice d, const VkMemoryAllocateInfo* info,
                                        const VkAllocationCallbacks* a, VkDeviceMemory* out) {
  return fault == Fault::no_memory ? VK_ERROR_OUT_OF_DEVICE_MEMORY : real_allocate(d, info, a, out);
}

template <typename F>
PFN_vkVoidFunction hook(F& real, PFN_vkVoidFunction found, F replacement) {
  real = reinterpret_cast<F>(found);
  return reinterpret_cast<PFN_vkVoidFunction>(replacement);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice d, const char* name) {
  const PFN_vkVoidFunction found = real_device_proc(d, name);
  const std::string_view n = name;
  if (n == "vkCmdFillBuffer" && fault == Fault::no_function) return nullptr;
  if (n == "vkQueueSubmit") return hook(real_submit, found, submit);
  if (n == "vkWaitSemaphores") return hook(real_wait, found, wait);
  if (n == "vkAllocateMemory") return hook(real_allocate, found, allocate);
  return found;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance i, const char* name) {
  const PFN_vkVoidFunction found = real_loader()(i, name);
  const std::string_view n = name;
  if (n == "vkGetPhysicalDeviceProperties") return hook(real_properties, found, properties);
  if (n == "vkGetPhysicalDeviceFeatures2") return hook(real_features, found, features);
  if (n == "vkGetDeviceProcAddr") return hook(real_device_proc, found, device_proc);
  return found;
}

class Faults : public ProbeTest {
 protected:
  void SetUp() override {
    fault = Fault::none;
    ProbeTest::SetUp();
    if (!device_) return;
    // The fixture's own device steps aside for one behind the hooks.
    in_.reset();
    out_.reset();
    device_.reset();
    ASSERT_TRUE(real_loader());
    Instance::Desc desc;
    desc.get_instance_proc_addr = reinterpret_cast<void*>(instance_proc);
    desc.debug_messages = true;
    desc.log = log_.sink();
    instance_ = take(Instance::create(desc));
    ASSERT_TRUE(instance_);
    device_ = make_device({});
    ASSERT_TRUE(device_);
  }
  std::string why_refused(Fault f) {
    fault = f;
    const auto reports = take(instance_->enumerate());
    EXPECT_GT(reports.size(), index_);
    const auto device = Device::create(instance_, {index_, {}, {}, {}});
    EXPECT_FALSE(device);
    EXPECT_EQ(device.error().code, Code::no_device);
    EXPECT_THAT(device.error().message, HasSubstr(reports[index_].refused));
    EXPECT_THAT(device.error().message, HasSubstr(reports[index_].name));
    EXPECT_FALSE(pick_device(reports, ""));
    fault = Fault::none;
    return reports[index_].refused;
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
  EXPECT_EQ(why_refused(Fault::old_device), "Vulkan 1.1; 1.2 is needed");
  EXPECT_EQ(why_refused(Fault::no_timeline), "no timeline semaphores");
}

TEST_F(Faults, AMissingFunctionIsNamed) {
  fault = Fault::no_function;
  const auto device = Device::create(instance_, {index_, {}, {}, {}});
  fault = Fault::none;
  ASSERT_FALSE(device);
  EXPECT_THAT(device.error().message, HasSubstr("lacks vkCmdFillBuffer"));
  EXPECT_FALSE(Device::create(nullptr, {}));
}

TEST_F(Faults, LossAtSubmission) {
  open(*device_);
  const auto list = take(device_->create_command_list(0));
  expect_ok(list->finish());
  fault = Fault::submit_lost;
  const CommandList* lists[] = {list.get()};
  expect_lost(device_->submit(lists).error());
  fault = Fault::none;
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
  fault = Fault::wait_lost;
  expect_lost(device_->wait(value, 10'000'000'000).error());
  fault = Fault::none;
  expect_everything_lost();
}

TEST_F(Faults, AnotherDeviceWorksAfterALoss) {
  fault = Fault::submit_lost;
  expect_lost(device_->submit({}).error());
  fault = Fault::none;
  device_ = make_device({});
  ASSERT_TRUE(device_);
  open(*device_);
  EXPECT_EQ(run(*device_, probe_desc(2), 1)[999], 1999u);
}

TEST_F(Faults, ExhaustedMemoryIsAnError) {
  fault = Fault::no_memory;
  const auto buffer = device_->create_buffer(1 << 20, Memory::device, "weights");
  fault = Fault::none;
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, Code::out_of_memory);
  EXPECT_THAT(buffer.error().message, HasSubstr("buffer 'weights' of 1.00 MiB: memory heap"));
  EXPECT_EQ(device_->memory_use().bytes, 0u);
}

}  // namespace
}  // namespace tessera::test
