#include "device/device.h"

#include <algorithm>
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
  Result<std::unique_ptr<Buffer>> create_buffer(std::uint64_t bytes, Memory memory,
                                                const std::string& name) override {
    return BufferImpl::create(*gpu_, bytes, memory, name);
  }
  Result<std::shared_ptr<Pipeline>> create_pipeline(const PipelineDesc& desc) override {
    return pipelines_->get(desc);
  }
  std::uint32_t pipelines_made() const override { return pipelines_->made(); }
  Result<std::vector<PipelineExecutable>> inspect_pipeline(const PipelineDesc& desc, bool texts) override {
    return pipelines_->inspect(desc, texts);
  }
  Result<std::unique_ptr<BindingSet>> create_binding_set(const Pipeline& pipeline,
                                                         std::span<const BindingRange> ranges) override {
    return BindingSetImpl::create(*gpu_, *pools_, pipeline, ranges);
  }
  Result<std::unique_ptr<CommandList>> create_command_list(std::uint32_t timestamp_count) override {
    TSR_TRY(auto list, CommandListImpl::create(*gpu_, *queue_, timestamp_count));
    return std::unique_ptr<CommandList>(std::move(list));
  }
  Result<std::uint64_t> submit(std::span<const CommandList* const> lists) override {
    return queue_->submit(lists);
  }
  Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns) override {
    return queue_->wait(value, timeout_ns);
  }
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
  Result<void> create_device(const FeatureChain& features);

  // Destroyed from last to first.
  std::unique_ptr<Gpu> gpu_ = std::make_unique<Gpu>();
  std::unique_ptr<PipelineStore> pipelines_;
  std::unique_ptr<SetPools> pools_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Transfer> transfer_;
};

Result<void> DeviceImpl::open(std::shared_ptr<InstanceImpl> instance, const Desc& desc) {
  gpu_->instance = std::move(instance);
  gpu_->log = desc.log;
  FeatureChain features;
  TSR_TRY(gpu_->physical, gpu_->instance->physical_device(desc.index, features));
  DeviceReport& report = gpu_->physical.report;
  if (!report.refused.empty())
    return Error{Code::no_device, "device " + std::to_string(desc.index) + " (" + report.name +
                                      ") cannot be used: " + report.refused};
  gpu_->memory_budget = report.caps.memory_budget;
  TSR_CHECK(apply(desc.overrides, report.limits, report.caps));
  restrict_to(report.caps, report.matrices);
  report.rates = desc.rates;
  TSR_CHECK(create_device(features));

  std::vector<std::byte> cache;
  if (!desc.pipeline_cache.empty()) {
    const UnwrappedCache unwrapped = unwrap_cache(report, desc.pipeline_cache);
    if (unwrapped.ignored.empty())
      cache.assign(unwrapped.payload.begin(), unwrapped.payload.end());
    else
      log(gpu_->log, LogLevel::warning, "the pipeline cache is ignored: " + unwrapped.ignored);
  }
  pipelines_ = std::make_unique<PipelineStore>(*gpu_, std::move(cache));
  pools_ = std::make_unique<SetPools>(*gpu_);
  queue_ = std::make_unique<Queue>(*gpu_);
  transfer_ = std::make_unique<Transfer>(*gpu_, *queue_);
  return {};
}

// Makes nothing but the device and its queue: drivers that only compile refuse the rest, so it comes at first
// use.
Result<void> DeviceImpl::create_device(const FeatureChain& features) {
  Gpu& gpu = *gpu_;
  const InstanceTable& vk = gpu.instance->table();
  const float priority = 1.0f;
  VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
  queue.queueFamilyIndex = gpu.physical.queue_family;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &features.core};
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.enabledExtensionCount = static_cast<std::uint32_t>(gpu.physical.extensions.size());
  info.ppEnabledExtensionNames = gpu.physical.extensions.data();
  const VkResult r = vk.CreateDevice(gpu.physical.handle, &info, nullptr, &gpu.device);
  if (r != VK_SUCCESS) return vk_error(r, "opening device " + gpu.physical.report.name);
  // First, so that a device whose table is incomplete goes too.
  gpu.vk.DestroyDevice =
      reinterpret_cast<PFN_vkDestroyDevice>(vk.GetDeviceProcAddr(gpu.device, "vkDestroyDevice"));
  TSR_TRY(gpu.vk, load_device_table(vk.GetDeviceProcAddr, gpu.device));
  gpu.vk.GetDeviceQueue(gpu.device, gpu.physical.queue_family, 0, &gpu.queue);
  VkPhysicalDeviceMemoryProperties2 memory{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
  vk.GetPhysicalDeviceMemoryProperties2(gpu.physical.handle, &memory);
  gpu.memory = memory.memoryProperties;
  return {};
}

// Destroying what a hung device still uses could crash the host; losing its memory cannot.
DeviceImpl::~DeviceImpl() {
  if (queue_) static_cast<void>(queue_->ended(queue_->latest()));
}

}  // namespace

Result<std::unique_ptr<Device>> Device::create(std::shared_ptr<Instance> instance, const Desc& desc) {
  if (!instance) return Error{Code::invalid_argument, "a device needs an instance"};
  auto device = std::make_unique<DeviceImpl>();
  TSR_CHECK(device->open(std::static_pointer_cast<InstanceImpl>(std::move(instance)), desc));
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace tessera
