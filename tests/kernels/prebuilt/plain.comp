#version 460
#extension GL_GOOGLE_include_directive : require
#include "push.h"
layout(constant_id = 0) const uint GROUP = 32;
layout(local_size_x_id = 0) in;
layout(push_constant) uniform Push { PlainPush p; };
layout(std430, binding = 0) writeonly buffer Out { float y[]; };
void main() {
  if (gl_GlobalInvocationID.x < p.count) y[gl_GlobalInvocationID.x] = p.value;
}
