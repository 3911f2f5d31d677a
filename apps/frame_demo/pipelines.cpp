#include "pipelines.h"

#include <array>
#include <cstddef>

namespace demo {
namespace {

#include "spirv/backdrop_frag.inc"
#include "spirv/backdrop_vert.inc"
#include "spirv/glyph_frag.inc"
#include "spirv/glyph_vert.inc"
#include "spirv/shape_frag.inc"
#include "spirv/shape_vert.inc"

void unpack(Color color, std::uint8_t (&out)[4]) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<std::uint8_t>(color >> (24 - 8 * i));
}

constexpr std::array kShapeInputs{
    VkVertexInputAttributeDescription{0, 0, VK_FORMAT_R32G32B32A32_SFLOAT, offsetof(ShapeInstance, box)},
    VkVertexInputAttributeDescription{1, 0, VK_FORMAT_R32G32B32A32_SFLOAT, offsetof(ShapeInstance, form)},
    VkVertexInputAttributeDescription{2, 0, VK_FORMAT_R32G32B32_SFLOAT, offsetof(ShapeInstance, extra)},
    VkVertexInputAttributeDescription{3, 0, VK_FORMAT_R32_UINT, offsetof(ShapeInstance, kind)},
    VkVertexInputAttributeDescription{4, 0, VK_FORMAT_R8G8B8A8_UNORM, offsetof(ShapeInstance, fill)},
    VkVertexInputAttributeDescription{5, 0, VK_FORMAT_R8G8B8A8_UNORM, offsetof(ShapeInstance, second)}};
constexpr std::array kGlyphInputs{
    VkVertexInputAttributeDescription{0, 0, VK_FORMAT_R16G16_SINT, offsetof(GlyphInstance, place)},
    VkVertexInputAttributeDescription{1, 0, VK_FORMAT_R16G16B16A16_UINT, offsetof(GlyphInstance, texels)},
    VkVertexInputAttributeDescription{2, 0, VK_FORMAT_R8G8B8A8_UNORM, offsetof(GlyphInstance, color)}};

Expected<Done> make_module(VkDevice device, std::span<const std::uint32_t> words, ShaderModule& out) {
  VkShaderModuleCreateInfo info{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  info.codeSize = words.size_bytes();
  info.pCode = words.data();
  return out.make(device, vkCreateShaderModule, info, "creating a shader module");
}

VkPipelineShaderStageCreateInfo stage(VkShaderStageFlagBits bit, const ShaderModule& module) {
  VkPipelineShaderStageCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO};
  info.stage = bit;
  info.module = module.get();
  info.pName = "main";
  return info;
}

}  // namespace

ShapeInstance instance_of(const Shape& shape) {
  ShapeInstance out{{shape.centre.x, shape.centre.y, shape.half.x, shape.half.y},
                    {shape.angle, shape.round, shape.border, shape.soft},
                    {shape.phase, shape.tail.x, shape.tail.y},
                    static_cast<std::uint32_t>(shape.form),
                    {},
                    {}};
  unpack(shape.fill, out.fill);
  unpack(shape.second != 0 || shape.border > 0 ? shape.second : shape.fill, out.second);
  return out;
}

GlyphInstance instance_of(const Glyph& glyph) {
  GlyphInstance out{{glyph.x, glyph.y}, {glyph.u, glyph.v, glyph.width, glyph.height}, {}};
  unpack(glyph.color, out.color);
  return out;
}

struct Pipelines::Program {
  std::span<const std::uint32_t> vertex, fragment;
  std::uint32_t stride;  // of an instance; 0: no inputs
  std::span<const VkVertexInputAttributeDescription> inputs;
};

Expected<Pipelines> Pipelines::create(VkDevice device, VkExtent2D extent, VkImageView atlas) {
  Pipelines out;
  if (auto made = out.make_pass(device); !made) return made.failure();
  if (auto made = out.make_layout(device, atlas); !made) return made.failure();
  const Program backdrop{spv_backdrop_vert, spv_backdrop_frag, 0, {}};
  const Program shapes{spv_shape_vert, spv_shape_frag, sizeof(ShapeInstance), kShapeInputs};
  const Program glyphs{spv_glyph_vert, spv_glyph_frag, sizeof(GlyphInstance), kGlyphInputs};
  if (auto made = out.make(device, extent, backdrop, out.backdrop_); !made) return made.failure();
  if (auto made = out.make(device, extent, shapes, out.shapes_); !made) return made.failure();
  if (auto made = out.make(device, extent, glyphs, out.glyphs_); !made) return made.failure();
  return out;
}

