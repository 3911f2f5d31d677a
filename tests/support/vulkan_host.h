// A program that has Vulkan for itself: an instance, a device and a queue of its own, made through
// VulkanTable, so that a test sees what the library does to them.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/vulkan_table.h"

namespace tessera::test {

// TSR_HOST_CALL(host, Create...)(...): one of the host's own calls.
#define TSR_HOST_CALL(host, name) reinterpret_cast<PFN_vk##name>((host).function("vk" #name))

class VulkanHost {
 public:
  // Of physical device number `index`; `features` is the chain for VkDeviceCreateInfo::pNext. The queue is
  // the first of `family`.
  bool open(std::uint32_t index, const void* features, const std::vector<const char*>& extensions = {},
            std::uint32_t family = 0, std::uint32_t version = VK_API_VERSION_1_2) {
    close();
    make_instance(version);
    std::uint32_t count = 0;
    TSR_HOST_CALL(*this, EnumeratePhysicalDevices)(instance, &count, nullptr);
    std::vector<VkPhysicalDevice> all(count);
    TSR_HOST_CALL(*this, EnumeratePhysicalDevices)(instance, &count, all.data());
    EXPECT_LT(index, count);
    if (index >= count) return false;
    physical = all[index];
    queue_family = family;
    const float priority = 1.0f;
    VkDeviceQueueCreateInfo queues{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
    queues.queueFamilyIndex = family;
    queues.queueCount = 1;
    queues.pQueuePriorities = &priority;
    VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, features};
    info.queueCreateInfoCount = 1;
    info.pQueueCreateInfos = &queues;
    info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
    info.ppEnabledExtensionNames = extensions.data();
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateDevice)(physical, &info, nullptr, &device), VK_SUCCESS);
    if (!device) return false;
    TSR_HOST_CALL(*this, GetDeviceQueue)(device, family, 0, &queue);
    return queue != VK_NULL_HANDLE;
  }
  void close() {
    if (device) TSR_HOST_CALL(*this, DestroyDevice)(device, nullptr);
    if (instance) TSR_HOST_CALL(*this, DestroyInstance)(instance, nullptr);
    device = VK_NULL_HANDLE;
    instance = VK_NULL_HANDLE;
  }
  VulkanHost() = default;
  VulkanHost(const VulkanHost&) = delete;
  VulkanHost& operator=(const VulkanHost&) = delete;
  ~VulkanHost() { close(); }

  PFN_vkVoidFunction function(const char* name) const { return VulkanTable::get(instance, name); }

  VkInstance instance = VK_NULL_HANDLE;
  VkPhysicalDevice physical = VK_NULL_HANDLE;
  VkDevice device = VK_NULL_HANDLE;
  VkQueue queue = VK_NULL_HANDLE;
  std::uint32_t queue_family = 0;
  std::uint32_t api_version = 0;

 private:
  void make_instance(std::uint32_t version) {
    api_version = version;
    VkApplicationInfo app{VK_STRUCTURE_TYPE_APPLICATION_INFO};
    app.apiVersion = version;
    VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    info.pApplicationInfo = &app;
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateInstance)(&info, nullptr, &instance), VK_SUCCESS);
  }
};

}  // namespace tessera::test
