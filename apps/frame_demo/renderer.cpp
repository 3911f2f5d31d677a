#include "renderer.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace demo {
namespace {

VkImageMemoryBarrier change_layout(VkImage image, VkImageLayout from, VkImageLayout to, VkAccessFlags before,
                                   VkAccessFlags after) {
  VkImageMemoryBarrier barrier{VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER};
  barrier.srcAccessMask = before;
  barrier.dstAccessMask = after;
  barrier.oldLayout = from;
  barrier.newLayout = to;
  barrier.srcQueueFamilyIndex = barrier.dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED;
  barrier.image = image;
  barrier.subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1};
  return barrier;
}

VkBufferImageCopy whole(std::uint32_t width, std::uint32_t height) {
  VkBufferImageCopy copy{};
  copy.imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1};
  copy.imageExtent = {width, height, 1};
  return copy;
}

}  // namespace

Expected<Renderer> Renderer::create(const Gpu& gpu, VkExtent2D extent, const Atlas& atlas) {
  Renderer out(gpu, extent);
  const VkExtent2D size{static_cast<std::uint32_t>(atlas.width), static_cast<std::uint32_t>(atlas.height)};
  auto image = Image::create(gpu, size, VK_FORMAT_R8_UNORM,
                             VK_IMAGE_USAGE_SAMPLED_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT);
  if (!image) return image.failure();
  out.atlas_ = *std::move(image);
  auto pipelines = Pipelines::create(gpu.device(), extent, out.atlas_.view.get());
  if (!pipelines) return pipelines.failure();
  out.pipelines_ = *std::move(pipelines);
  for (Slot& slot : out.slots_)
    if (auto made = out.make_slot(slot); !made) return made.failure();
  if (auto copied = out.upload(atlas); !copied) return copied.failure();
  return out;
}

Renderer::~Renderer() {
  for (const Slot& slot : slots_)  // what is in flight uses what is destroyed here
    if (slot.in_flight) vkWaitForFences(gpu_->device(), 1, slot.fence.address(), VK_TRUE, UINT64_MAX);
}

