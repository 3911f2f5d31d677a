#include "device/pipeline.h"

#include <algorithm>
#include <bit>

#include "device/module.h"

namespace tessera {

bool PipelineDesc::operator==(const PipelineDesc& o) const {
  return binding_count == o.binding_count && push_bytes == o.push_bytes &&
         required_subgroup_size == o.required_subgroup_size && spec == o.spec &&
         std::ranges::equal(module, o.module);
}

std::size_t PipelineStore::Hash::operator()(const PipelineDesc& desc) const {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](std::uint32_t word) { hash = (hash ^ word) * 0x100000001b3; };
  for (std::uint8_t byte : desc.module) mix(byte);
  for (std::uint32_t word : desc.spec) mix(word);
  mix(desc.binding_count);
  mix(desc.push_bytes);
  mix(desc.required_subgroup_size);
  return static_cast<std::size_t>(hash);
}

PipelineImpl::~PipelineImpl() {
  if (pipeline_ && !gpu_.hung) gpu_.vk.DestroyPipeline(gpu_.device, pipeline_, gpu_.allocator());
}

PipelineStore::~PipelineStore() {
  latest_.clear();
  for (const auto& [key, layout] : layouts_)
    gpu_.vk.DestroyPipelineLayout(gpu_.device, layout, gpu_.allocator());
  for (const auto& [key, layout] : set_layouts_)
    gpu_.vk.DestroyDescriptorSetLayout(gpu_.device, layout, gpu_.allocator());
  if (cache_) gpu_.vk.DestroyPipelineCache(gpu_.device, cache_, gpu_.allocator());
}

// What a thread does that has claimed a slot. Without done() a later call may try again (memory may be free
// then).
class PipelineStore::Making {
 public:
  Making(PipelineStore& store, const PipelineDesc& desc) : store_(store), desc_(desc) {}
  Making(const Making&) = delete;
  Making& operator=(const Making&) = delete;
  void done(const Made& made) { made_ = made; }
  ~Making() {
    {
      const std::lock_guard lock(store_.mutex_);
      const auto slot = store_.slots_.find(desc_);
      slot->second = {made_, false};
      if (!made_) store_.slots_.erase(slot);
    }
    store_.made_one_.notify_all();
  }

 private:
  PipelineStore& store_;
  const PipelineDesc& desc_;
  Made made_;
};

// Null: the calling thread is to make it.
PipelineStore::Made PipelineStore::find_or_claim(const PipelineDesc& desc) {
  std::unique_lock lock(mutex_);
  for (;;) {
    Slot& slot = slots_[desc];
    if (Made made = slot.pipeline.lock()) return made;
    if (!slot.making) {
      slot.making = true;
      break;
    }
    made_one_.wait(lock);
  }
  std::erase_if(slots_,
                [](const auto& entry) { return !entry.second.making && entry.second.pipeline.expired(); });
  return nullptr;
}

// Returns what is kept no longer, so that it goes outside of the lock.
PipelineStore::Made PipelineStore::keep(Made pipeline) {
  const std::lock_guard lock(mutex_);
  if (const auto it = std::ranges::find(latest_, pipeline); it != latest_.end()) latest_.erase(it);
  latest_.push_back(std::move(pipeline));
  if (latest_.size() <= Device::kPipelinesKept) return nullptr;
  Made dropped = std::move(latest_.front());
  latest_.pop_front();
  return dropped;
}

Result<std::shared_ptr<Pipeline>> PipelineStore::get(const PipelineDesc& desc) {
  if (gpu_.lost) return lost_error();
  TSR_CHECK(check(desc));
  Made made = find_or_claim(desc);
  if (!made) {
    Making making(*this, desc);
    TSR_TRY(made, make(desc));
    making.done(made);
  }
  const Made dropped = keep(made);
  return std::shared_ptr<Pipeline>(std::move(made));
}

Result<void> PipelineStore::check(const PipelineDesc& desc) const {
  const Limits& limits = gpu_.limits();
  const auto refuse = [&](Code code, const std::string& why) {
    return Error{code, "pipeline '" + desc.name + "': " + why};
  };
  if (desc.push_bytes % 4 != 0) return refuse(Code::invalid_argument, "push bytes are no multiple of 4");
  if (desc.push_bytes > limits.max_push_bytes)
    return refuse(Code::unsupported, std::to_string(desc.push_bytes) +
                                         " bytes of push constants; the device has " +
                                         std::to_string(limits.max_push_bytes));
  if (desc.binding_count > limits.max_bindings)
    return refuse(Code::unsupported, std::to_string(desc.binding_count) +
                                         " storage buffers; the device binds " +
                                         std::to_string(limits.max_bindings));
  const std::uint32_t size = desc.required_subgroup_size;
  if (size == 0) return {};
  if (!gpu_.physical.report.caps.subgroup_size_control)
    return refuse(Code::unsupported, "it asks for a subgroup size, which the device cannot control");
  if (!std::has_single_bit(size) || size < limits.min_subgroup_size || size > limits.max_subgroup_size)
    return refuse(Code::unsupported, "subgroup size " + std::to_string(size) + "; the device has " +
                                         std::to_string(limits.min_subgroup_size) + " to " +
                                         std::to_string(limits.max_subgroup_size));
  return {};
}

