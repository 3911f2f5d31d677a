#include "gpu.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace demo {
namespace {

// Counts and prints; the user switched the layers on.
VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                          VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data, void* user) {
  ++*static_cast<unsigned*>(user);
  std::fprintf(stderr, "frame_demo: validation: %s\n", data->pMessage);
  return VK_FALSE;
}

VkDebugUtilsMessengerCreateInfoEXT messenger_info(unsigned* count) {
  VkDebugUtilsMessengerCreateInfoEXT info{VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
  info.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  info.messageType =
      VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT;
  info.pfnUserCallback = on_message;
  info.pUserData = count;
  return info;
}

constexpr std::uint32_t kVulkan = VK_API_VERSION_1_2;

VkQueueFamilyProperties family_of(VkPhysicalDevice device, std::uint32_t family) {
  std::uint32_t count = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
  return family < count ? families[family] : VkQueueFamilyProperties{};
}

tessera_requirements_desc requirements_desc() {
  auto desc = tessera::init<tessera_requirements_desc>();
  desc.get_instance_proc_addr = reinterpret_cast<void*>(vkGetInstanceProcAddr);
  desc.api_version = kVulkan;
  return desc;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

int rank(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return 2;
    default: return 3;
  }
}

}  // namespace

Failure vulkan_failure(VkResult result, const std::string& what) {
  const tessera_status status = result == VK_ERROR_DEVICE_LOST ? TESSERA_DEVICE_LOST : TESSERA_NO_DEVICE;
  return {status, what + ": VkResult " + std::to_string(result)};
}

Expected<Gpu> Gpu::create(const std::string& device, const std::vector<const char*>& caps) {
  Gpu gpu;
  if (auto made = gpu.make_instance(); !made) return made.failure();
  if (auto picked = gpu.pick(device, caps); !picked) return picked.failure();
  if (auto made = gpu.make_device(); !made) return made.failure();
  return gpu;
}

Gpu::Gpu(Gpu&& other) noexcept
    : instance_(std::exchange(other.instance_, VK_NULL_HANDLE)),
      messenger_(std::exchange(other.messenger_, VK_NULL_HANDLE)),
      physical_(other.physical_),
      device_(std::exchange(other.device_, VK_NULL_HANDLE)),
      queue_(other.queue_),
      family_(other.family_),
      name_(std::move(other.name_)),
      requirements_(std::move(other.requirements_)),
      timestamp_bits_(other.timestamp_bits_),
      nanoseconds_per_tick_(other.nanoseconds_per_tick_),
      messages_(std::move(other.messages_)) {}

Gpu::~Gpu() {
  if (device_ != VK_NULL_HANDLE) vkDestroyDevice(device_, nullptr);
  if (messenger_ != VK_NULL_HANDLE) {
    const auto destroy = reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(
        vkGetInstanceProcAddr(instance_, "vkDestroyDebugUtilsMessengerEXT"));
    destroy(instance_, messenger_, nullptr);
  }
  if (instance_ != VK_NULL_HANDLE) vkDestroyInstance(instance_, nullptr);
}

Expected<Done> Gpu::make_instance() {
  std::uint32_t count = 0;
  vkEnumerateInstanceExtensionProperties(nullptr, &count, nullptr);
  std::vector<VkExtensionProperties> known(count);
  vkEnumerateInstanceExtensionProperties(nullptr, &count, known.data());
  auto requirements = tessera::Requirements::create(requirements_desc());
  if (!requirements) return requirements.failure();
  const tessera_requirements_info needs = requirements->info();
  std::vector<const char*> extensions(needs.instance_extensions,
                                      needs.instance_extensions + needs.instance_extension_count);
  const bool debug = std::any_of(known.begin(), known.end(), [](const VkExtensionProperties& e) {
    return std::string_view(e.extensionName) == VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  });
  if (debug) extensions.push_back(VK_EXT_DEBUG_UTILS_EXTENSION_NAME);

  VkApplicationInfo application{VK_STRUCTURE_TYPE_APPLICATION_INFO};
  application.pApplicationName = "frame_demo";
  application.apiVersion = kVulkan;
  const VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(messages_.get());
  VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
  info.pNext = debug ? &messenger : nullptr;
  info.flags = needs.instance_create_flags;
  info.pApplicationInfo = &application;
  info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  if (const VkResult result = vkCreateInstance(&info, nullptr, &instance_); result != VK_SUCCESS)
    return vulkan_failure(result, "no Vulkan instance (is a driver installed?)");
  if (!debug) return Done{};
  const auto create = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(
      vkGetInstanceProcAddr(instance_, "vkCreateDebugUtilsMessengerEXT"));
  return checked(create(instance_, &messenger, nullptr, &messenger_), "creating the debug messenger");
}

Expected<Done> Gpu::pick(const std::string& wanted, const std::vector<const char*>& caps) {
  std::uint32_t count = 0;
  vkEnumeratePhysicalDevices(instance_, &count, nullptr);
  std::vector<VkPhysicalDevice> devices(count);
  vkEnumeratePhysicalDevices(instance_, &count, devices.data());
  std::string refused;
  int best = 99;
  for (std::uint32_t i = 0; i < count; ++i) {
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(devices[i], &properties);
    const bool named = wanted.empty() || wanted == std::to_string(i) ||
                       lower(properties.deviceName).find(lower(wanted)) != std::string::npos;
    if (!named || rank(properties.deviceType) >= best) continue;
    const std::string reason = consider(devices[i], properties, caps);
    if (reason.empty())
      best = rank(properties.deviceType);
    else
      refused += std::string("; ") + properties.deviceName + ": " + reason;
  }
  if (physical_ != VK_NULL_HANDLE) return Done{};
  const std::string what = wanted.empty() ? "can be used" : "is called '" + wanted + "' and can be used";
  return Failure{TESSERA_NO_DEVICE, "none of " + std::to_string(count) + " Vulkan devices " + what + refused};
}

