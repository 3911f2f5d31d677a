#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/probe.h"

layout(constant_id = kProbeSpecGroup) const uint GROUP = 64;
layout(local_size_x_id = kProbeSpecGroup) in;

layout(push_constant) uniform Push { ProbePush p; };
layout(std430, binding = kProbeOut) writeonly buffer Out { float result[]; };

void main() {
  vec4 chain[kProbeChains];
  const vec4 factor = vec4(0.99, 0.98, 0.97, 0.96) * float(p.loops & 1 | 1);
  const vec4 term = vec4(float(gl_LocalInvocationID.x));
  [[unroll]] for (uint i = 0; i < kProbeChains; ++i) chain[i] = term + float(i);
  for (uint loop = 0; loop < p.loops; ++loop)
    [[unroll]] for (uint step = 0; step < kProbeSteps; ++step)
      [[unroll]] for (uint i = 0; i < kProbeChains; ++i) chain[i] = fma(chain[i], factor, term);
  vec4 sum = vec4(0);
  [[unroll]] for (uint i = 0; i < kProbeChains; ++i) sum += chain[i];
  if (gl_GlobalInvocationID.x == p.never) result[0] = sum.x + sum.y + sum.z + sum.w;
}
