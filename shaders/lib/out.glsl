// Rows of y and their log-sum-exp. A 16-bit row that is not WIDE shares words with others: each half is then set
// by itself.
#include "lib/half.glsl"
layout(std430, binding = kAttentionOut) writeonly buffer Y4 { vec4 y4[]; };
layout(std430, binding = kAttentionOut) writeonly buffer Y2 { uvec2 y2[]; };
layout(std430, binding = kAttentionOut) buffer Y1 { uint y1[]; };
layout(std430, binding = kAttentionSinks) readonly buffer Sinks { float sinks[]; };
layout(std430, binding = kAttentionLse) writeonly buffer Lse { float lse[]; };  // (batch, heads, q_len)

uint y_row(uint batch, uint head, uint row) { return batch * p.y_batch + head * p.y_head + row * p.y_row; }

uint y_bits(float x) { return Y_TYPE == kTypeF16 ? half_bits(x) : bf16_bits(x); }

void store_y(uint at, uint i, vec4 v) {  // elements 4i..4i+3 of the row that starts at element `at`
  if ((WIDE & (1u << kAttentionOut)) != 0) {
    if (Y_TYPE == kTypeF32)
      y4[(at >> 2) + i] = v;
    else
      y2[(at >> 2) + i] = uvec2(y_bits(v.x) | y_bits(v.y) << 16, y_bits(v.z) | y_bits(v.w) << 16);
    return;
  }
  for (uint e = 0; e < 4; ++e) {
    uint element = at + (4 * i + e) * p.y_element;
    if (4 * i + e >= V_DIM) break;
    if (Y_TYPE == kTypeF32) {
      y1[element] = floatBitsToUint(v[e]);
    } else {
      uint shift = (element & 1u) * 16u;
      atomicAnd(y1[element >> 1], ~(0xffffu << shift));
      atomicOr(y1[element >> 1], y_bits(v[e]) << shift);
    }
  }
}

// The sum of a row's weights and the maximum they are relative to, both with the sink: y is the unnormalised
// output times `factor`.
struct Finish {
  float factor;
  float lse;  // natural log
};
Finish finish(float best, float sum, uint head) {
  float rescale = 1;
  if (HAS_SINKS) {
    float sink = clamp(sinks[head] * kLog2E, kMasked, -kMasked), higher = max(best, sink);
    rescale = exp2(best - higher);
    sum = sum * rescale + exp2(sink - higher);
    best = higher;
  }
  Finish f = Finish(0, uintBitsToFloat(0xff800000u));
  if (sum > 0) f = Finish(rescale / sum, (best + log2(sum)) / kLog2E);
  return f;
}

void store_lse(uint batch, uint head, uint row, float value) {
  if (HAS_LSE) lse[(batch * p.heads + head) * p.q_len + row] = value;
}
