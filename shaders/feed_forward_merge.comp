// y = the sum of partials over the splits + bias + residual: a lane an element.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/feed_forward.h"
#include "interface/state.h"

layout(constant_id = kFeedForwardSpecGroup) const uint GROUP = 128;
layout(constant_id = kFeedForwardSpecFlags) const uint FLAGS = 0;
layout(local_size_x_id = kFeedForwardSpecGroup) in;

#include "lib/feed_forward_out.glsl"
layout(std430, binding = kFeedForwardPartials) readonly buffer Partials { float partials[]; };

void main() {
  uint i = group_index(p.groups_x, p.groups_y) * GROUP + gl_LocalInvocationID.x;
  if (i >= row_count() * p.n) return;
  float sum = 0.0;
  for (uint split = 0; split < p.splits; ++split) sum += partials[split * p.rows * p.n + i];
  store_y(i / p.n, i % p.n, sum);
}
