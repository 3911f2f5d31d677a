#include <gmock/gmock.h>

#include "device/device.h"
#include "device/vulkan_extra.h"

namespace tessera {
namespace {

using testing::HasSubstr;

std::string refusal(const Instance::Desc& desc) {
  const auto result = Instance::create(desc);
  if (result) return "an instance was made";
  EXPECT_EQ(result.error().code, Code::no_device);
  return result.error().message;
}

TEST(Loader, MissingLibrary) {
  Instance::Desc desc;
  desc.loader = "libvulkan-that-is-not-there.so.1";
  EXPECT_THAT(refusal(desc), HasSubstr("no Vulkan loader (libvulkan-that-is-not-there.so.1) was found"));
}

TEST(Loader, LibraryThatIsNoLoader) {
  Instance::Desc desc;
  desc.loader = "libm.so.6";
  EXPECT_THAT(refusal(desc), HasSubstr("libm.so.6 is no Vulkan loader"));
}

TEST(Loader, UselessGetInstanceProcAddr) {
  Instance::Desc desc;
  desc.get_instance_proc_addr =
      reinterpret_cast<void*>(+[](VkInstance, const char*) -> PFN_vkVoidFunction { return nullptr; });
  EXPECT_THAT(refusal(desc), HasSubstr("lacks vkCreateInstance"));
}

VKAPI_ATTR VkResult VKAPI_CALL no_driver(const VkInstanceCreateInfo*, const VkAllocationCallbacks*,
                                         VkInstance*) {
  return VK_ERROR_INCOMPATIBLE_DRIVER;
}
VKAPI_ATTR VkResult VKAPI_CALL version_1_3(std::uint32_t* version) {
  *version = VK_API_VERSION_1_3;
  return VK_SUCCESS;
}
VKAPI_ATTR VkResult VKAPI_CALL version_1_1(std::uint32_t* version) {
  *version = VK_API_VERSION_1_1;
  return VK_SUCCESS;
}

template <PFN_vkEnumerateInstanceVersion version>
PFN_vkVoidFunction fake_loader(VkInstance, const char* name) {
  const std::string_view n = name;
  if (n == "vkCreateInstance") return reinterpret_cast<PFN_vkVoidFunction>(no_driver);
  if (n == "vkEnumerateInstanceVersion") return reinterpret_cast<PFN_vkVoidFunction>(version);
  return nullptr;
}

TEST(Loader, NoDriver) {
  Instance::Desc desc;
  desc.get_instance_proc_addr = reinterpret_cast<void*>(fake_loader<version_1_3>);
  EXPECT_THAT(refusal(desc), HasSubstr("no working driver"));
}

TEST(Loader, TooOld) {
  Instance::Desc desc;
  desc.get_instance_proc_addr = reinterpret_cast<void*>(fake_loader<version_1_1>);
  EXPECT_THAT(refusal(desc), HasSubstr("Vulkan 1.1; 1.2 is needed"));
}

}  // namespace
}  // namespace tessera
