#include "device/instance_impl.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace tessera {
namespace {

#ifdef __APPLE__
constexpr std::array<const char*, 3> kLoaderNames{"libvulkan.dylib", "libvulkan.1.dylib",
                                                  "libMoltenVK.dylib"};
#else
constexpr std::array<const char*, 1> kLoaderNames{"libvulkan.so.1"};
#endif

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                          VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data, void* user) {
  std::string text = data->pMessage ? data->pMessage : "";
  const std::string id = data->pMessageIdName ? data->pMessageIdName : "";
  if (text.find(id) == std::string::npos) text = id + ": " + text;  // newer layers keep them apart
  // What the layer says of its own settings is no fault of ours.
  const bool fault = id != "VALIDATION-SETTINGS";
  log(*static_cast<const Log*>(user), fault ? LogLevel::error : LogLevel::info, text);
  return VK_FALSE;
}

VkDebugUtilsMessengerCreateInfoEXT messenger_info(Log* sink) {
  VkDebugUtilsMessengerCreateInfoEXT info{VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
  info.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  // Not GENERAL: there the loader speaks about the machine's set-up.
  info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
  info.pfnUserCallback = on_message;
  info.pUserData = sink;
  return info;
}

// The loader's version; 1.0 when it is too old to say.
std::uint32_t loader_version(PFN_vkGetInstanceProcAddr get) {
  const auto enumerate =
      reinterpret_cast<PFN_vkEnumerateInstanceVersion>(get(VK_NULL_HANDLE, "vkEnumerateInstanceVersion"));
  std::uint32_t version = VK_API_VERSION_1_0;
  if (enumerate && enumerate(&version) != VK_SUCCESS) version = VK_API_VERSION_1_0;
  return version;
}

bool has_extension(PFN_vkGetInstanceProcAddr get, const char* name) {
  const auto enumerate = reinterpret_cast<PFN_vkEnumerateInstanceExtensionProperties>(
      get(VK_NULL_HANDLE, "vkEnumerateInstanceExtensionProperties"));
  if (!enumerate) return false;
  std::vector<VkExtensionProperties> all;
  read_all(all, {},
           [&](std::uint32_t* count, VkExtensionProperties* out) { return enumerate(nullptr, count, out); });
  return std::any_of(all.begin(), all.end(),
                     [&](const auto& e) { return std::strcmp(e.extensionName, name) == 0; });
}

Error no_instance(VkResult result) {
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
    return {Code::no_device, "the Vulkan loader found no working driver (VK_ERROR_INCOMPATIBLE_DRIVER)"};
  return {Code::no_device, std::string("creating a Vulkan instance: ") + result_name(result)};
}

}  // namespace

Result<std::shared_ptr<Instance>> Instance::create(const Desc& desc) {
  auto instance = std::make_shared<InstanceImpl>();
  TSR_CHECK(instance->open(desc));
  return std::shared_ptr<Instance>(std::move(instance));
}

Result<PFN_vkGetInstanceProcAddr> InstanceImpl::find_loader(const Desc& desc) {
  if (desc.get_instance_proc_addr)
    return reinterpret_cast<PFN_vkGetInstanceProcAddr>(desc.get_instance_proc_addr);
  std::vector<std::string> names(kLoaderNames.begin(), kLoaderNames.end());
  if (!desc.loader.empty()) names = {desc.loader};
  std::string why;
  for (const std::string& name : names) {
    library_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_) break;
    const char* text = dlerror();
    why += (why.empty() ? "" : "; ") + std::string(text ? text : "cannot be opened");
  }
  if (!library_) return Error{Code::no_device, "no Vulkan loader (" + names[0] + ") was found: " + why};
  void* symbol = dlsym(library_, "vkGetInstanceProcAddr");
  if (!symbol)
    return Error{Code::no_device, names[0] + " is no Vulkan loader: it lacks vkGetInstanceProcAddr"};
  return reinterpret_cast<PFN_vkGetInstanceProcAddr>(symbol);
}

Result<void> InstanceImpl::open(const Desc& desc) {
  log_ = desc.log;
  if (desc.allocation_callbacks)
    allocation_ = *static_cast<const VkAllocationCallbacks*>(desc.allocation_callbacks);
  TSR_CHECK(open_loader(desc));
  if (!desc.instance) return make_instance(desc);
  if (desc.api_version < VK_API_VERSION_1_2)
    return Error{Code::no_device, "the host's instance: " + below_floor(Limits{}, desc.api_version)};
  adopted_ = true;
  instance_ = static_cast<VkInstance>(desc.instance);
  version_ = desc.api_version;
  TSR_TRY(vk_, load_instance_table(get_, instance_));
  return {};
}

