// The renderer's Vulkan objects, each ended by its owner.
#pragma once

#include <vulkan/vulkan.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tessera/tessera.hpp"

namespace demo {

using tessera::Done;
using tessera::Expected;
using tessera::Failure;

// "submitting a frame: VK_ERROR_DEVICE_LOST (-4)".
Failure vulkan_failure(VkResult result, const std::string& what);
inline Expected<Done> checked(VkResult result, const char* what) {
  if (result != VK_SUCCESS) return vulkan_failure(result, what);
  return Done{};
}

// A handle of a device's and the function that ends it.
template <typename T, auto destroy>
class Owned {
 public:
  Owned() = default;
  Owned(Owned&& other) noexcept { *this = std::move(other); }
  Owned& operator=(Owned&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(value_, other.value_);
    return *this;
  }
  ~Owned() {
    if (value_ != VK_NULL_HANDLE) destroy(device_, value_, nullptr);
  }
  // create(device, info, nullptr, &handle)
  template <typename Create, typename Info>
  Expected<Done> make(VkDevice device, Create create, const Info& info, const char* what) {
    Owned made;
    made.device_ = device;
    if (const VkResult result = create(device, &info, nullptr, &made.value_); result != VK_SUCCESS)
      return vulkan_failure(result, what);
    *this = std::move(made);
    return Done{};
  }
  T get() const { return value_; }
  const T* address() const { return &value_; }

 private:
  VkDevice device_ = VK_NULL_HANDLE;
  T value_ = VK_NULL_HANDLE;
};

using Memory = Owned<VkDeviceMemory, vkFreeMemory>;
using ShaderModule = Owned<VkShaderModule, vkDestroyShaderModule>;
using SetLayout = Owned<VkDescriptorSetLayout, vkDestroyDescriptorSetLayout>;
using DescriptorPool = Owned<VkDescriptorPool, vkDestroyDescriptorPool>;
using PipelineLayout = Owned<VkPipelineLayout, vkDestroyPipelineLayout>;
using Pipeline = Owned<VkPipeline, vkDestroyPipeline>;
using RenderPass = Owned<VkRenderPass, vkDestroyRenderPass>;
using Framebuffer = Owned<VkFramebuffer, vkDestroyFramebuffer>;
using Sampler = Owned<VkSampler, vkDestroySampler>;
using CommandPool = Owned<VkCommandPool, vkDestroyCommandPool>;
using Fence = Owned<VkFence, vkDestroyFence>;
using QueryPool = Owned<VkQueryPool, vkDestroyQueryPool>;

// Instance, device and one queue that draws and computes, with all enabled that Tessera has a use for.
class Gpu {
 public:
  // device: an index, part of a name, or "", the best; caps: as in tessera_context_desc.
  static Expected<Gpu> create(const std::string& device, const std::vector<const char*>& caps);
  Gpu(Gpu&& other) noexcept;
  Gpu& operator=(Gpu&& other) noexcept = delete;
  ~Gpu();

  VkInstance instance() const { return instance_; }
  VkPhysicalDevice physical() const { return physical_; }
  VkDevice device() const { return device_; }
  VkQueue queue() const { return queue_; }
  std::uint32_t family() const { return family_; }
  const std::string& name() const { return name_; }
  std::uint32_t timestamp_bits() const { return timestamp_bits_; }  // 0: the queue has no timestamps
  double nanoseconds_per_tick() const { return nanoseconds_per_tick_; }
  // For tessera_context_desc::host; `submit` is not set.
  tessera_host_device host_device() const;
  // Messages of validation layers, when the user switched them on, printed as they came.
  unsigned messages() const { return *messages_; }

  // Memory for `needs`, of a type with `flags`.
  Expected<Memory> allocate(const VkMemoryRequirements& needs, VkMemoryPropertyFlags flags) const;

 private:
  Gpu() = default;
  Expected<Done> make_instance();
  Expected<Done> pick(const std::string& wanted, const std::vector<const char*>& caps);
  // Takes physical device number `index` when it can draw and Tessera can use it; else says why not.
  std::string consider(VkPhysicalDevice device, const VkPhysicalDeviceProperties& properties,
                       const std::vector<const char*>& caps);
  Expected<Done> make_device();

  VkInstance instance_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  VkPhysicalDevice physical_ = VK_NULL_HANDLE;
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  std::uint32_t family_ = 0;
  std::string name_;
  tessera::Requirements requirements_;  // of the device: what make_device enables
  std::uint32_t timestamp_bits_ = 0;
  double nanoseconds_per_tick_ = 0;
  std::unique_ptr<unsigned> messages_ = std::make_unique<unsigned>(0);  // at a fixed address for the callback
};

struct Buffer {
  static Expected<Buffer> create(const Gpu& gpu, VkDeviceSize bytes, VkBufferUsageFlags usage);  // mapped
  Memory memory;
  Owned<VkBuffer, vkDestroyBuffer> buffer;
  void* mapped = nullptr;
  VkDeviceSize bytes = 0;
};

struct Image {
  static Expected<Image> create(const Gpu& gpu, VkExtent2D extent, VkFormat format, VkImageUsageFlags usage);
  Memory memory;
  Owned<VkImage, vkDestroyImage> image;
  Owned<VkImageView, vkDestroyImageView> view;
};

}  // namespace demo
