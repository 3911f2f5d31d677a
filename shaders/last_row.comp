#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/state.h"
#include "interface/step.h"

layout(constant_id = kLastRowSpecGroup) const uint GROUP = 64;
layout(local_size_x_id = kLastRowSpecGroup) in;

layout(push_constant) uniform Push { LastRowPush p; };
layout(std430, binding = kLastRowX) readonly buffer X { float x[]; };  // (rows, dim)
layout(std430, binding = kLastRowState) readonly buffer State { uint state[]; };
layout(std430, binding = kLastRowResidual) readonly buffer Residual { float residual[]; };  // (rows, dim)
layout(std430, binding = kLastRowY) writeonly buffer Y { float y[]; };  // (1, dim)

void main() {
  uint i = gl_WorkGroupID.x * GROUP + gl_LocalInvocationID.x;
  uint rows = state[kStateRows];
  if (rows == 0 || i >= p.dim) return;
  uint at = (rows - 1) * p.dim + i;
  y[i] = p.residual != 0 ? x[at] + residual[at] : x[at];
}
