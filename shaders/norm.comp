#version 460
#extension GL_GOOGLE_include_directive : require
#ifdef USE_SUBGROUP
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#include "interface/norm.h"
#include "interface/state.h"

layout(constant_id = kNormSpecGroup) const uint GROUP = 64;
layout(constant_id = kNormSpecFlags) const uint FLAGS = 0;
layout(local_size_x_id = kNormSpecGroup) in;
const bool LAYER = (FLAGS & kNormFlagLayer) != 0;
const bool BIAS = (FLAGS & kNormFlagBias) != 0;
const bool RESIDUAL = (FLAGS & kNormFlagResidual) != 0;

layout(push_constant) uniform Push { NormPush p; };
layout(std430, binding = kNormX) readonly buffer X { float x[]; };                       // (rows, dim)
layout(std430, binding = kNormWeight) readonly buffer Weight { float weight[]; };        // (dim)
layout(std430, binding = kNormBias) readonly buffer Bias { float bias[]; };              // (dim)
layout(std430, binding = kNormResidual) readonly buffer Residual { float residual[]; };  // (rows, dim)
layout(std430, binding = kNormY) writeonly buffer Y { float y[]; };                      // (rows, dim)
layout(std430, binding = kNormSum) writeonly buffer Sum { float total[]; };              // (rows, dim)
layout(std430, binding = kNormState) readonly buffer State { uint state[]; };

#include "lib/grid.glsl"
#include "lib/reduce.glsl"

float value(uint i) { return RESIDUAL ? x[i] + residual[i] : x[i]; }

void main() {
  uint row = group_index(p.groups_x, p.groups_y);
  uint rows = p.dynamic_rows != 0 ? min(p.rows, state[kStateRows]) : p.rows;
  if (row >= rows) return;
  uint first = row * p.dim, end = first + p.dim, lane = first + gl_LocalInvocationID.x;

  float mean = 0.0;
  if (LAYER) {
    float s = 0.0;
    for (uint i = lane; i < end; i += GROUP) s += value(i);
    mean = group_sum(s) / float(p.dim);
  }
  float squares = 0.0;  // in a second pass: E[v^2] - mean^2 would cancel
  for (uint i = lane; i < end; i += GROUP) {
    float v = value(i) - mean;
    squares += v * v;
  }
  float scale = inversesqrt(group_sum(squares) / float(p.dim) + p.eps);

  for (uint i = lane; i < end; i += GROUP) {  // `sum` is written last, so it may be x or residual itself
    float v = value(i);
    if (RESIDUAL) total[i] = v;
    float scaled = (v - mean) * scale * weight[i - first];
    y[i] = BIAS ? scaled + bias[i - first] : scaled;
  }
}
