// The end of a feed-forward block: bias, residual, and y of f32 or f16.
const bool DYNAMIC = (FLAGS & kFeedForwardFlagDynamic) != 0;
const bool RESIDUAL = (FLAGS & kFeedForwardFlagResidual) != 0;
const bool DOWN_BIAS = (FLAGS & kFeedForwardFlagDownBias) != 0;
const bool Y_HALF = (FLAGS & kFeedForwardFlagYHalf) != 0;

layout(push_constant) uniform Push { FeedForwardPush p; };
layout(std430, binding = kFeedForwardDownBias) readonly buffer DownBias { float down_bias[]; };  // (n)
layout(std430, binding = kFeedForwardY) buffer Y { uint y[]; };                                 // (rows, n)
layout(std430, binding = kFeedForwardState) readonly buffer State { uint state[]; };
layout(std430, binding = kFeedForwardResidual) readonly buffer Residual { uint residual[]; };  // like y

#include "grid.glsl"
#include "half.glsl"

uint row_count() { return DYNAMIC ? min(p.rows, state[kStateRows]) : p.rows; }

float load_residual(uint i) {
  if (!Y_HALF) return uintBitsToFloat(residual[i]);
  return unpackHalf2x16((i & 1u) == 0u ? residual[i >> 1] : residual[i >> 1] >> 16).x;
}

void store_y(uint row, uint col, float value) {
  uint i = row * p.n + col;
  if (DOWN_BIAS) value += down_bias[col];
  if (RESIDUAL) value += load_residual(i);
  if (Y_HALF) {  // the other half of the word is another invocation's
    uint shift = (i & 1u) * 16u;
    atomicAnd(y[i >> 1], ~(0xffffu << shift));
    atomicOr(y[i >> 1], half_bits(value) << shift);
  } else {
    y[i] = floatBitsToUint(value);
  }
}
