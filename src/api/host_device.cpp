// A host's device as tessera.h describes it, for the device room.
#include "api/handles.h"

namespace tessera::api {
namespace {

constexpr uint32_t kVulkan12 = 1u << 22 | 2u << 12;

VkQueue_T* queue_handle(void* queue) { return static_cast<VkQueue_T*>(queue); }

void set_queue_calls(const tessera_host_device& host, HostCalls& calls) {
  void* const user = host.queue_user;
  if (host.submit != nullptr)
    calls.submit = [submit = host.submit, user](void* queue, const void* info) {
      return submit(user, queue_handle(queue), static_cast<const VkSubmitInfo*>(info));
    };
  if (host.lock != nullptr)
    calls.lock = [lock = host.lock, user](void* queue) { lock(user, queue_handle(queue)); };
  if (host.unlock != nullptr)
    calls.unlock = [unlock = host.unlock, user](void* queue) { unlock(user, queue_handle(queue)); };
}

void set_memory_calls(const tessera_host_device& host, HostCalls& calls) {
  void* const user = host.memory_user;
  if (host.allocate_memory == nullptr) return;
  calls.allocate = [allocate = host.allocate_memory, user](const HostMemoryRequest& from,
                                                           HostMemoryBlock& to) {
    tessera_memory_request request{};
    request.size = sizeof(request);
    request.bytes = from.bytes;
    request.alignment = from.alignment;
    request.memory_type = from.memory_type;
    request.mapped = from.mapped;
    request.name = from.name;
    tessera_memory_block block{};
    block.size = sizeof(block);
    const int32_t result = allocate(user, &request, &block);
    to = {from_handle(block.memory), block.offset, block.mapped, block.user};
    return result;
  };
  calls.free = [release = host.free_memory, user](const HostMemoryBlock& from) {
    tessera_memory_block block{};
    block.size = sizeof(block);
    block.memory = to_handle<tessera_vk_device_memory>(from.memory);
    block.offset = from.offset;
    block.mapped = from.mapped;
    block.user = from.user;
    release(user, &block);
  };
}

Result<void> check(const tessera_context_desc& desc, const tessera_host_device& host) {
  if (desc.device != nullptr && *desc.device != '\0')
    return Error{Code::invalid_argument, "a device is named, and a host's device is given"};
  TSR_CHECK(require(host.instance, "tessera_host_device.instance"));
  TSR_CHECK(require(host.physical_device, "tessera_host_device.physical_device"));
  TSR_CHECK(require(host.device, "tessera_host_device.device"));
  TSR_CHECK(require(host.queue, "tessera_host_device.queue"));
  if (host.extension_count != 0) TSR_CHECK(require(host.extensions, "tessera_host_device.extensions"));
  if (host.submit != nullptr && (host.lock != nullptr || host.unlock != nullptr))
    return Error{Code::invalid_argument, "tessera_host_device: submit replaces lock and unlock"};
  if ((host.lock == nullptr) != (host.unlock == nullptr))
    return Error{Code::invalid_argument, "tessera_host_device: lock and unlock go together"};
  if ((host.allocate_memory == nullptr) != (host.free_memory == nullptr))
    return Error{Code::invalid_argument, "tessera_host_device: allocate_memory and free_memory go together"};
  return {};
}

}  // namespace

void set_instance(VkInstance_T* handle, uint32_t api_version, Instance::Desc& instance) {
  instance.instance = handle;
  instance.api_version = api_version == 0 ? kVulkan12 : api_version;
}

Result<std::optional<HostDevice>> make_host_device(const tessera_context_desc& desc,
                                                   Instance::Desc& instance) {
  if (desc.host == nullptr) return std::optional<HostDevice>();
  TSR_TRY(const tessera_host_device host, sized(desc.host, "tessera_host_device"));
  TSR_CHECK(check(desc, host));
  set_instance(host.instance, host.api_version, instance);
  instance.debug_messages = false;
  HostDevice out;
  out.physical_device = host.physical_device;
  out.device = host.device;
  for (uint32_t i = 0; i < host.extension_count; ++i)
    if (host.extensions[i] != nullptr) out.extensions.emplace_back(host.extensions[i]);
  out.features = host.features;
  out.compute = {host.queue, host.queue_family};
  out.transfer = {host.transfer_queue, host.transfer_queue_family};
  set_queue_calls(host, out.calls);
  set_memory_calls(host, out.calls);
  return std::optional(std::move(out));
}

}  // namespace tessera::api