Expected<Done> Pipelines::make_pass(VkDevice device) {
  VkAttachmentDescription target{};
  target.format = kColorFormat;
  target.samples = VK_SAMPLE_COUNT_1_BIT;
  target.loadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE;  // the backdrop covers all of it
  target.storeOp = VK_ATTACHMENT_STORE_OP_STORE;
  target.stencilLoadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE;
  target.stencilStoreOp = VK_ATTACHMENT_STORE_OP_DONT_CARE;
  target.initialLayout = VK_IMAGE_LAYOUT_UNDEFINED;
  target.finalLayout = VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL;
  const VkAttachmentReference reference{0, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL};
  VkSubpassDescription subpass{};
  subpass.pipelineBindPoint = VK_PIPELINE_BIND_POINT_GRAPHICS;
  subpass.colorAttachmentCount = 1;
  subpass.pColorAttachments = &reference;
  // An earlier frame in the same picture may still be copied; a copy of this one comes after the drawing.
  const std::array<VkSubpassDependency, 2> order{
      VkSubpassDependency{VK_SUBPASS_EXTERNAL, 0,
                          VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT,
                          VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT, VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT,
                          VK_ACCESS_COLOR_ATTACHMENT_READ_BIT | VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT, 0},
      VkSubpassDependency{0, VK_SUBPASS_EXTERNAL, VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT,
                          VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT,
                          VK_ACCESS_TRANSFER_READ_BIT, 0}};
  VkRenderPassCreateInfo info{VK_STRUCTURE_TYPE_RENDER_PASS_CREATE_INFO};
  info.attachmentCount = 1;
  info.pAttachments = &target;
  info.subpassCount = 1;
  info.pSubpasses = &subpass;
  info.dependencyCount = static_cast<std::uint32_t>(order.size());
  info.pDependencies = order.data();
  return pass_.make(device, vkCreateRenderPass, info, "creating the render pass");
}

Expected<Done> Pipelines::make_layout(VkDevice device, VkImageView atlas) {
  VkSamplerCreateInfo nearest{VK_STRUCTURE_TYPE_SAMPLER_CREATE_INFO};
  if (auto made = sampler_.make(device, vkCreateSampler, nearest, "creating a sampler"); !made) return made;
  const VkDescriptorSetLayoutBinding binding{0, VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 1,
                                             VK_SHADER_STAGE_FRAGMENT_BIT, nullptr};
  VkDescriptorSetLayoutCreateInfo set_info{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO};
  set_info.bindingCount = 1;
  set_info.pBindings = &binding;
  if (auto made = set_layout_.make(device, vkCreateDescriptorSetLayout, set_info, "creating a set layout");
      !made)
    return made;
  const VkDescriptorPoolSize one{VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 1};
  VkDescriptorPoolCreateInfo pool_info{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO};
  pool_info.maxSets = 1;
  pool_info.poolSizeCount = 1;
  pool_info.pPoolSizes = &one;
  if (auto made = descriptors_.make(device, vkCreateDescriptorPool, pool_info, "creating a descriptor pool");
      !made)
    return made;
  VkDescriptorSetAllocateInfo allocate{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO};
  allocate.descriptorPool = descriptors_.get();
  allocate.descriptorSetCount = 1;
  allocate.pSetLayouts = set_layout_.address();
  if (auto made = checked(vkAllocateDescriptorSets(device, &allocate, &set_), "allocating a descriptor set");
      !made)
    return made;
  const VkDescriptorImageInfo image{sampler_.get(), atlas, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL};
  VkWriteDescriptorSet write{VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET};
  write.dstSet = set_;
  write.descriptorCount = 1;
  write.descriptorType = VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER;
  write.pImageInfo = &image;
  vkUpdateDescriptorSets(device, 1, &write, 0, nullptr);
  const VkPushConstantRange push{VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT, 0,
                                 sizeof(ViewConstants)};
  VkPipelineLayoutCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
  info.setLayoutCount = 1;
  info.pSetLayouts = set_layout_.address();
  info.pushConstantRangeCount = 1;
  info.pPushConstantRanges = &push;
  return layout_.make(device, vkCreatePipelineLayout, info, "creating the pipeline layout");
}

