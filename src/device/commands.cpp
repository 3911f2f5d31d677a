#include "device/commands.h"

namespace tessera {
namespace {

constexpr HostAccess kCopies{VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT};

bool inside(const Buffer& buffer, std::uint64_t offset, std::uint64_t bytes) {
  return offset <= buffer.size() && bytes <= buffer.size() - offset;
}

}  // namespace

Result<std::unique_ptr<CommandListImpl>> CommandListImpl::create(Gpu& gpu, Queue& queue,
                                                                 std::uint32_t timestamp_count) {
  if (gpu.lost) return lost_error();
  auto list = std::make_unique<CommandListImpl>(gpu, queue);
  VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
  pool.queueFamilyIndex = queue.family();
  VkResult r = gpu.vk.CreateCommandPool(gpu.device, &pool, gpu.allocator(), &list->pool_);
  if (r != VK_SUCCESS) return gpu.error(r, "command pool");
  VkCommandBufferAllocateInfo buffer{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
  buffer.commandPool = list->pool_;
  buffer.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  buffer.commandBufferCount = 1;
  r = gpu.vk.AllocateCommandBuffers(gpu.device, &buffer, &list->commands_);
  if (r != VK_SUCCESS) return gpu.error(r, "command buffer");
  list->written_.resize(timestamp_count);
  list->ticks_.resize(timestamp_count);
  if (timestamp_count > 0 && gpu.limits().timestamp_ns > 0 && queue.computes()) {
    VkQueryPoolCreateInfo queries{VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
    queries.queryType = VK_QUERY_TYPE_TIMESTAMP;
    queries.queryCount = timestamp_count;
    r = gpu.vk.CreateQueryPool(gpu.device, &queries, gpu.allocator(), &list->queries_);
    if (r != VK_SUCCESS) return gpu.error(r, "timestamp queries");
  }
  VkCommandBufferBeginInfo begin{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  // A decode step may be submitted for the next token while the one before still runs.
  begin.flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
  r = gpu.vk.BeginCommandBuffer(list->commands_, &begin);
  if (r != VK_SUCCESS) return gpu.error(r, "recording");
  if (list->queries_) gpu.vk.CmdResetQueryPool(list->commands_, list->queries_, 0, timestamp_count);
  return list;
}

CommandListImpl::~CommandListImpl() {
  if (!queue_.drain(last_submission_)) return;
  if (queries_) gpu_.vk.DestroyQueryPool(gpu_.device, queries_, gpu_.allocator());
  if (pool_) gpu_.vk.DestroyCommandPool(gpu_.device, pool_, gpu_.allocator());
}

// Keeps the first misuse and says whether to leave; nothing may be recorded after finish().
template <typename Interface>
bool RecorderImpl<Interface>::refuse(bool bad, const char* why) {
  if (finished_) return true;
  if (bad && !misuse_) misuse_ = why;
  return bad;
}

template <typename Interface>
void RecorderImpl<Interface>::dispatch(const Pipeline& pipeline, const BindingSet& set,
                                       std::span<const std::uint32_t> push, std::array<std::uint32_t, 3> base,
                                       std::array<std::uint32_t, 3> count) {
  const PipelineImpl& p = impl(pipeline);
  const BindingSetImpl& bindings = impl(set);
  if (refuse(!computes_, "dispatch: the transfer lane only copies") ||
      refuse(push.size_bytes() != p.desc().push_bytes, "dispatch: push bytes differ from the pipeline's") ||
      refuse(bindings.count() != p.desc().binding_count, "dispatch: a binding set of another pipeline"))
    return;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::uint64_t most = gpu_.limits().max_group_count[i];
    if (refuse(std::uint64_t{base[i]} + count[i] > most, "dispatch: base + count exceeds max_group_count") ||
        refuse(count[i] == 0, "dispatch: a count of 0 workgroups"))
      return;
  }
  const VkDescriptorSet handle = bindings.handle();
  gpu_.vk.CmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, p.handle());
  gpu_.vk.CmdBindDescriptorSets(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, p.layout(), 0, 1, &handle, 0,
                                nullptr);
  if (!push.empty())
    gpu_.vk.CmdPushConstants(commands_, p.layout(), VK_SHADER_STAGE_COMPUTE_BIT, 0, p.desc().push_bytes,
                             push.data());
  // Synchronisation validation 1.3.239 tracks vkCmdDispatch, but not vkCmdDispatchBase.
  if (base == std::array<std::uint32_t, 3>{})
    gpu_.vk.CmdDispatch(commands_, count[0], count[1], count[2]);
  else
    gpu_.vk.CmdDispatchBase(commands_, base[0], base[1], base[2], count[0], count[1], count[2]);
}

template <typename Interface>
HostAccess RecorderImpl<Interface>::writes() const {
  if (!computes_) return kCopies;
  return {kCopies.stages | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, kCopies.access | VK_ACCESS_SHADER_WRITE_BIT};
}

template <typename Interface>
HostAccess RecorderImpl<Interface>::all() const {
  HostAccess out = writes();
  out.access |= VK_ACCESS_TRANSFER_READ_BIT;
  if (computes_) out.access |= VK_ACCESS_SHADER_READ_BIT;
  return out;
}

// The only place of the project that records a barrier: the schedule decides where.
template <typename Interface>
void RecorderImpl<Interface>::record_barrier(HostAccess from, HostAccess to) {
  if (refuse(false, "")) return;
  VkMemoryBarrier memory{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  memory.srcAccessMask = from.access;
  memory.dstAccessMask = to.access;
  gpu_.vk.CmdPipelineBarrier(commands_, from.stages, to.stages, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

template <typename Interface>
void RecorderImpl<Interface>::barrier() {
  record_barrier(writes(), all());
}

template <typename Interface>
void RecorderImpl<Interface>::copy(const Buffer& from, std::uint64_t from_offset, const Buffer& to,
                                   std::uint64_t to_offset, std::uint64_t bytes) {
  if (refuse(bytes == 0 || !inside(from, from_offset, bytes) || !inside(to, to_offset, bytes),
             "copy: an empty range, or one outside its buffer"))
    return;
  const VkBufferCopy region{from_offset, to_offset, bytes};
  gpu_.vk.CmdCopyBuffer(commands_, impl(from).handle(), impl(to).handle(), 1, &region);
}

template <typename Interface>
void RecorderImpl<Interface>::fill(const Buffer& buffer, std::uint64_t offset, std::uint64_t bytes,
                                   std::uint32_t word) {
  if (refuse(bytes == 0 || !inside(buffer, offset, bytes),
             "fill: an empty range, or one outside its buffer") ||
      refuse(offset % 4 != 0 || bytes % 4 != 0, "fill: offset and bytes must be multiples of 4"))
    return;
  gpu_.vk.CmdFillBuffer(commands_, impl(buffer).handle(), offset, bytes, word);
}

template class RecorderImpl<CommandList>;
template class RecorderImpl<HostRecorder>;

void CommandListImpl::barrier_to_host() {
  record_barrier(writes(), {VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT});
}

// And from earlier recordings, which used the same scratch and outputs: the host knows of no such writes.
void HostRecorderImpl::barrier_from(HostAccess host) {
  host.stages |= VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
  host.access |= VK_ACCESS_SHADER_WRITE_BIT;
  record_barrier(host, all());
}
void HostRecorderImpl::barrier_to(HostAccess host) { record_barrier(writes(), host); }

Result<void> HostRecorderImpl::finish() {
  finished_ = true;
  if (misuse_) return Error{Code::internal, misuse_};
  return {};
}

void CommandListImpl::timestamp(std::uint32_t index) {
  if (refuse(index >= written_.size(), "timestamp: an index outside the count given at creation") ||
      refuse(written_[index], "timestamp: an index written before"))
    return;
  written_[index] = true;
  if (queries_) gpu_.vk.CmdWriteTimestamp(commands_, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries_, index);
}

Result<void> CommandListImpl::finish() {
  if (finished_) return Error{Code::invalid_argument, "finish: the command list is finished already"};
  const VkResult r = gpu_.vk.EndCommandBuffer(commands_);
  if (r != VK_SUCCESS) return gpu_.error(r, "recording");
  if (misuse_) return Error{Code::internal, misuse_};
  finished_ = true;
  ++gpu_.records;
  return {};
}

Result<void> CommandListImpl::timestamps(std::span<double> ns) {
  if (gpu_.lost) return lost_error();
  if (!queries_) return Error{Code::unsupported, "this device or command list has no timestamps"};
  if (last_submission_ == 0) return Error{Code::invalid_argument, "timestamps: the list was never submitted"};
  for (const bool written : written_)
    if (!written) return Error{Code::invalid_argument, "timestamps: not every one was recorded"};
  if (ns.size() != ticks_.size())
    return Error{Code::invalid_argument, "timestamps: room for " + std::to_string(ns.size()) + ", not " +
                                             std::to_string(ticks_.size())};
  const VkResult r = gpu_.vk.GetQueryPoolResults(
      gpu_.device, queries_, 0, static_cast<std::uint32_t>(ticks_.size()),
      ticks_.size() * sizeof(std::uint64_t), ticks_.data(), sizeof(std::uint64_t), VK_QUERY_RESULT_64_BIT);
  if (r == VK_NOT_READY) return Error{Code::invalid_argument, "timestamps: the submission has not ended"};
  if (r != VK_SUCCESS) return gpu_.error(r, "timestamps");
  const std::uint32_t bits = gpu_.physical.timestamp_bits;
  const std::uint64_t mask = bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
  for (std::size_t i = 0; i < ns.size(); ++i)  // masked differences survive one wrap of the counter
    ns[i] =
        static_cast<double>((ticks_[i] - ticks_[0]) & mask) * static_cast<double>(gpu_.limits().timestamp_ns);
  return {};
}

}  // namespace tessera