Expected<Done> Renderer::make_slot(Slot& slot) {
  const VkDevice device = gpu_->device();
  auto target = Image::create(*gpu_, extent_, kColorFormat,
                              VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT);
  if (!target) return target.failure();
  slot.target = *std::move(target);
  VkFramebufferCreateInfo frame{VK_STRUCTURE_TYPE_FRAMEBUFFER_CREATE_INFO};
  frame.renderPass = pipelines_.pass();
  frame.attachmentCount = 1;
  frame.pAttachments = slot.target.view.address();
  frame.width = extent_.width;
  frame.height = extent_.height;
  frame.layers = 1;
  if (auto made = slot.framebuffer.make(device, vkCreateFramebuffer, frame, "creating a framebuffer"); !made)
    return made;
  VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
  pool.flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT;
  pool.queueFamilyIndex = gpu_->family();
  if (auto made = slot.pool.make(device, vkCreateCommandPool, pool, "creating a command pool"); !made)
    return made;
  VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
  allocate.commandPool = slot.pool.get();
  allocate.commandBufferCount = 1;
  if (auto made = checked(vkAllocateCommandBuffers(device, &allocate, &slot.commands), "allocating commands");
      !made)
    return made;
  const VkFenceCreateInfo fence{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
  return slot.fence.make(device, vkCreateFence, fence, "creating a fence");
}

Expected<Done> Renderer::upload(const Atlas& atlas) {
  auto staging = Buffer::create(*gpu_, atlas.cover.size(), VK_BUFFER_USAGE_TRANSFER_SRC_BIT);
  if (!staging) return staging.failure();
  std::memcpy(staging->mapped, atlas.cover.data(), atlas.cover.size());
  Slot& slot = slots_[0];
  if (auto begun = begin(slot); !begun) return begun;
  const VkImageMemoryBarrier writable =
      change_layout(atlas_.image.get(), VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 0,
                    VK_ACCESS_TRANSFER_WRITE_BIT);
  vkCmdPipelineBarrier(slot.commands, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 0,
                       nullptr, 0, nullptr, 1, &writable);
  const VkBufferImageCopy copy =
      whole(static_cast<std::uint32_t>(atlas.width), static_cast<std::uint32_t>(atlas.height));
  vkCmdCopyBufferToImage(slot.commands, staging->buffer.get(), atlas_.image.get(),
                         VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1, &copy);
  const VkImageMemoryBarrier readable = change_layout(
      atlas_.image.get(), VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL,
      VK_ACCESS_TRANSFER_WRITE_BIT, VK_ACCESS_SHADER_READ_BIT);
  vkCmdPipelineBarrier(slot.commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT,
                       0, 0, nullptr, 0, nullptr, 1, &readable);
  if (auto sent = end_and_submit(slot); !sent) return sent;
  if (auto ended = reap(slot, std::nullopt); !ended) return ended.failure();
  finished_.clear();
  return Done{};
}

Expected<Done> Renderer::begin(Slot& slot) {
  if (auto reset = checked(vkResetCommandPool(gpu_->device(), slot.pool.get(), 0), "resetting commands");
      !reset)
    return reset;
  VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  info.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
  return checked(vkBeginCommandBuffer(slot.commands, &info), "recording a frame");
}

Expected<Done> Renderer::record(Slot& slot, const DrawList& list) {
  const VkDeviceSize glyph_offset = list.shapes.size() * sizeof(ShapeInstance);
  const VkDeviceSize bytes = glyph_offset + list.glyphs.size() * sizeof(GlyphInstance);
  if (bytes > slot.instances.bytes) {
    auto buffer =
        Buffer::create(*gpu_, std::max<VkDeviceSize>(2 * bytes, 65536), VK_BUFFER_USAGE_VERTEX_BUFFER_BIT);
    if (!buffer) return buffer.failure();
    slot.instances = *std::move(buffer);
  }
  if (bytes > 0) {
    auto* shapes = static_cast<ShapeInstance*>(slot.instances.mapped);
    for (const Shape& shape : list.shapes) *shapes++ = instance_of(shape);
    auto* glyphs = reinterpret_cast<GlyphInstance*>(shapes);
    for (const Glyph& glyph : list.glyphs) *glyphs++ = instance_of(glyph);
  }
  const auto width = static_cast<float>(extent_.width), height = static_cast<float>(extent_.height);
  const ViewConstants view{width,
                           height,
                           height / kViewHeight,
                           list.time,
                           list.camera,
                           list.fire,
                           list.backdrop == Backdrop::kForest ? 1.0f : 0.0f};
  VkRenderPassBeginInfo pass{VK_STRUCTURE_TYPE_RENDER_PASS_BEGIN_INFO};
  pass.renderPass = pipelines_.pass();
  pass.framebuffer = slot.framebuffer.get();
  pass.renderArea = {{0, 0}, extent_};
  vkCmdBeginRenderPass(slot.commands, &pass, VK_SUBPASS_CONTENTS_INLINE);
  pipelines_.draw(slot.commands, view, slot.instances.buffer.get(), list.shapes.size(), list.glyphs.size(),
                  glyph_offset);
  vkCmdEndRenderPass(slot.commands);
  return Done{};
}

Expected<Done> Renderer::end_and_submit(Slot& slot) {
  if (auto ended = checked(vkEndCommandBuffer(slot.commands), "recording a frame"); !ended) return ended;
  VkSubmitInfo submit{VK_STRUCTURE_TYPE_SUBMIT_INFO};
  submit.commandBufferCount = 1;
  submit.pCommandBuffers = &slot.commands;
  if (auto sent = checked(vkQueueSubmit(gpu_->queue(), 1, &submit, slot.fence.get()), "submitting a frame");
      !sent)
    return sent;
  slot.in_flight = true;
  return Done{};
}

Expected<bool> Renderer::reap(Slot& slot, std::optional<Clock::time_point> time) {
  if (!slot.in_flight) return true;
  std::uint64_t nanoseconds = UINT64_MAX;
  if (time) {
    const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(*time - Clock::now()).count();
    nanoseconds = static_cast<std::uint64_t>(std::max<std::int64_t>(left, 0));
  }
  const VkResult result = vkWaitForFences(gpu_->device(), 1, slot.fence.address(), VK_TRUE, nanoseconds);
  if (result == VK_TIMEOUT) return false;
  if (result != VK_SUCCESS) return vulkan_failure(result, "waiting for a frame");
  finished_.push_back({slot.id, Clock::now() - slot.begun});
  slot.in_flight = false;
  if (auto reset = checked(vkResetFences(gpu_->device(), 1, slot.fence.address()), "resetting a fence");
      !reset)
    return reset.failure();
  return true;
}

Expected<Done> Renderer::submit(const DrawList& list, std::size_t id, Clock::time_point begun) {
  Slot& slot = slots_[next_];
  if (auto ended = reap(slot, std::nullopt); !ended) return ended.failure();
  slot.id = id;
  slot.begun = begun;
  if (auto started = begin(slot); !started) return started;
  if (auto recorded = record(slot, list); !recorded) return recorded;
  if (auto sent = end_and_submit(slot); !sent) return sent;
  next_ = (next_ + 1) % slots_.size();
  return Done{};
}

Expected<Done> Renderer::wait_until(Clock::time_point time) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {  // the oldest first
    auto ended = reap(slots_[(next_ + i) % slots_.size()], time);
    if (!ended) return ended.failure();
    if (!*ended) return Done{};
  }
  std::this_thread::sleep_until(time);
  return Done{};
}

Expected<Done> Renderer::drain() {
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (auto ended = reap(slots_[(next_ + i) % slots_.size()], std::nullopt); !ended) return ended.failure();
  return Done{};
}

void Renderer::record_readback(Slot& slot, VkBuffer to) {
  const VkBufferImageCopy copy = whole(extent_.width, extent_.height);
  vkCmdCopyImageToBuffer(slot.commands, slot.target.image.get(), VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, to, 1,
                         &copy);
  VkMemoryBarrier barrier{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  barrier.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
  vkCmdPipelineBarrier(slot.commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1,
                       &barrier, 0, nullptr, 0, nullptr);
}

Expected<Picture> Renderer::picture(const DrawList& list) {
  if (auto ended = drain(); !ended) return ended.failure();
  Picture out{extent_.width, extent_.height, {}};
  out.rgba.resize(std::size_t{4} * extent_.width * extent_.height);
  auto pixels = Buffer::create(*gpu_, out.rgba.size(), VK_BUFFER_USAGE_TRANSFER_DST_BIT);
  if (!pixels) return pixels.failure();
  Slot& slot = slots_[next_];
  if (auto started = begin(slot); !started) return started.failure();
  if (auto recorded = record(slot, list); !recorded) return recorded.failure();
  record_readback(slot, pixels->buffer.get());
  if (auto sent = end_and_submit(slot); !sent) return sent.failure();
  if (auto ended = reap(slot, std::nullopt); !ended) return ended.failure();
  finished_.pop_back();
  std::memcpy(out.rgba.data(), pixels->mapped, out.rgba.size());
  return out;
}

}  // namespace demo
