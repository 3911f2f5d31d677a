#pragma once

#include <optional>

#include "device/capabilities.h"
#include "device/device.h"
#include "device/vk_table.h"

namespace tessera {

class InstanceImpl final : public Instance {
 public:
  ~InstanceImpl() override;
  Result<void> open(const Desc& desc);
  Result<void> open_loader(const Desc& desc);  // makes no instance

  Result<std::vector<DeviceReport>> enumerate() const override;
  DeviceReport report(const HostDevice& host) const override { return host_device(host).report; }
  Result<PhysicalDevice> physical_device(std::uint32_t index, FeatureChain& features) const;
  PhysicalDevice host_device(const HostDevice& host) const;
  const InstanceTable& table() const { return vk_; }
  std::uint32_t version() const { return version_; }
  std::vector<const char*> portability_extensions() const;  // of the loader, to enable where they are
  // What these extensions want in VkInstanceCreateInfo.
  static VkInstanceCreateFlags create_flags(const std::vector<const char*>& portability) {
    return portability.empty() ? 0 : VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
  }
  const VkAllocationCallbacks* allocator() const { return allocation_ ? &*allocation_ : nullptr; }

 private:
  Result<PFN_vkGetInstanceProcAddr> find_loader(const Desc& desc);
  Result<void> make_instance(const Desc& desc);
  Result<std::vector<VkPhysicalDevice>> handles() const;

  void* library_ = nullptr;
  PFN_vkGetInstanceProcAddr get_ = nullptr;
  InstanceTable vk_;
  VkInstance instance_ = VK_NULL_HANDLE;
  bool adopted_ = false;
  std::uint32_t version_ = 0;  // what the application declared: the most that a device may use
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  Log log_;
  std::optional<VkAllocationCallbacks> allocation_;
};

}  // namespace tessera
