// A program that has Vulkan for itself: an instance, a device, a queue, buffers and command buffers of its
// own, made through VulkanTable, so that a test sees what the library does to them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <list>
#include <span>
#include <string>
#include <vector>

#include "support/vulkan_table.h"

namespace tessera::test {

// TSR_HOST_CALL(host, CreateBuffer)(...): one of the host's own calls.
#define TSR_HOST_CALL(host, name) reinterpret_cast<PFN_vk##name>((host).function("vk" #name))

struct HostBuffer {
  VkBuffer buffer = VK_NULL_HANDLE;
  VkDeviceMemory memory = VK_NULL_HANDLE;
  std::span<std::byte> bytes;  // mapped, coherent

  template <typename T>
  std::span<T> as() const {
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

class VulkanHost {
 public:
  VulkanHost() = default;
  VulkanHost(const VulkanHost&) = delete;
  VulkanHost& operator=(const VulkanHost&) = delete;
  ~VulkanHost() { close(); }

  // The instance and its physical device number `index`.
  bool open_instance(std::uint32_t index, std::uint32_t version = VK_API_VERSION_1_3) {
    close();
    api_version = version;
    VkApplicationInfo app{VK_STRUCTURE_TYPE_APPLICATION_INFO};
    app.apiVersion = version;
    VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    info.pApplicationInfo = &app;
    const char* const messages = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    info.ppEnabledExtensionNames = &messages;
    info.enabledExtensionCount = has_messages() ? 1 : 0;
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateInstance)(&info, nullptr, &instance), VK_SUCCESS);
    if (!instance) return false;
    if (info.enabledExtensionCount != 0) listen();
    std::uint32_t count = 0;
    TSR_HOST_CALL(*this, EnumeratePhysicalDevices)(instance, &count, nullptr);
    std::vector<VkPhysicalDevice> all(count);
    TSR_HOST_CALL(*this, EnumeratePhysicalDevices)(instance, &count, all.data());
    EXPECT_LT(index, count);
    if (index < count) physical = all[index];
    return index < count;
  }
  // `chain`: VkDeviceCreateInfo::pNext. The queue is the first of `family`.
  bool open_device(const void* chain, std::span<const char* const> extensions, std::uint32_t family) {
    queue_family = family;
    const float priority = 1.0f;
    VkDeviceQueueCreateInfo queues{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
    queues.queueFamilyIndex = family;
    queues.queueCount = 1;
    queues.pQueuePriorities = &priority;
    VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, chain};
    info.queueCreateInfoCount = 1;
    info.pQueueCreateInfos = &queues;
    info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
    info.ppEnabledExtensionNames = extensions.data();
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateDevice)(physical, &info, nullptr, &device), VK_SUCCESS);
    if (device) TSR_HOST_CALL(*this, GetDeviceQueue)(device, family, 0, &queue);
    return queue != VK_NULL_HANDLE;
  }
  void close() {
    if (device) {
      for (const HostBuffer& b : buffers_) {
        TSR_HOST_CALL(*this, DestroyBuffer)(device, b.buffer, nullptr);
        TSR_HOST_CALL(*this, FreeMemory)(device, b.memory, nullptr);
      }
      if (pool_) TSR_HOST_CALL(*this, DestroyCommandPool)(device, pool_, nullptr);
      TSR_HOST_CALL(*this, DestroyDevice)(device, nullptr);
    }
    if (messenger_) TSR_HOST_CALL(*this, DestroyDebugUtilsMessengerEXT)(instance, messenger_, nullptr);
    if (instance) TSR_HOST_CALL(*this, DestroyInstance)(instance, nullptr);
    messenger_ = VK_NULL_HANDLE;
    buffers_.clear();
    pool_ = VK_NULL_HANDLE;
    device = VK_NULL_HANDLE;
    instance = VK_NULL_HANDLE;
  }

  // A storage buffer that copies may read and write; lives to close().
  const HostBuffer& make_buffer(std::uint64_t bytes) {
    HostBuffer& out = buffers_.emplace_back();
    VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
    info.size = bytes;
    info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateBuffer)(device, &info, nullptr, &out.buffer), VK_SUCCESS);
    VkMemoryRequirements needs{};
    TSR_HOST_CALL(*this, GetBufferMemoryRequirements)(device, out.buffer, &needs);
    void* mapped = nullptr;
    out.memory = allocate(needs.size, mapped_type(needs.memoryTypeBits), &mapped);
    EXPECT_EQ(TSR_HOST_CALL(*this, BindBufferMemory)(device, out.buffer, out.memory, 0), VK_SUCCESS);
    out.bytes = {static_cast<std::byte*>(mapped), bytes};
    return out;
  }
  // Mapped when the type can be.
  VkDeviceMemory allocate(std::uint64_t bytes, std::uint32_t type, void** mapped) {
    VkMemoryAllocateInfo info{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
    info.allocationSize = bytes;
    info.memoryTypeIndex = type;
    VkDeviceMemory out = VK_NULL_HANDLE;
    EXPECT_EQ(TSR_HOST_CALL(*this, AllocateMemory)(device, &info, nullptr, &out), VK_SUCCESS);
    *mapped = nullptr;
    if (memory().memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
      EXPECT_EQ(TSR_HOST_CALL(*this, MapMemory)(device, out, 0, VK_WHOLE_SIZE, 0, mapped), VK_SUCCESS);
    }
    return out;
  }

  // A primary command buffer that is being recorded.
  VkCommandBuffer begin() {
    if (!pool_) {
      VkCommandPoolCreateInfo info{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
      info.queueFamilyIndex = queue_family;
      EXPECT_EQ(TSR_HOST_CALL(*this, CreateCommandPool)(device, &info, nullptr, &pool_), VK_SUCCESS);
    }
    VkCommandBufferAllocateInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    info.commandPool = pool_;
    info.commandBufferCount = 1;
    VkCommandBuffer out = VK_NULL_HANDLE;
    EXPECT_EQ(TSR_HOST_CALL(*this, AllocateCommandBuffers)(device, &info, &out), VK_SUCCESS);
    const VkCommandBufferBeginInfo begin{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    EXPECT_EQ(TSR_HOST_CALL(*this, BeginCommandBuffer)(out, &begin), VK_SUCCESS);
    return out;
  }
  // Ends it and waits until it has run.
  void run(VkCommandBuffer commands) {
    EXPECT_EQ(TSR_HOST_CALL(*this, EndCommandBuffer)(commands), VK_SUCCESS);
    const VkFenceCreateInfo fence_info{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkFence fence = VK_NULL_HANDLE;
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateFence)(device, &fence_info, nullptr, &fence), VK_SUCCESS);
    VkSubmitInfo info{VK_STRUCTURE_TYPE_SUBMIT_INFO};
    info.commandBufferCount = 1;
    info.pCommandBuffers = &commands;
    EXPECT_EQ(TSR_HOST_CALL(*this, QueueSubmit)(queue, 1, &info, fence), VK_SUCCESS);
    EXPECT_EQ(TSR_HOST_CALL(*this, WaitForFences)(device, 1, &fence, VK_TRUE, 10'000'000'000), VK_SUCCESS);
    TSR_HOST_CALL(*this, DestroyFence)(device, fence, nullptr);
  }

  PFN_vkVoidFunction function(const char* name) const { return VulkanTable::get(instance, name); }
  VkPhysicalDeviceMemoryProperties memory() const {
    VkPhysicalDeviceMemoryProperties out{};
    TSR_HOST_CALL(*this, GetPhysicalDeviceMemoryProperties)(physical, &out);
    return out;
  }

  VkInstance instance = VK_NULL_HANDLE;
  VkPhysicalDevice physical = VK_NULL_HANDLE;
  VkDevice device = VK_NULL_HANDLE;
  VkQueue queue = VK_NULL_HANDLE;
  std::uint32_t queue_family = 0;
  std::uint32_t api_version = 0;

 private:
  bool has_messages() const {
    std::uint32_t count = 0;
    TSR_HOST_CALL(*this, EnumerateInstanceExtensionProperties)(nullptr, &count, nullptr);
    std::vector<VkExtensionProperties> all(count);
    TSR_HOST_CALL(*this, EnumerateInstanceExtensionProperties)(nullptr, &count, all.data());
    for (const VkExtensionProperties& extension : all)
      if (std::string(extension.extensionName) == VK_EXT_DEBUG_UTILS_EXTENSION_NAME) return true;
    return false;
  }
  // What the validation layers say fails the test.
  void listen() {
    VkDebugUtilsMessengerCreateInfoEXT info{VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
    info.messageSeverity =
        VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
    info.pfnUserCallback = message;
    EXPECT_EQ(TSR_HOST_CALL(*this, CreateDebugUtilsMessengerEXT)(instance, &info, nullptr, &messenger_),
              VK_SUCCESS);
  }
  static VKAPI_ATTR VkBool32 VKAPI_CALL message(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                                VkDebugUtilsMessageTypeFlagsEXT,
                                                const VkDebugUtilsMessengerCallbackDataEXT* data, void*) {
    ADD_FAILURE() << data->pMessage;
    return VK_FALSE;
  }
  std::uint32_t mapped_type(std::uint32_t bits) const {
    constexpr VkMemoryPropertyFlags kWanted =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const VkPhysicalDeviceMemoryProperties all = memory();
    for (std::uint32_t i = 0; i < all.memoryTypeCount; ++i)
      if ((bits >> i & 1) != 0 && (all.memoryTypes[i].propertyFlags & kWanted) == kWanted) return i;
    ADD_FAILURE() << "no mapped memory";
    return 0;
  }

  std::list<HostBuffer> buffers_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
};

}  // namespace tessera::test
