// What a host has to enable when it makes the instance and the device that it lends.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"

namespace tessera {

struct Requirement {
  enum class Kind : std::uint8_t { instance_extension, device_extension, feature };
  Kind kind = Kind::feature;
  std::string name;
  std::string structure;  // of a feature
  std::string use;        // what for
  bool required = false;
  bool available = false;
};

class RequirementSet {
 public:
  // Without desc.instance: the instance extensions alone.
  static Result<std::unique_ptr<RequirementSet>> create(const Instance::Desc& desc, void* physical_device,
                                                        const std::vector<CapOverride>& overrides);
  virtual ~RequirementSet() = default;

  // Sets the features in a host's own chain; how many of them have no place in it. invalid_argument without a
  // device, no_device when it is refused.
  virtual Result<std::uint32_t> enable_in(void* chain) = 0;

  std::vector<Requirement> list;  // what is to be enabled, and what is required and missing
  std::string refused;            // why the device cannot be used; empty when it can
  std::vector<const char*> instance_extensions, device_extensions;
  std::uint32_t instance_create_flags = 0;  // VkInstanceCreateFlags
  void* features = nullptr;                 // VkPhysicalDeviceFeatures2 and its chain; null without a device
  // A renderer's family, one without graphics, and one that only copies.
  std::optional<std::uint32_t> compute_family, async_family, transfer_family;
};

}  // namespace tessera