Expected<Done> Pipelines::make(VkDevice device, VkExtent2D extent, const Program& program, Pipeline& out) {
  ShaderModule vertex, fragment;
  if (auto made = make_module(device, program.vertex, vertex); !made) return made;
  if (auto made = make_module(device, program.fragment, fragment); !made) return made;
  const std::array stages{stage(VK_SHADER_STAGE_VERTEX_BIT, vertex),
                          stage(VK_SHADER_STAGE_FRAGMENT_BIT, fragment)};
  const VkVertexInputBindingDescription binding{0, program.stride, VK_VERTEX_INPUT_RATE_INSTANCE};
  VkPipelineVertexInputStateCreateInfo input{VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO};
  input.vertexBindingDescriptionCount = program.stride == 0 ? 0 : 1;
  input.pVertexBindingDescriptions = &binding;
  input.vertexAttributeDescriptionCount = static_cast<std::uint32_t>(program.inputs.size());
  input.pVertexAttributeDescriptions = program.inputs.data();
  VkPipelineInputAssemblyStateCreateInfo assembly{
      VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO};
  assembly.topology = VK_PRIMITIVE_TOPOLOGY_TRIANGLE_STRIP;
  const VkViewport area{0, 0, static_cast<float>(extent.width), static_cast<float>(extent.height), 0, 1};
  const VkRect2D scissor{{0, 0}, extent};
  VkPipelineViewportStateCreateInfo viewport{VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO};
  viewport.viewportCount = viewport.scissorCount = 1;
  viewport.pViewports = &area;
  viewport.pScissors = &scissor;
  VkPipelineRasterizationStateCreateInfo raster{VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO};
  raster.cullMode = VK_CULL_MODE_NONE;
  raster.lineWidth = 1;
  VkPipelineMultisampleStateCreateInfo samples{VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO};
  samples.rasterizationSamples = VK_SAMPLE_COUNT_1_BIT;
  VkPipelineColorBlendAttachmentState over{};  // premultiplied colours
  over.blendEnable = program.stride == 0 ? VK_FALSE : VK_TRUE;
  over.srcColorBlendFactor = over.srcAlphaBlendFactor = VK_BLEND_FACTOR_ONE;
  over.dstColorBlendFactor = over.dstAlphaBlendFactor = VK_BLEND_FACTOR_ONE_MINUS_SRC_ALPHA;
  over.colorWriteMask = VK_COLOR_COMPONENT_R_BIT | VK_COLOR_COMPONENT_G_BIT | VK_COLOR_COMPONENT_B_BIT |
                        VK_COLOR_COMPONENT_A_BIT;
  VkPipelineColorBlendStateCreateInfo blend{VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO};
  blend.attachmentCount = 1;
  blend.pAttachments = &over;
  VkGraphicsPipelineCreateInfo info{VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO};
  info.stageCount = static_cast<std::uint32_t>(stages.size());
  info.pStages = stages.data();
  info.pVertexInputState = &input;
  info.pInputAssemblyState = &assembly;
  info.pViewportState = &viewport;
  info.pRasterizationState = &raster;
  info.pMultisampleState = &samples;
  info.pColorBlendState = &blend;
  info.layout = layout_.get();
  info.renderPass = pass_.get();
  const auto create = [](VkDevice on, const VkGraphicsPipelineCreateInfo* what,
                         const VkAllocationCallbacks* with, VkPipeline* pipeline) {
    return vkCreateGraphicsPipelines(on, VK_NULL_HANDLE, 1, what, with, pipeline);
  };
  return out.make(device, create, info, "creating a graphics pipeline");
}

void Pipelines::draw(VkCommandBuffer commands, const ViewConstants& view, VkBuffer instances,
                     std::size_t shapes, std::size_t glyphs, VkDeviceSize glyph_offset) const {
  vkCmdPushConstants(commands, layout_.get(), VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT, 0,
                     sizeof(view), &view);
  vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, backdrop_.get());
  vkCmdDraw(commands, 3, 1, 0, 0);
  const auto quads = [&](const Pipeline& pipeline, VkDeviceSize offset, std::size_t count) {
    if (count == 0) return;
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, pipeline.get());
    vkCmdBindVertexBuffers(commands, 0, 1, &instances, &offset);
    vkCmdDraw(commands, 4, static_cast<std::uint32_t>(count), 0, 0);
  };
  quads(shapes_, 0, shapes);
  vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, layout_.get(), 0, 1, &set_, 0, nullptr);
  quads(glyphs_, glyph_offset, glyphs);
}

}  // namespace demo
