#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#include "push.h"
layout(constant_id = 0) const uint GROUP = 32;
layout(local_size_x_id = 0) in;
layout(push_constant) uniform Push { PlainPush p; };
layout(std430, binding = 0) writeonly buffer Out { float y[]; };  // (count, SIDE, SIDE)
void main() {
  if (gl_WorkGroupID.x >= p.count) return;
  coopmat<float, gl_ScopeSubgroup, SIDE, SIDE, gl_MatrixUseAccumulator> m =
      coopmat<float, gl_ScopeSubgroup, SIDE, SIDE, gl_MatrixUseAccumulator>(p.value);
  coopMatStore(m, y, gl_WorkGroupID.x * SIDE * SIDE, SIDE, gl_CooperativeMatrixLayoutRowMajor);
}