std::string Gpu::consider(VkPhysicalDevice device, const VkPhysicalDeviceProperties& properties,
                          const std::vector<const char*>& caps) {
  tessera_requirements_desc desc = requirements_desc();
  desc.instance = instance_;
  desc.physical_device = device;
  desc.caps = caps.data();
  desc.cap_count = static_cast<std::uint32_t>(caps.size());
  auto requirements = tessera::Requirements::create(desc);
  if (!requirements) return requirements.failure().message;
  const tessera_requirements_info needs = requirements->info();
  if (*needs.refused != '\0') return needs.refused;
  const VkQueueFamilyProperties family = family_of(device, needs.queue_family);
  if ((family.queueFlags & VK_QUEUE_GRAPHICS_BIT) == 0) return "no queue draws and computes";
  physical_ = device;
  family_ = needs.queue_family;
  name_ = properties.deviceName;
  requirements_ = *std::move(requirements);
  timestamp_bits_ = family.timestampValidBits;
  nanoseconds_per_tick_ = properties.limits.timestampPeriod;
  return {};
}

Expected<Done> Gpu::make_device() {
  const tessera_requirements_info needs = requirements_.info();
  const float priority = 1;
  VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
  queue.queueFamilyIndex = family_;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO};
  info.pNext = needs.features;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.enabledExtensionCount = needs.device_extension_count;
  info.ppEnabledExtensionNames = needs.device_extensions;
  if (const VkResult result = vkCreateDevice(physical_, &info, nullptr, &device_); result != VK_SUCCESS)
    return vulkan_failure(result, "creating a device on " + name_);
  vkGetDeviceQueue(device_, family_, 0, &queue_);
  return Done{};
}

tessera_host_device Gpu::host_device() const {
  const tessera_requirements_info enabled = requirements_.info();
  auto host = tessera::init<tessera_host_device>();
  host.instance = instance_;
  host.physical_device = physical_;
  host.device = device_;
  host.api_version = kVulkan;
  host.extensions = enabled.device_extensions;
  host.extension_count = enabled.device_extension_count;
  host.features = enabled.features;
  host.queue = queue_;
  host.queue_family = family_;
  return host;
}

Expected<Memory> Gpu::allocate(const VkMemoryRequirements& needs, VkMemoryPropertyFlags flags) const {
  VkPhysicalDeviceMemoryProperties properties;
  vkGetPhysicalDeviceMemoryProperties(physical_, &properties);
  for (std::uint32_t type = 0; type < properties.memoryTypeCount; ++type) {
    if ((needs.memoryTypeBits & 1u << type) == 0 ||
        (properties.memoryTypes[type].propertyFlags & flags) != flags)
      continue;
    VkMemoryAllocateInfo info{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
    info.allocationSize = needs.size;
    info.memoryTypeIndex = type;
    Memory memory;
    if (auto made = memory.make(device_, vkAllocateMemory, info, "allocating device memory"); !made)
      return made.failure();
    return memory;
  }
  return Failure{TESSERA_NO_DEVICE, name_ + " has no memory of the type that a picture needs"};
}

Expected<Buffer> Buffer::create(const Gpu& gpu, VkDeviceSize bytes, VkBufferUsageFlags usage) {
  Buffer out;
  VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  info.size = out.bytes = bytes;
  info.usage = usage;
  if (auto made = out.buffer.make(gpu.device(), vkCreateBuffer, info, "creating a buffer"); !made)
    return made.failure();
  VkMemoryRequirements needs;
  vkGetBufferMemoryRequirements(gpu.device(), out.buffer.get(), &needs);
  auto memory =
      gpu.allocate(needs, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
  if (!memory) return memory.failure();
  out.memory = *std::move(memory);
  if (auto bound =
          checked(vkBindBufferMemory(gpu.device(), out.buffer.get(), out.memory.get(), 0), "binding memory");
      !bound)
    return bound.failure();
  if (auto mapped = checked(vkMapMemory(gpu.device(), out.memory.get(), 0, VK_WHOLE_SIZE, 0, &out.mapped),
                            "mapping memory");
      !mapped)
    return mapped.failure();
  return out;
}

Expected<Image> Image::create(const Gpu& gpu, VkExtent2D extent, VkFormat format, VkImageUsageFlags usage) {
  Image out;
  VkImageCreateInfo info{VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO};
  info.imageType = VK_IMAGE_TYPE_2D;
  info.format = format;
  info.extent = {extent.width, extent.height, 1};
  info.mipLevels = info.arrayLayers = 1;
  info.samples = VK_SAMPLE_COUNT_1_BIT;
  info.tiling = VK_IMAGE_TILING_OPTIMAL;
  info.usage = usage;
  if (auto made = out.image.make(gpu.device(), vkCreateImage, info, "creating a picture"); !made)
    return made.failure();
  VkMemoryRequirements needs;
  vkGetImageMemoryRequirements(gpu.device(), out.image.get(), &needs);
  auto memory = gpu.allocate(needs, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
  if (!memory) return memory.failure();
  out.memory = *std::move(memory);
  if (auto bound =
          checked(vkBindImageMemory(gpu.device(), out.image.get(), out.memory.get(), 0), "binding memory");
      !bound)
    return bound.failure();
  VkImageViewCreateInfo view{VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO};
  view.image = out.image.get();
  view.viewType = VK_IMAGE_VIEW_TYPE_2D;
  view.format = format;
  view.subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1};
  if (auto made = out.view.make(gpu.device(), vkCreateImageView, view, "creating a view"); !made)
    return made.failure();
  return out;
}

}  // namespace demo