Result<PipelineStore::Made> PipelineStore::make(const PipelineDesc& desc) {
  auto pipeline = std::make_shared<PipelineImpl>(gpu_, desc);
  TSR_CHECK(find_layouts(*pipeline));
  TSR_TRY(const VkPipelineCache cache, driver_cache());
  TSR_CHECK(compile(*pipeline, cache, 0));
  ++made_;
  return pipeline;
}

Result<void> PipelineStore::compile(PipelineImpl& pipeline, VkPipelineCache cache,
                                    VkPipelineCreateFlags flags) {
  const PipelineDesc& desc = pipeline.desc();
  const std::string what = "pipeline '" + desc.name + "'";
  const auto words = module_words(desc.module);
  if (!words) return Error{words.error().code, what + ": " + words.error().message};
  VkShaderModuleCreateInfo module_info{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  module_info.codeSize = words->size() * 4;
  module_info.pCode = words->data();
  VkShaderModule module = VK_NULL_HANDLE;
  VkResult r = gpu_.vk.CreateShaderModule(gpu_.device, &module_info, gpu_.allocator(), &module);
  if (r != VK_SUCCESS) return gpu_.error(r, what);

  std::vector<VkSpecializationMapEntry> entries;
  for (std::uint32_t id = 0; id < desc.spec.size(); ++id) entries.push_back({id, id * 4, 4});
  const VkSpecializationInfo spec{static_cast<std::uint32_t>(entries.size()), entries.data(),
                                  desc.spec.size() * 4, desc.spec.data()};
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup{
      VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
  subgroup.requiredSubgroupSize = desc.required_subgroup_size;
  VkComputePipelineCreateInfo info{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
  info.flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT | flags;
  info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  const Limits& limits = gpu_.physical.report.limits;
  const bool of_several = limits.min_subgroup_size < limits.max_subgroup_size;
  info.stage.pNext = desc.required_subgroup_size && of_several ? &subgroup : nullptr;
  // A kernel that asks for a size counts its subgroups: all are full.
  if (desc.required_subgroup_size)
    info.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.module = module;
  info.stage.pName = "main";
  info.stage.pSpecializationInfo = &spec;
  info.layout = pipeline.layout();
  info.basePipelineIndex = -1;
  r = gpu_.vk.CreateComputePipelines(gpu_.device, cache, 1, &info, gpu_.allocator(), &pipeline.pipeline_);
  gpu_.vk.DestroyShaderModule(gpu_.device, module, gpu_.allocator());
  if (r != VK_SUCCESS) return gpu_.error(r, what);
  return {};
}

Result<void> PipelineStore::find_layouts(PipelineImpl& pipeline) {
  const std::uint32_t count = pipeline.desc().binding_count;
  const std::uint32_t push = pipeline.desc().push_bytes;
  const std::string what = "layout of pipeline '" + pipeline.desc().name + "'";
  const std::lock_guard lock(mutex_);
  VkDescriptorSetLayout& set_layout = set_layouts_[count];
  if (!set_layout) {
    std::vector<VkDescriptorSetLayoutBinding> bindings;
    for (std::uint32_t i = 0; i < count; ++i)
      bindings.push_back({i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr});
    VkDescriptorSetLayoutCreateInfo info{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO};
    info.bindingCount = count;
    info.pBindings = bindings.data();
    const VkResult r = gpu_.vk.CreateDescriptorSetLayout(gpu_.device, &info, gpu_.allocator(), &set_layout);
    if (r != VK_SUCCESS) return gpu_.error(r, what);
  }
  VkPipelineLayout& layout = layouts_[{count, push}];
  if (!layout) {
    const VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0, push};
    VkPipelineLayoutCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
    info.setLayoutCount = 1;
    info.pSetLayouts = &set_layout;
    info.pushConstantRangeCount = push ? 1 : 0;
    info.pPushConstantRanges = &range;
    const VkResult r = gpu_.vk.CreatePipelineLayout(gpu_.device, &info, gpu_.allocator(), &layout);
    if (r != VK_SUCCESS) return gpu_.error(r, what);
  }
  pipeline.set_layout_ = set_layout;
  pipeline.layout_ = layout;
  return {};
}

Result<VkPipelineCache> PipelineStore::driver_cache() {
  const std::lock_guard lock(mutex_);
  if (cache_) return cache_;
  VkPipelineCacheCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  info.initialDataSize = initial_.size();
  info.pInitialData = initial_.data();
  const VkResult r = gpu_.vk.CreatePipelineCache(gpu_.device, &info, gpu_.allocator(), &cache_);
  if (r != VK_SUCCESS) return gpu_.error(r, "pipeline cache");
  initial_ = {};
  return cache_;
}

Result<std::vector<std::byte>> PipelineStore::cache_bytes() {
  if (gpu_.lost) return lost_error();
  TSR_TRY(const VkPipelineCache cache, driver_cache());
  std::vector<std::byte> bytes;
  VkResult r = VK_INCOMPLETE;  // while another thread adds a pipeline between the two calls
  while (r == VK_INCOMPLETE) {
    std::size_t size = 0;
    r = gpu_.vk.GetPipelineCacheData(gpu_.device, cache, &size, nullptr);
    if (r != VK_SUCCESS) break;
    bytes.resize(size);
    r = gpu_.vk.GetPipelineCacheData(gpu_.device, cache, &size, bytes.data());
    bytes.resize(size);
  }
  if (r != VK_SUCCESS) return gpu_.error(r, "pipeline cache");
  return bytes;
}

}  // namespace tessera
