#version 460
#extension GL_GOOGLE_include_directive : require
// One quad a shape, large enough for its soft edge and its tail.
#include "view.glsl"
layout(location = 0) in vec4 box;    // centre, half
layout(location = 1) in vec4 form;   // angle, round, border, soft
layout(location = 2) in vec3 extra;  // phase, tail x, tail y
layout(location = 3) in uint kind;
layout(location = 4) in vec4 fill_in;
layout(location = 5) in vec4 second_in;
layout(location = 0) out vec2 at;  // units from the centre, in the shape's own directions
layout(location = 1) flat out vec4 size;
layout(location = 2) flat out vec4 rest;
layout(location = 3) flat out uint kind_out;
layout(location = 4) flat out vec4 fill;
layout(location = 5) flat out vec4 second;

const uint kBubble = 7;

void main() {
  float pad = form.w + 1.5 / view.scale;
  vec2 low = -box.zw - pad, high = box.zw + pad;
  if (kind == kBubble) {
    low = min(low, extra.yz - pad);
    high = max(high, extra.yz + pad);
  }
  at = vec2(gl_VertexIndex & 1, gl_VertexIndex >> 1) * (high - low) + low;
  size = vec4(box.zw, form.y, form.z);
  rest = vec4(max(form.w, 1 / view.scale), extra);
  kind_out = kind;
  fill = fill_in;
  second = second_in;
  float c = cos(form.x), s = sin(form.x);
  vec2 place = box.xy + vec2(c * at.x - s * at.y, s * at.x + c * at.y);
  gl_Position = vec4(place * view.scale / view.size * 2 - 1, 0, 1);
}
