// The render pass and the three pipelines of a picture: backdrop, shapes, glyphs.
#pragma once

#include <span>

#include "draw.h"
#include "gpu.h"

namespace demo {

inline constexpr VkFormat kColorFormat = VK_FORMAT_R8G8B8A8_UNORM;

struct ViewConstants {  // shaders/view.glsl
  float width, height, scale, time, camera, fire, forest;
};

struct ShapeInstance {  // inputs of shaders/shape.vert
  float box[4], form[4], extra[3];
  std::uint32_t kind;
  std::uint8_t fill[4], second[4];
};
struct GlyphInstance {  // inputs of shaders/glyph.vert
  std::int16_t place[2];
  std::uint16_t texels[4];
  std::uint8_t color[4];
};
ShapeInstance instance_of(const Shape& shape);
GlyphInstance instance_of(const Glyph& glyph);

class Pipelines {
 public:
  static Expected<Pipelines> create(VkDevice device, VkExtent2D extent, VkImageView atlas);

  VkRenderPass pass() const { return pass_.get(); }
  // Everything between vkCmdBeginRenderPass and vkCmdEndRenderPass; `instances` holds the shapes, then the
  // glyphs at `glyph_offset`.
  void draw(VkCommandBuffer commands, const ViewConstants& view, VkBuffer instances, std::size_t shapes,
            std::size_t glyphs, VkDeviceSize glyph_offset) const;

 private:
  Expected<Done> make_pass(VkDevice device);
  Expected<Done> make_layout(VkDevice device, VkImageView atlas);
  struct Program;
  Expected<Done> make(VkDevice device, VkExtent2D extent, const Program& program, Pipeline& out);

  RenderPass pass_;
  Sampler sampler_;
  SetLayout set_layout_;
  DescriptorPool descriptors_;
  VkDescriptorSet set_ = VK_NULL_HANDLE;
  PipelineLayout layout_;
  Pipeline backdrop_, shapes_, glyphs_;
};

}  // namespace demo
