#include "device/requirements.h"

#include "device/instance_impl.h"

namespace tessera {
namespace {

class RequirementSetImpl final : public RequirementSet {
 public:
  Result<std::uint32_t> enable_in(void* chain) override;
  void read_loader(const InstanceImpl& instance);
  Result<void> read_device(const InstanceImpl& instance, VkPhysicalDevice handle,
                           const std::vector<CapOverride>& overrides);

 private:
  void list_device(const PhysicalDevice& device);

  FeatureChain chain_;
};

Result<std::uint32_t> RequirementSetImpl::enable_in(void* chain) {
  if (!refused.empty()) return Error{Code::no_device, "the device cannot be used: " + refused};
  if (!features)
    return Error{Code::invalid_argument, "the requirements are of no device: there was none yet"};
  return write_enabled(chain_, chain);
}

void RequirementSetImpl::read_loader(const InstanceImpl& instance) {
  instance_extensions = instance.portability_extensions();
  instance_create_flags = InstanceImpl::create_flags(instance_extensions);
  for (const char* name : instance_extensions)
    list.push_back({Requirement::Kind::instance_extension,
                    name,
                    {},
                    "devices over another interface than Vulkan; goes with "
                    "VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR",
                    false,
                    true});
}

Result<void> RequirementSetImpl::read_device(const InstanceImpl& instance, VkPhysicalDevice handle,
                                             const std::vector<CapOverride>& overrides) {
  const InstanceTable& vk = instance.table();
  PhysicalDevice device = describe(vk, handle, 0, instance.version(), &chain_);
  TSR_CHECK(apply(overrides, device.report.limits, device.report.caps));
  choose_enabled(device, chain_);
  refused = device.report.refused;
  list_device(device);
  if (!refused.empty()) return {};
  features = &chain_.core;
  const auto families = queue_families(vk, handle);
  compute_family = find_family(families, VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT, 0);
  if (!compute_family) compute_family = find_family(families, VK_QUEUE_COMPUTE_BIT, 0);
  async_family = find_family(families, VK_QUEUE_COMPUTE_BIT, VK_QUEUE_GRAPHICS_BIT);
  transfer_family = device.transfer_family;
  return {};
}

void RequirementSetImpl::list_device(const PhysicalDevice& device) {
  for (const UsedExtension& u : used_extensions()) {
    if (!u.use || !u.wanted(device.known, device.report.caps)) continue;
    device_extensions.push_back(u.name);
    list.push_back({Requirement::Kind::device_extension, u.name, {}, u.use, u.required, true});
  }
  for (const UsedFeature& u : used_features()) {
    const bool on = u.in(chain_) != VK_FALSE;
    if (!on && !u.required) continue;
    list.push_back({Requirement::Kind::feature, u.member, u.structure(device.known), u.use, u.required, on});
  }
}

}  // namespace

Result<std::unique_ptr<RequirementSet>> RequirementSet::create(const Instance::Desc& desc,
                                                               void* physical_device,
                                                               const std::vector<CapOverride>& overrides) {
  auto out = std::make_unique<RequirementSetImpl>();
  InstanceImpl instance;
  TSR_CHECK(desc.instance ? instance.open(desc) : instance.open_loader(desc));
  out->read_loader(instance);
  if (desc.instance)
    TSR_CHECK(out->read_device(instance, static_cast<VkPhysicalDevice>(physical_device), overrides));
  return std::unique_ptr<RequirementSet>(std::move(out));
}

}  // namespace tessera
