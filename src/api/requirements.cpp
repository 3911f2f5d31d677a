#include "device/requirements.h"

#include <optional>

#include "api/handles.h"

struct tessera_requirements {
  std::unique_ptr<tessera::RequirementSet> requirements;
};

using namespace tessera;
using namespace tessera::api;

namespace {

tessera_requirement_kind kind_of(Requirement::Kind kind) {
  switch (kind) {
    case Requirement::Kind::instance_extension: return TESSERA_INSTANCE_EXTENSION;
    case Requirement::Kind::device_extension: return TESSERA_DEVICE_EXTENSION;
    case Requirement::Kind::feature: break;
  }
  return TESSERA_DEVICE_FEATURE;
}

}  // namespace

extern "C" {

tessera_status tessera_requirements_create(const tessera_requirements_desc* desc,
                                           tessera_requirements** requirements, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(requirements, "requirements"));
    TSR_TRY(const tessera_requirements_desc d, sized(desc, "tessera_requirements_desc"));
    if ((d.instance == nullptr) != (d.physical_device == nullptr))
      return Error{Code::invalid_argument, "instance and physical_device go together"};
    TSR_TRY(const std::vector<CapOverride> caps, parse_caps(d.caps, d.cap_count));
    Instance::Desc instance;
    instance.get_instance_proc_addr = d.get_instance_proc_addr;
    set_instance(d.instance, d.api_version, instance);
    auto made = std::make_unique<tessera_requirements>();
    TSR_TRY(made->requirements, RequirementSet::create(instance, d.physical_device, caps));
    *requirements = made.release();
    return {};
  });
}

void tessera_requirements_destroy(tessera_requirements* requirements) { delete requirements; }

tessera_status tessera_requirements_get_info(const tessera_requirements* requirements,
                                             tessera_requirements_info* info, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(requirements, "requirements"));
    const RequirementSet& r = *requirements->requirements;
    tessera_requirements_info out{};
    out.refused = r.refused.c_str();
    out.instance_extensions = r.instance_extensions.data();
    out.instance_extension_count = static_cast<uint32_t>(r.instance_extensions.size());
    out.device_extensions = r.device_extensions.data();
    out.device_extension_count = static_cast<uint32_t>(r.device_extensions.size());
    out.features = static_cast<VkPhysicalDeviceFeatures2*>(r.features);
    out.queue_family = r.compute_family.value_or(TESSERA_NO_QUEUE_FAMILY);
    out.async_queue_family = r.async_family.value_or(TESSERA_NO_QUEUE_FAMILY);
    out.transfer_queue_family = r.transfer_family.value_or(TESSERA_NO_QUEUE_FAMILY);
    out.instance_create_flags = r.instance_create_flags;
    return sized_out(out, info, "tessera_requirements_info");
  });
}

tessera_status tessera_requirements_enable(const tessera_requirements* requirements, void* chain,
                                           uint32_t* left, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(requirements, "requirements"));
    TSR_CHECK(require(chain, "chain"));
    TSR_TRY(const std::uint32_t count, requirements->requirements->enable_in(chain));
    if (left != nullptr) *left = count;
    return {};
  });
}

tessera_status tessera_requirements_list(const tessera_requirements* requirements,
                                         void (*each)(void* user, const tessera_requirement* requirement),
                                         void* user, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(requirements, "requirements"));
    if (each == nullptr) return Error{Code::invalid_argument, "each is NULL"};
    for (const Requirement& r : requirements->requirements->list) {
      tessera_requirement out{};
      out.size = sizeof(out);
      out.kind = kind_of(r.kind);
      out.name = r.name.c_str();
      out.structure = r.structure.c_str();
      out.use = r.use.c_str();
      out.required = r.required;
      out.available = r.available;
      each(user, &out);
    }
    return {};
  });
}

}  // extern "C"
