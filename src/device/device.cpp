#include "device/device.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "device/cache_blob.h"
#include "device/transfer.h"

namespace tessera {
namespace {

class DeviceImpl final : public Device {
 public:
  ~DeviceImpl() override;
  Result<void> open(std::shared_ptr<InstanceImpl> instance, const Desc& desc);

  const DeviceReport& report() const override { return gpu_->physical.report; }
  Result<std::unique_ptr<Buffer>> create_buffer(std::uint64_t bytes, Memory memory, const std::string& name,
                                                BufferLanes lanes) override {
    return BufferImpl::create(*gpu_, bytes, memory, name, lanes);
  }
  Result<std::shared_ptr<Pipeline>> create_pipeline(const PipelineDesc& desc) override {
    return pipelines_->get(desc);
  }
  Result<std::unique_ptr<Buffer>> adopt_buffer(std::uint64_t vk_buffer, std::uint64_t bytes) override {
    return BufferImpl::adopt(*gpu_, to_handle<VkBuffer>(vk_buffer), bytes);
  }
  std::uint32_t pipelines_made() const override { return pipelines_->made(); }
  Result<std::vector<PipelineExecutable>> inspect_pipeline(const PipelineDesc& desc, bool texts) override {
    return pipelines_->inspect(desc, texts);
  }
  Result<std::unique_ptr<BindingSet>> create_binding_set(const Pipeline& pipeline,
                                                         std::span<const BindingRange> ranges) override {
    return BindingSetImpl::create(*gpu_, *pools_, pipeline, ranges);
  }
  Result<std::unique_ptr<CommandList>> create_command_list(std::uint32_t timestamp_count,
                                                           Lane lane) override {
    TSR_TRY(auto list, CommandListImpl::create(*gpu_, queue(lane), timestamp_count));
    return std::unique_ptr<CommandList>(std::move(list));
  }
  Result<void> record_into(void* vk_command_buffer, const std::function<void(HostRecorder&)>& body) override {
    if (gpu_->lost) return lost_error();
    HostRecorderImpl recorder(*gpu_, static_cast<VkCommandBuffer>(vk_command_buffer));
    body(recorder);
    return recorder.finish();
  }
  Result<std::uint64_t> submit(std::span<const CommandList* const> lists, Lane lane,
                               std::uint64_t after) override {
    return queue(lane).submit(lists, queue(lane == Lane::compute ? Lane::transfer : Lane::compute), after);
  }
  Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns, Lane lane) override {
    return queue(lane).wait(value, timeout_ns);
  }
  void drain(std::uint64_t value) override { (void)queue(Lane::compute).drain(value); }
  Result<std::uint64_t> timeline(Lane lane) override {
    TSR_TRY(const VkSemaphore semaphore, queue(lane).timeline());
    return from_handle(semaphore);
  }
  bool has_transfer_queue() const override { return transfer_queue_ != nullptr; }
  std::uint64_t submit_count() const override { return queue_->latest(); }
  std::uint64_t record_count() const override { return gpu_->records; }
  MemoryUse memory_use() const override { return {gpu_->bytes, gpu_->peak_bytes}; }
  Result<void> upload(Buffer& to, std::uint64_t offset, std::span<const std::byte> bytes) override {
    return transfer_->upload(to, offset, bytes);
  }
  Result<void> download(const Buffer& from, std::uint64_t offset, std::span<std::byte> bytes) override {
    return transfer_->download(from, offset, bytes);
  }
  Result<std::vector<std::byte>> pipeline_cache() override {
    TSR_TRY(const auto bytes, pipelines_->cache_bytes());
    return wrap_cache(report(), bytes);
  }

 private:
  Result<void> describe(const Desc& desc, FeatureChain& features);
  Result<void> create_device(const Desc& desc, const FeatureChain& features);
  void adopt(const HostDevice& host);
  Result<void> load_functions();
  void make_queues(const Desc& desc);
  Queue& queue(Lane lane) { return lane == Lane::transfer && transfer_queue_ ? *transfer_queue_ : *queue_; }

