#version 450
// out[i] = in[i] * FACTOR + add, for i below count.
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint FACTOR = 1;
layout(push_constant) uniform Push {
  uint add;
  uint count;
};
layout(set = 0, binding = 0, std430) readonly buffer In { uint values[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Out { uint results[]; };

void main() {
  uint i = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
  if (i < count) results[i] = values[i] * FACTOR + add;
}
