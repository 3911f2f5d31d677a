#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/softmax.h"

layout(constant_id = kSoftmaxSpecGroup) const uint GROUP = 64;
layout(constant_id = kSoftmaxSpecColumns) const uint COLUMNS = 1;
layout(local_size_x_id = kSoftmaxSpecGroup) in;

layout(push_constant) uniform Push { SoftmaxPush p; };
layout(std430, binding = kSoftmaxX) readonly buffer X { float x[]; };   // (outer, n, inner)
layout(std430, binding = kSoftmaxY) writeonly buffer Y { float y[]; };  // (outer, n, inner)

#include "lib/grid.glsl"

const uint LANES = GROUP / COLUMNS;  // along n
const float kLeast = -3.4028235e38;  // not -infinity: -infinity minus itself is NaN

shared float partial[GROUP];  // (LANES, COLUMNS)

// Over the lanes of one column.
float column_max(float v) {
  uint me = gl_LocalInvocationID.x;
  partial[me] = v;
  for (uint half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
    barrier();
    if (me < half_lanes * COLUMNS) partial[me] = max(partial[me], partial[me + half_lanes * COLUMNS]);
  }
  barrier();
  return partial[me % COLUMNS];
}

float column_sum(float v) {
  uint me = gl_LocalInvocationID.x;
  barrier();  // the maximum has been read
  partial[me] = v;
  for (uint half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
    barrier();
    if (me < half_lanes * COLUMNS) partial[me] += partial[me + half_lanes * COLUMNS];
  }
  barrier();
  return partial[me % COLUMNS];
}

void main() {
  uint blocks = (p.inner + COLUMNS - 1) / COLUMNS;
  uint group = group_index(p.groups_x, p.groups_y);
  if (group >= p.outer * blocks) return;
  uint column = group % blocks * COLUMNS + gl_LocalInvocationID.x % COLUMNS;
  bool inside = column < p.inner;  // the others stay for the barriers
  uint first = group / blocks * p.n * p.inner + column;
  uint begin = inside ? gl_LocalInvocationID.x / COLUMNS : p.n;

  float most = kLeast;
  for (uint i = begin; i < p.n; i += LANES) most = max(most, x[first + i * p.inner]);
  most = column_max(most);
  float sum = 0.0;
  for (uint i = begin; i < p.n; i += LANES) sum += exp(x[first + i * p.inner] - most);
  sum = column_sum(sum);
  for (uint i = begin; i < p.n; i += LANES) {
    float e = exp(x[first + i * p.inner] - most);
    y[first + i * p.inner] = sum == 0.0 ? 0.0 : e / sum;  // nothing but -infinity: zeros
  }
}
