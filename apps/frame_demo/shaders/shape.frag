#version 460
#extension GL_GOOGLE_include_directive : require
// Signed distances, negative inside. The numbers of forms are those of draw.h.
#include "view.glsl"
layout(location = 0) in vec2 at;
layout(location = 1) flat in vec4 size;  // half width, half height, round, border
layout(location = 2) flat in vec4 rest;  // soft, phase, tail
layout(location = 3) flat in uint kind;
layout(location = 4) flat in vec4 fill;
layout(location = 5) flat in vec4 second;
layout(location = 0) out vec4 color;  // premultiplied

float box(vec2 p, vec2 half_size, float r) {
  vec2 q = abs(p) - half_size + r;
  return length(max(q, 0)) + min(max(q.x, q.y), 0) - r;
}

float ellipse(vec2 p, vec2 r) {
  float k = length(p / r);
  return k * (k - 1) / max(length(p / (r * r)), 1e-4);
}

float segment(vec2 p, vec2 a, vec2 b) {
  vec2 along = b - a;
  return length(p - a - along * clamp(dot(p - a, along) / dot(along, along), 0, 1));
}

// Positive to the right of a -> b as it is seen on the screen.
float side(vec2 p, vec2 a, vec2 b) {
  vec2 along = b - a;
  return (along.x * (p.y - a.y) - along.y * (p.x - a.x)) / length(along);
}

// Corners in clockwise order on the screen.
float triangle(vec2 p, vec2 a, vec2 b, vec2 c) {
  float inside = min(min(side(p, a, b), side(p, b, c)), side(p, c, a));
  if (inside > 0) return -inside;
  return min(min(segment(p, a, b), segment(p, b, c)), segment(p, c, a));
}

float leaf(vec2 p, vec2 half_size) {
  // Two circles of radius r through both points, d to either side.
  float d = (half_size.y * half_size.y - half_size.x * half_size.x) / (2 * half_size.x);
  return length(vec2(abs(p.x) + d, p.y)) - d - half_size.x;
}

float flame(vec2 p, vec2 half_size, float phase) {
  float up = clamp(0.5 - p.y / (2 * half_size.y), 0, 1);  // 0: the foot
  p.x += half_size.x * up * up * (0.55 * sin(phase + up * 4.0) + 0.3 * sin(phase * 1.7 + up * 9.0));
  float wide = half_size.x * sqrt(min(up * 6, 1)) * pow(1 - up, 0.75);
  return max(abs(p.x) - wide, abs(p.y) - half_size.y) * 0.7;
}

float bubble(vec2 p, vec2 half_size, float r, vec2 tip) {
  float foot = clamp(tip.x * 0.6, -half_size.x + r + 8, half_size.x - r - 8);
  vec2 a = vec2(foot - 6, half_size.y - 2), b = vec2(foot + 6, half_size.y - 2);
  return min(box(p, half_size, r), triangle(p, a, b, tip));
}

float distance_to(vec2 p) {
  switch (kind) {
    case 0: return box(p, size.xy, size.z);
    case 1: return ellipse(p, size.xy);
    case 3: return p.y < 0 ? length(vec2(abs(p.x) - size.x, p.y)) - 0.5 * size.z
                           : abs(ellipse(p, size.xy)) - 0.5 * size.z;
    case 4: {
      vec2 h = size.xy - size.z;
      return triangle(p, vec2(-h.x, h.y), vec2(0, -h.y), h) - size.z;
    }
    case 5: return leaf(p, size.xy);
    case 6: return flame(p, size.xy, rest.y);
    default: return bubble(p, size.xy, size.z, rest.zw);
  }
}

void main() {
  if (kind == 2) {  // light
    float k = max(0, 1 - length(at / size.xy));
    color = vec4(fill.rgb * (fill.a * k * k), 0);
    return;
  }
  float d = distance_to(at);
  float soft = rest.x;
  float cover = clamp(0.5 - d / soft, 0, 1);
  vec4 c = fill;
  if (size.w > 0)
    c = mix(fill, second, clamp(0.5 + (d + size.w) * view.scale, 0, 1));
  else
    c = mix(fill, second, clamp(0.5 + 0.5 * at.y / size.y, 0, 1));
  color = vec4(c.rgb, 1) * (c.a * cover);
}
