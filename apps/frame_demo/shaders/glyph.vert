#version 460
#extension GL_GOOGLE_include_directive : require
// One quad a glyph, on whole pixels.
#include "view.glsl"
layout(location = 0) in ivec2 place;
layout(location = 1) in uvec4 texels;  // left, top, width, height
layout(location = 2) in vec4 color_in;
layout(location = 0) out vec2 texel;
layout(location = 1) flat out vec4 color;

void main() {
  vec2 corner = vec2(gl_VertexIndex & 1, gl_VertexIndex >> 1) * vec2(texels.zw);
  texel = vec2(texels.xy) + corner;
  color = color_in;
  gl_Position = vec4((vec2(place) + corner) / view.size * 2 - 1, 0, 1);
}
