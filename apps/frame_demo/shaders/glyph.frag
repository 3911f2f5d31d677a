#version 460
layout(set = 0, binding = 0) uniform sampler2D atlas;
layout(location = 0) in vec2 texel;
layout(location = 1) flat in vec4 color;
layout(location = 0) out vec4 result;  // premultiplied

void main() {
  float cover = texelFetch(atlas, ivec2(texel), 0).r * color.a;
  result = vec4(color.rgb * cover, cover);
}
