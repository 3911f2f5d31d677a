// What all matmul families share: bindings, guarded loads of x, and the epilogue.
const bool BIAS = (FLAGS & kMatmulFlagBias) != 0;
const bool GATED = (FLAGS & kMatmulFlagGated) != 0;
const bool DYNAMIC = (FLAGS & kMatmulFlagDynamic) != 0;
const bool VEC4 = (FLAGS & kMatmulFlagVec4) != 0;
const bool RESIDUAL = (FLAGS & kMatmulFlagResidual) != 0;
const bool SCALE = (FLAGS & kMatmulFlagScale) != 0;
const bool X_HALF = (FLAGS & kMatmulFlagXHalf) != 0;
const bool Y_HALF = (FLAGS & kMatmulFlagYHalf) != 0;
const bool BATCH = (FLAGS & kMatmulFlagBatch) != 0;
const bool BIASES = (FLAGS & kMatmulFlagBiases) != 0;
const uint MATRICES = GATED ? 2 : 1;  // w, or w and up

#ifdef FUSED
layout(push_constant) uniform Push { FusedMatmulPush p; };
#else
layout(push_constant) uniform Push { MatmulPush p; };
#endif
layout(std430, binding = kMatmulW) readonly buffer W4 { uvec4 w4[]; };  // (n, row_words)
layout(std430, binding = kMatmulW) readonly buffer W1 { uint w1[]; };
layout(std430, binding = kMatmulUp) readonly buffer Up4 { uvec4 up4[]; };  // (n, row_words)
layout(std430, binding = kMatmulUp) readonly buffer Up1 { uint up1[]; };
layout(std430, binding = kMatmulBias) readonly buffer Bias { float bias[]; };  // (first + n); BIASES: (rows of w)
layout(std430, binding = kMatmulUpBias) readonly buffer UpBias { float up_bias[]; };  // like bias
layout(std430, binding = kMatmulY) buffer Y { uint y[]; };  // (rows, y_stride)
layout(std430, binding = kMatmulState) readonly buffer State { uint state[]; };
layout(std430, binding = kMatmulResidual) readonly buffer Residual { uint residual[]; };  // like y

// The product of the batch that this workgroup computes a part of, and where its matrices begin: elements of x
// and y, rows of w.
uint product = 0, x_from = 0, w_from = 0, y_from = 0;

uvec4 weight_words(uint which, uint i) {
  if (BATCH) i += w_from * p.row_words;
  return which == 0 ? w4[i] : up4[i];
}
uint weight_word(uint which, uint i) {
  if (BATCH) i += w_from * p.row_words * 4;
  return which == 0 ? w1[i] : up1[i];
}

#include "activation.glsl"
#include "grid.glsl"
#include "matmul_fused.glsl"
#include "load.glsl"

uint row_count() { return DYNAMIC ? min(p.rows, state[kStateRows]) : p.rows; }

// The number of a workgroup among the `groups` of its product; sets `product` and where it begins.
uint group_of_product(uint groups) {
  uint group = group_index(p.groups_x, p.groups_y);
  if (!BATCH) return group;
  product = group / groups;
  uint outer = product / p.inner, inner = product % p.inner;
  x_from = outer * p.x_outer + inner * p.x_batch;
  w_from = outer * p.w_outer + inner * p.w_batch;
  y_from = product * p.y_batch;
  return group % groups;
}

bool past_batch() { return BATCH && product >= p.batch; }

#define X_BINDING kMatmulX  // (rows, k)
#include "x_elements.glsl"

// x[row, col..col+3], zero past k; col is a multiple of 4.
vec4 load_x(uint row, uint col) {
  uint i = row * p.x_stride + col;
  if (BATCH) i += x_from;
  if (VEC4) {
    if (col >= p.k) return vec4(0);
    return load_x4(i);
  }
  return vec4(col < p.k ? load_x1(i) : 0.0, col + 1 < p.k ? load_x1(i + 1) : 0.0,
              col + 2 < p.k ? load_x1(i + 2) : 0.0, col + 3 < p.k ? load_x1(i + 3) : 0.0);
}

// acc + a.b, one fused step a product.
float dot4(vec4 a, vec4 b, float acc) {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}

float load_residual(uint i) {
  if (!Y_HALF) return uintBitsToFloat(residual[i]);
  return half_of(residual[i >> 1], i);
}

// y at column `col`, element i, from the sums over w and up.
float value_of(uint col, uint i, float dot_w, float dot_up) {
  float factor = SCALE ? uintBitsToFloat(p.scale) : 1.0;
  uint b = BIASES ? w_from + col : col;
  float value = activate(ACT, BIAS ? fma(dot_w, factor, bias[b]) : dot_w * factor);
  if (GATED) value *= BIAS ? fma(dot_up, factor, up_bias[b]) : dot_up * factor;
  return RESIDUAL ? value + load_residual(i) : value;
}

uint y_at(uint row, uint n) {
  uint i = row * p.y_stride + p.first + n;
  return BATCH ? i + y_from : i;
}

void store_y(uint row, uint n, float dot_w, float dot_up) {
  uint i = y_at(row, n);
  float value = value_of(p.first + n, i, dot_w, dot_up);
  if (Y_HALF) {  // the other half of the word is another invocation's
    uint shift = (i & 1u) * 16u;
    atomicAnd(y[i >> 1], ~(0xffffu << shift));
    atomicOr(y[i >> 1], half_bits(value) << shift);
  } else {
    y[i] = floatBitsToUint(value);
  }
}
