// What both matmul families share: bindings, guarded loads of x, and the epilogue.
const bool BIAS = (FLAGS & kMatmulFlagBias) != 0;
const bool GATED = (FLAGS & kMatmulFlagGated) != 0;
const bool DYNAMIC = (FLAGS & kMatmulFlagDynamic) != 0;
const bool VEC4 = (FLAGS & kMatmulFlagVec4) != 0;
const uint MATRICES = GATED ? 2 : 1;  // w, or w and up

layout(push_constant) uniform Push { MatmulPush p; };
layout(std430, binding = kMatmulX) readonly buffer X4 { vec4 x4[]; };  // (rows, k)
layout(std430, binding = kMatmulX) readonly buffer X1 { float x1[]; };
layout(std430, binding = kMatmulW) readonly buffer W4 { uvec4 w4[]; };  // (n, row_words)
layout(std430, binding = kMatmulW) readonly buffer W1 { uint w1[]; };
layout(std430, binding = kMatmulUp) readonly buffer Up4 { uvec4 up4[]; };  // (n, row_words)
layout(std430, binding = kMatmulUp) readonly buffer Up1 { uint up1[]; };
layout(std430, binding = kMatmulBias) readonly buffer Bias { float bias[]; };         // (first + n)
layout(std430, binding = kMatmulUpBias) readonly buffer UpBias { float up_bias[]; };  // (first + n)
layout(std430, binding = kMatmulY) writeonly buffer Y { float y[]; };                 // (rows, y_stride)
layout(std430, binding = kMatmulState) readonly buffer State { uint state[]; };

uvec4 weight_words(uint which, uint i) { return which == 0 ? w4[i] : up4[i]; }
uint weight_word(uint which, uint i) { return which == 0 ? w1[i] : up1[i]; }

#include "activation.glsl"
#include "grid.glsl"
#include "load.glsl"

uint row_count() { return DYNAMIC ? min(p.rows, state[kStateRows]) : p.rows; }

// x[row, col..col+3], zero past k; col is a multiple of 4.
vec4 load_x(uint row, uint col) {
  uint i = row * p.k + col;
  if (VEC4) return col < p.k ? x4[i >> 2] : vec4(0);
  return vec4(col < p.k ? x1[i] : 0.0, col + 1 < p.k ? x1[i + 1] : 0.0, col + 2 < p.k ? x1[i + 2] : 0.0,
              col + 3 < p.k ? x1[i + 3] : 0.0);
}

// acc + a.b, one fused step a product.
float dot4(vec4 a, vec4 b, float acc) {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

void store_y(uint row, uint n, float dot_w, float dot_up) {
  uint col = p.first + n;
  float value = activate(ACT, BIAS ? dot_w + bias[col] : dot_w);
  if (GATED) value *= BIAS ? dot_up + up_bias[col] : dot_up;
  y[row * p.y_stride + col] = value;
}