Result<void> InstanceImpl::open_loader(const Desc& desc) {
  TSR_TRY(get_, find_loader(desc));
  return {};
}

std::vector<const char*> InstanceImpl::portability_extensions() const {
  if (!has_extension(get_, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) return {};
  return {VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME};
}

Result<void> InstanceImpl::make_instance(const Desc& desc) {
  const auto create_instance =
      reinterpret_cast<PFN_vkCreateInstance>(get_(VK_NULL_HANDLE, "vkCreateInstance"));
  if (!create_instance) return Error{Code::no_device, "the Vulkan loader lacks vkCreateInstance"};
  const std::uint32_t loader = loader_version(get_);
  if (loader < VK_API_VERSION_1_2)
    return Error{Code::no_device, "the Vulkan loader: " + below_floor(Limits{}, loader)};
  version_ = loader >= VK_API_VERSION_1_3 ? VK_API_VERSION_1_3 : VK_API_VERSION_1_2;

  VkApplicationInfo app{VK_STRUCTURE_TYPE_APPLICATION_INFO};
  app.pEngineName = "tessera";
  app.apiVersion = version_;
  VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
  info.pApplicationInfo = &app;
  std::vector<const char*> extensions = portability_extensions();
  info.flags = create_flags(extensions);
  const bool debug = desc.debug_messages && has_extension(get_, VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
  const VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(&log_);
  if (debug) {
    extensions.push_back(VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    info.pNext = &messenger;  // covers creation and destruction of the instance itself
  }
  info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  if (const VkResult r = create_instance(&info, allocator(), &instance_); r != VK_SUCCESS)
    return no_instance(r);
  // First, so that an instance whose table is incomplete goes too.
  vk_.DestroyInstance = reinterpret_cast<PFN_vkDestroyInstance>(get_(instance_, "vkDestroyInstance"));
  TSR_TRY(vk_, load_instance_table(get_, instance_));
  if (debug && vk_.CreateDebugUtilsMessengerEXT)
    vk_.CreateDebugUtilsMessengerEXT(instance_, &messenger, allocator(), &messenger_);
  return {};
}

InstanceImpl::~InstanceImpl() {
  if (messenger_) vk_.DestroyDebugUtilsMessengerEXT(instance_, messenger_, allocator());
  if (instance_ && !adopted_ && vk_.DestroyInstance) vk_.DestroyInstance(instance_, allocator());
  if (library_) dlclose(library_);
}

Result<std::vector<VkPhysicalDevice>> InstanceImpl::handles() const {
  std::vector<VkPhysicalDevice> out;
  const VkResult r = read_all(out, VkPhysicalDevice{}, [&](std::uint32_t* count, VkPhysicalDevice* list) {
    return vk_.EnumeratePhysicalDevices(instance_, count, list);
  });
  if (r == VK_ERROR_INITIALIZATION_FAILED)
    out.clear();  // what a driver without a device may answer
  else if (r != VK_SUCCESS)
    return vk_error(r, "listing Vulkan devices");
  return out;
}

Result<std::vector<DeviceReport>> InstanceImpl::enumerate() const {
  TSR_TRY(const std::vector<VkPhysicalDevice> all, handles());
  std::vector<DeviceReport> out;
  for (std::uint32_t i = 0; i < all.size(); ++i)
    out.push_back(describe(vk_, all[i], i, version_, nullptr).report);
  return out;
}

Result<PhysicalDevice> InstanceImpl::physical_device(std::uint32_t index, FeatureChain& features) const {
  TSR_TRY(const std::vector<VkPhysicalDevice> all, handles());
  if (index >= all.size())
    return Error{Code::no_device,
                 "no device " + std::to_string(index) + "; there are " + std::to_string(all.size())};
  return describe(vk_, all[index], index, version_, &features);
}

PhysicalDevice InstanceImpl::host_device(const HostDevice& host) const {
  return describe(vk_, static_cast<VkPhysicalDevice>(host.physical_device), 0, version_, nullptr, &host);
}

}  // namespace tessera
