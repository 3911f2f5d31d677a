// Merges the partial outputs of attention_split: for one row and head, out = sum_s 2^(m_s-M) o_s / sum_s
// 2^(m_s-M) l_s with M = max_s m_s, over the splits that had keys.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/attention.h"
#include "interface/state.h"

layout(constant_id = kMergeSpecGroup) const uint GROUP = 64;
layout(constant_id = kMergeSpecDimLanes) const uint DIM_LANES = 16;
layout(constant_id = kMergeSpecDim) const uint DIM = 64;
layout(constant_id = kMergeSpecSplits) const uint SPLITS = 8;
layout(local_size_x_id = kMergeSpecGroup) in;

const uint DIM4 = (DIM + 3) / 4;
const uint SPLIT_LANES = GROUP / DIM_LANES;  // lanes that share out the splits

layout(push_constant) uniform Push { AttentionPush p; };
layout(std430, binding = kMergePartials) readonly buffer Partials { vec4 partials[]; };
layout(std430, binding = kMergeState) readonly buffer State { uint state[]; };
layout(std430, binding = kMergeOut) writeonly buffer Out4 { vec4 out4[]; };  // (rows, heads, head_dim)
layout(std430, binding = kMergeOut) writeonly buffer Out1 { float out1[]; };
#include "lib/attention.glsl"
#include "lib/out.glsl"

shared float weight[SPLITS];      // (SPLITS): maxima, then 2^(m_s-M)
shared float sums[SPLITS];        // (SPLITS)
shared vec4 sum_tile[GROUP];      // (SPLIT_LANES, DIM_LANES)

void main() {
  uint lane = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
  uint rows = min(state[kStateRows], p.rows);
  if (row >= rows) return;
  uint position = min(state[kStatePosition], p.context);
  uint stored = kv_length(position, rows, p.context);
  Span all = visible_keys(position, position + rows - 1, stored, p.window, p.causal != 0);
  uint share = split_keys(all, SPLITS);
  uint splits = clamp((all.end - all.begin + share - 1) / share, 1, SPLITS);
  uint first = (row * p.heads + head) * SPLITS * (DIM4 + 1);

  for (uint i = lane; i < splits; i += GROUP) {
    vec4 stat = partials[first + i * (DIM4 + 1) + DIM4];
    weight[i] = stat.x;
    sums[i] = stat.y;
  }
  barrier();
  float best = kLeastMax, total = 0;
  for (uint i = 0; i < splits; ++i) best = max(best, weight[i]);
  for (uint i = 0; i < splits; ++i) total += sums[i] * exp2(weight[i] - best);
  float inverse = total > 0 ? 1 / total : 0;

  for (uint d0 = 0; d0 < DIM4; d0 += DIM_LANES) {
    uint d = d0 + lane % DIM_LANES;
    vec4 sum = vec4(0);
    if (d < DIM4)
      for (uint i = lane / DIM_LANES; i < splits; i += SPLIT_LANES)
        sum += partials[first + i * (DIM4 + 1) + d] * exp2(weight[i] - best);
    sum_tile[lane] = sum;
    barrier();
    if (lane < DIM_LANES) {
      for (uint j = 1; j < SPLIT_LANES; ++j) sum += sum_tile[j * DIM_LANES + lane];
      if (d < DIM4) store_out(row, head, d, sum * inverse);
    }
    barrier();
  }
}
