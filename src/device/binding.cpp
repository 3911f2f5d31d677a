#include "device/binding.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr std::uint32_t kSetsPerPool = 256;
constexpr std::uint32_t kDescriptorsPerPool = kSetsPerPool * 8;

// Why the range may not be bound; empty when it may.
std::string objection(const BindingRange& range, const Limits& limits) {
  if (!range.buffer) return "has no buffer";
  const std::uint64_t size = range.buffer->size();
  const std::string where =
      "offset " + std::to_string(range.offset) + ", " + std::to_string(range.size) + " bytes";
  if (range.offset > size || range.size > size - range.offset)
    return "(" + where + ") leaves its buffer of " + std::to_string(size) + " bytes";
  if (range.size == 0) return "is empty";
  if (range.size > limits.max_storage_range)
    return "(" + where + ") is larger than max_storage_range " + std::to_string(limits.max_storage_range);
  if (range.offset % limits.min_storage_alignment != 0)
    return "(" + where + ") is not aligned to min_storage_alignment " +
           std::to_string(limits.min_storage_alignment);
  return {};
}

}  // namespace

SetPools::~SetPools() {
  for (VkDescriptorPool pool : pools_) gpu_.vk.DestroyDescriptorPool(gpu_.device, pool, gpu_.allocator());
}

Result<SetPools::Set> SetPools::allocate(VkDescriptorSetLayout layout, std::uint32_t bindings) {
  const std::lock_guard lock(mutex_);
  VkDescriptorSetAllocateInfo info{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO};
  info.descriptorSetCount = 1;
  info.pSetLayouts = &layout;
  VkDescriptorSet set = VK_NULL_HANDLE;
  for (auto pool = pools_.rbegin(); pool != pools_.rend(); ++pool) {
    info.descriptorPool = *pool;
    const VkResult r = gpu_.vk.AllocateDescriptorSets(gpu_.device, &info, &set);
    if (r == VK_SUCCESS) return Set{*pool, set};
    if (r != VK_ERROR_OUT_OF_POOL_MEMORY && r != VK_ERROR_FRAGMENTED_POOL)
      return gpu_.error(r, "descriptor set");
  }

  const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, std::max(kDescriptorsPerPool, bindings)};
  VkDescriptorPoolCreateInfo pool_info{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO};
  pool_info.flags = VK_DESCRIPTOR_POOL_CREATE_FREE_DESCRIPTOR_SET_BIT;
  pool_info.maxSets = kSetsPerPool;
  pool_info.poolSizeCount = 1;
  pool_info.pPoolSizes = &size;
  VkResult r = gpu_.vk.CreateDescriptorPool(gpu_.device, &pool_info, gpu_.allocator(), &info.descriptorPool);
  if (r != VK_SUCCESS) return gpu_.error(r, "descriptor pool");
  pools_.push_back(info.descriptorPool);
  r = gpu_.vk.AllocateDescriptorSets(gpu_.device, &info, &set);
  if (r != VK_SUCCESS) return gpu_.error(r, "descriptor set");
  return Set{info.descriptorPool, set};
}

void SetPools::free(const Set& set) {
  if (gpu_.hung) return;
  const std::lock_guard lock(mutex_);
  gpu_.vk.FreeDescriptorSets(gpu_.device, set.pool, 1, &set.set);
}

Result<std::unique_ptr<BindingSet>> BindingSetImpl::create(Gpu& gpu, SetPools& pools,
                                                           const Pipeline& pipeline,
                                                           std::span<const BindingRange> ranges) {
  if (gpu.lost) return lost_error();
  const PipelineDesc& desc = impl(pipeline).desc();
  const std::string what = "bindings of pipeline '" + desc.name + "': ";
  if (ranges.size() != desc.binding_count)
    return Error{Code::invalid_argument, what + std::to_string(ranges.size()) + " given, it has " +
                                             std::to_string(desc.binding_count)};
  std::vector<VkDescriptorBufferInfo> buffers(ranges.size());
  std::vector<VkWriteDescriptorSet> writes(ranges.size());
  for (std::uint32_t i = 0; i < ranges.size(); ++i) {
    if (const std::string why = objection(ranges[i], gpu.limits()); !why.empty())
      return Error{Code::invalid_argument, what + "number " + std::to_string(i) + " " + why};
    buffers[i] = {impl(*ranges[i].buffer).handle(), ranges[i].offset, ranges[i].size};
  }
  TSR_TRY(const SetPools::Set set, pools.allocate(impl(pipeline).set_layout(), desc.binding_count));
  for (std::uint32_t i = 0; i < ranges.size(); ++i) {
    writes[i].sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
    writes[i].dstSet = set.set;
    writes[i].dstBinding = i;
    writes[i].descriptorCount = 1;
    writes[i].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    writes[i].pBufferInfo = &buffers[i];
  }
  gpu.vk.UpdateDescriptorSets(gpu.device, static_cast<std::uint32_t>(writes.size()), writes.data(), 0,
                              nullptr);
  return std::unique_ptr<BindingSet>(std::make_unique<BindingSetImpl>(pools, set, desc.binding_count));
}

}  // namespace tessera
