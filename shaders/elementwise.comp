#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/elementwise.h"
#include "interface/state.h"

layout(constant_id = kElementwiseSpecGroup) const uint GROUP = 64;
layout(constant_id = kElementwiseSpecKind) const uint KIND = kElementwiseAdd;
layout(constant_id = kElementwiseSpecAct) const uint ACT = kActNone;
layout(constant_id = kElementwiseSpecDynamic) const uint DYNAMIC = 0;
layout(local_size_x_id = kElementwiseSpecGroup) in;

layout(push_constant) uniform Push { ElementwisePush p; };
layout(std430, binding = kElementwiseA) readonly buffer A { float a[]; };   // (rows, dim)
layout(std430, binding = kElementwiseB) readonly buffer B { float b[]; };   // (rows, dim)
layout(std430, binding = kElementwiseY) writeonly buffer Y { float y[]; };  // (rows, dim)
layout(std430, binding = kElementwiseState) readonly buffer State { uint state[]; };

#include "lib/activation.glsl"
#include "lib/grid.glsl"

void main() {
  uint rows = DYNAMIC != 0 ? min(p.rows, state[kStateRows]) : p.rows;
  uint first = group_index(p.groups_x, p.groups_y) * (GROUP * kElementwisePerLane) + gl_LocalInvocationID.x;
  for (uint step = 0; step < kElementwisePerLane; ++step) {
    uint i = first + step * GROUP;
    if (i >= rows * p.dim) return;
    if (KIND == kElementwiseAdd) {
      y[i] = a[i] + b[i];
    } else {
      float value = activate(ACT, a[i]);
      y[i] = KIND == kElementwiseGlu ? value * b[i] : value;
    }
  }
}