  // Destroyed from last to first.
  std::unique_ptr<Gpu> gpu_ = std::make_unique<Gpu>();
  std::unique_ptr<PipelineStore> pipelines_;
  std::unique_ptr<SetPools> pools_;
  std::unique_ptr<Queue> queue_, transfer_queue_;
  std::unique_ptr<Transfer> transfer_;
};

Result<void> DeviceImpl::describe(const Desc& desc, FeatureChain& features) {
  Gpu& gpu = *gpu_;
  if (desc.host) {
    gpu.physical = gpu.instance->host_device(*desc.host);
  } else {
    TSR_TRY(gpu.physical, gpu.instance->physical_device(desc.index, features));
  }
  DeviceReport& report = gpu.physical.report;
  const std::string which = desc.host ? "the host's device (" : "device " + std::to_string(desc.index) + " (";
  if (!report.refused.empty())
    return Error{Code::no_device, which + report.name + ") cannot be used: " + report.refused};
  TSR_CHECK(apply(desc.overrides, report.limits, report.caps));
  gpu.memory_budget = report.caps.memory_budget;
  restrict_to(report.caps, report.matrices);
  choose_enabled(gpu.physical, features);
  report.rates = desc.rates;
  return {};
}

Result<void> DeviceImpl::open(std::shared_ptr<InstanceImpl> instance, const Desc& desc) {
  gpu_->instance = std::move(instance);
  gpu_->log = desc.log;
  gpu_->budget = desc.memory_budget;
  FeatureChain features;
  TSR_CHECK(describe(desc, features));
  if (desc.host) {
    adopt(*desc.host);
  } else {
    TSR_CHECK(create_device(desc, features));
  }
  TSR_CHECK(load_functions());

  std::vector<std::byte> cache;
  if (!desc.pipeline_cache.empty()) {
    const UnwrappedCache unwrapped = unwrap_cache(report(), desc.pipeline_cache);
    if (unwrapped.ignored.empty())
      cache.assign(unwrapped.payload.begin(), unwrapped.payload.end());
    else
      log(gpu_->log, LogLevel::warning, "the pipeline cache is ignored: " + unwrapped.ignored);
  }
  pipelines_ = std::make_unique<PipelineStore>(*gpu_, std::move(cache));
  pools_ = std::make_unique<SetPools>(*gpu_);
  make_queues(desc);
  transfer_ = std::make_unique<Transfer>(*gpu_, *queue_);
  return {};
}

// Makes nothing but the device and its queues: drivers that only compile refuse the rest, so it comes at
// first use.
Result<void> DeviceImpl::create_device(const Desc& desc, const FeatureChain& features) {
  Gpu& gpu = *gpu_;
  const InstanceTable& vk = gpu.instance->table();
  const float priority = desc.low_priority ? 0.0f : 1.0f;
  VkDeviceQueueGlobalPriorityCreateInfoKHR low{
      VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO_KHR};
  low.globalPriority = VK_QUEUE_GLOBAL_PRIORITY_LOW_KHR;
  const bool priorities = gpu.physical.report.caps.global_priority;
  std::array<VkDeviceQueueCreateInfo, 2> queues{};
  for (VkDeviceQueueCreateInfo& queue : queues) {
    queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
    queue.pNext = desc.low_priority && priorities ? &low : nullptr;
    queue.queueCount = 1;
    queue.pQueuePriorities = &priority;
  }
  if (!desc.transfer_queue) gpu.physical.transfer_family.reset();
  queues[0].queueFamilyIndex = gpu.physical.queue_family;
  queues[1].queueFamilyIndex = gpu.physical.transfer_family.value_or(0);
  VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &features.core};
  info.queueCreateInfoCount = gpu.physical.transfer_family ? 2 : 1;
  info.pQueueCreateInfos = queues.data();
  info.enabledExtensionCount = static_cast<std::uint32_t>(gpu.physical.extensions.size());
  info.ppEnabledExtensionNames = gpu.physical.extensions.data();
  const auto create = [&] {
    return vk.CreateDevice(gpu.physical.handle, &info, gpu.allocator(), &gpu.device);
  };
  VkResult r = create();
  if (queues[0].pNext && (r == VK_ERROR_NOT_PERMITTED_KHR || r == VK_ERROR_INITIALIZATION_FAILED)) {
    log(gpu.log, LogLevel::info, "the driver gives no queue of low priority");
    for (VkDeviceQueueCreateInfo& queue : queues) queue.pNext = nullptr;
    r = create();
  }
  if (r != VK_SUCCESS) return vk_error(r, "opening device " + gpu.physical.report.name);
  return {};
}

void DeviceImpl::adopt(const HostDevice& host) {
  gpu_->adopted = true;
  gpu_->device = static_cast<VkDevice>(host.device);
  gpu_->host = host.calls;
}

Result<void> DeviceImpl::load_functions() {
  Gpu& gpu = *gpu_;
  const InstanceTable& vk = gpu.instance->table();
  // First, so that a device whose table is incomplete goes too.
  gpu.vk.DestroyDevice =
      reinterpret_cast<PFN_vkDestroyDevice>(vk.GetDeviceProcAddr(gpu.device, "vkDestroyDevice"));
  TSR_TRY(gpu.vk, load_device_table(vk.GetDeviceProcAddr, gpu.device));
  VkPhysicalDeviceMemoryProperties2 memory{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
  vk.GetPhysicalDeviceMemoryProperties2(gpu.physical.handle, &memory);
  gpu.memory = memory.memoryProperties;
  return {};
}

void DeviceImpl::make_queues(const Desc& desc) {
  Gpu& gpu = *gpu_;
  const std::uint32_t family = gpu.physical.queue_family;
  const auto& transfer_family = gpu.physical.transfer_family;
  VkQueue compute = VK_NULL_HANDLE, transfer = VK_NULL_HANDLE;
  if (desc.host) {
    compute = static_cast<VkQueue>(desc.host->compute.queue);
    if (desc.host->transfer.queue != compute) transfer = static_cast<VkQueue>(desc.host->transfer.queue);
  } else {
    gpu.vk.GetDeviceQueue(gpu.device, family, 0, &compute);
    if (transfer_family) gpu.vk.GetDeviceQueue(gpu.device, *transfer_family, 0, &transfer);
  }
  queue_ = std::make_unique<Queue>(gpu, compute, family, true);
  if (!transfer) return;
  gpu.two_families = *transfer_family != family;
  transfer_queue_ = std::make_unique<Queue>(gpu, transfer, *transfer_family, false);
}

DeviceImpl::~DeviceImpl() {
  const auto drained = [](Queue& q) { return q.drain(q.latest()); };
  if (!queue_ || (drained(*queue_) && drained(queue(Lane::transfer)))) return;
  static_cast<void>(transfer_.release());
  static_cast<void>(transfer_queue_.release());
  static_cast<void>(queue_.release());
  static_cast<void>(pools_.release());
  static_cast<void>(pipelines_.release());
  static_cast<void>(gpu_.release());
}

}  // namespace

Result<std::unique_ptr<Device>> Device::create(std::shared_ptr<Instance> instance, const Desc& desc) {
  if (!instance) return Error{Code::invalid_argument, "a device needs an instance"};
  auto device = std::make_unique<DeviceImpl>();
  TSR_CHECK(device->open(std::static_pointer_cast<InstanceImpl>(std::move(instance)), desc));
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace tessera
