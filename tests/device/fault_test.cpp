// A loader between us and the real one that makes devices old, poor or lost.
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <atomic>

#include "device/vulkan_extra.h"
#include "probe.h"

#if defined(__SANITIZE_ADDRESS__)
#define TSR_LEAKS_ARE_FOUND
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TSR_LEAKS_ARE_FOUND
#endif
#endif
#ifdef TSR_LEAKS_ARE_FOUND
#include <sanitizer/lsan_interface.h>
using KeepsLeaks = __lsan::ScopedDisabler;
#else
struct KeepsLeaks {};
#endif

namespace tessera::test {
namespace {

using testing::HasSubstr;

enum class Fault {
  none,
  old_device,
  no_timeline,
  submit_lost,
  wait_lost,
  wait_timeout,
  wait_no_memory,
  no_memory,
  no_function
};
std::atomic<Fault> fault;
std::atomic<int> destroyed;  // objects of a device, and devices

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
  switch (fault.load()) {
    case Fault::wait_lost: return VK_ERROR_DEVICE_LOST;
    case Fault::wait_timeout: return VK_TIMEOUT;
    case Fault::wait_no_memory: return VK_ERROR_OUT_OF_HOST_MEMORY;
    default: return r;
  }
}
VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice d, const VkMemoryAllocateInfo* info,
                                        const VkAllocationCallbacks* a, VkDeviceMemory* out) {
  return fault == Fault::no_memory ? VK_ERROR_OUT_OF_DEVICE_MEMORY : real_allocate(d, info, a, out);
}

// vkDestroy..., vkFree... of a device, counted.
template <std::size_t which, typename R, typename... Args>
struct Counted {
  static inline R(VKAPI_PTR* real)(VkDevice, Args...);
  static VKAPI_ATTR R VKAPI_CALL call(VkDevice d, Args... args) {
    ++destroyed;
    return real(d, args...);
  }
};

template <typename F>
PFN_vkVoidFunction hook(F& real, PFN_vkVoidFunction found, F replacement) {
  real = reinterpret_cast<F>(found);
  return reinterpret_cast<PFN_vkVoidFunction>(replacement);
}

using Allocator = const VkAllocationCallbacks*;

// The replacement of a function of that name; null where it is not counted.
PFN_vkVoidFunction counted(std::string_view name, PFN_vkVoidFunction found) {
  const auto use = [&]<typename Counter>(Counter) { return hook(Counter::real, found, &Counter::call); };
  if (name == "vkDestroyDevice") return use(Counted<0, void, Allocator>{});
  if (name == "vkDestroyBuffer") return use(Counted<1, void, VkBuffer, Allocator>{});
  if (name == "vkFreeMemory") return use(Counted<2, void, VkDeviceMemory, Allocator>{});
  if (name == "vkDestroyCommandPool") return use(Counted<3, void, VkCommandPool, Allocator>{});
  if (name == "vkDestroySemaphore") return use(Counted<4, void, VkSemaphore, Allocator>{});
  if (name == "vkDestroyPipeline") return use(Counted<5, void, VkPipeline, Allocator>{});
  if (name == "vkDestroyPipelineLayout") return use(Counted<6, void, VkPipelineLayout, Allocator>{});
  if (name == "vkDestroyDescriptorSetLayout")
    return use(Counted<7, void, VkDescriptorSetLayout, Allocator>{});
  if (name == "vkDestroyDescriptorPool") return use(Counted<8, void, VkDescriptorPool, Allocator>{});
  if (name == "vkDestroyQueryPool") return use(Counted<9, void, VkQueryPool, Allocator>{});
  if (name == "vkFreeDescriptorSets")
    return use(Counted<10, VkResult, VkDescriptorPool, std::uint32_t, const VkDescriptorSet*>{});
  return nullptr;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice d, const char* name) {
  const PFN_vkVoidFunction found = real_device_proc(d, name);
  const std::string_view n = name;
  if (n == "vkCmdFillBuffer" && fault == Fault::no_function) return nullptr;
  if (n == "vkQueueSubmit") return hook(real_submit, found, submit);
  if (n == "vkWaitSemaphores") return hook(real_wait, found, wait);
  if (n == "vkAllocateMemory") return hook(real_allocate, found, allocate);
  const PFN_vkVoidFunction counting = counted(n, found);
  return counting != nullptr ? counting : found;
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

// A device whose work does not end as far as anyone can tell, with everything on it that a submission uses.
class Hung : public Faults {
 protected:
  void SetUp() override {
    Faults::SetUp();
    if (!device_) return;
    open(*device_);
    pipeline_ = take(device_->create_pipeline(probe_desc(2)));
    set_ = take(device_->create_binding_set(*pipeline_, ranges()));
    list_ = take(device_->create_command_list(1));
    ASSERT_TRUE(pipeline_ && set_ && list_);
    const std::uint32_t push[] = {1, kCount};
    list_->barrier();
    list_->dispatch(*pipeline_, *set_, push, {0, 0, 0}, {kGroups, 1, 1});
    list_->timestamp(0);
    expect_ok(list_->finish());
    const CommandList* lists[] = {list_.get()};
    EXPECT_GT(take(device_->submit(lists)), 0u);
    destroyed = 0;
  }

  // From the list on, which waits first, to the device.
  void drop_everything() {
    list_.reset();
    set_.reset();
    pipeline_.reset();
    in_.reset();
    out_.reset();
    device_.reset();
    fault = Fault::none;
  }
  void expect_nothing_destroyed(const std::string& why) {
    EXPECT_EQ(destroyed, 0);
    EXPECT_THAT(log_.take(), testing::ElementsAre("the device does not finish its work (" + why +
                                                  "); what was made on it is never freed"));
  }

  KeepsLeaks leaks_;  // nobody is to report what is left behind
  std::shared_ptr<Pipeline> pipeline_;
  std::unique_ptr<BindingSet> set_;
  std::unique_ptr<CommandList> list_;
};

TEST_F(Hung, WhatIsNotInUseIsDestroyed) {
  drop_everything();
  EXPECT_GE(destroyed, 10);
}

TEST_F(Hung, NothingIsDestroyedAfterAMinute) {
  fault = Fault::wait_timeout;
  drop_everything();
  expect_nothing_destroyed("a minute has passed");
}

TEST_F(Hung, NothingIsDestroyedWhereWaitingFails) {
  fault = Fault::wait_no_memory;
  drop_everything();
  expect_nothing_destroyed("waiting for the device: VK_ERROR_OUT_OF_HOST_MEMORY");
}

TEST_F(Hung, WorkIsRefusedFromThenOn) {
  fault = Fault::wait_timeout;
  list_.reset();
  expect_everything_lost();
  drop_everything();
  expect_nothing_destroyed("a minute has passed");
}

TEST_F(Hung, WhatAFailedTransferUsesIsKept) {
  fault = Fault::wait_no_memory;
  std::vector<std::byte> bytes(16);
  const auto uploaded = device_->upload(*in_, 0, bytes);
  ASSERT_FALSE(uploaded);
  EXPECT_EQ(uploaded.error().code, Code::out_of_memory) << uploaded.error().message;
  drop_everything();
  expect_nothing_destroyed("waiting for the device: VK_ERROR_OUT_OF_HOST_MEMORY");
}

TEST_F(Hung, ALostDeviceIsDestroyed) {
  fault = Fault::wait_lost;
  drop_everything();
  EXPECT_GE(destroyed, 10);
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
