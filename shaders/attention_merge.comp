// Merges the partial outputs of attention_split: for one row and head, y = sum_s 2^(m_s-M) o_s / sum_s
// 2^(m_s-M) l_s with M = max_s m_s, over the splits that had keys.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/out.glsl"

layout(constant_id = kMergeSpecDimLanes) const uint DIM_LANES = 16;
layout(constant_id = kMergeSpecSplits) const uint SPLITS = 8;  // at most: p.splits are there
layout(local_size_x_id = kAttentionSpecGroup) in;

const uint SPLIT_LANES = GROUP / DIM_LANES;  // lanes that share out the splits

layout(std430, binding = kMergePartials) readonly buffer Partials { vec4 partials[]; };

shared float weight[SPLITS];      // (p.splits): maxima, then 2^(m_s-M)
shared float sums[SPLITS];        // (p.splits)
shared vec4 sum_tile[GROUP];      // (SPLIT_LANES, DIM_LANES)

void main() {
  uint lane = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, row = gl_WorkGroupID.y;
  Sequence s = sequence_of(gl_WorkGroupID.z);
  if (row >= s.rows) return;
  Span all = walk_of_all(s, head, row).steps;
  int share = split_keys(all, p.splits);
  uint splits = clamp((all.end - all.begin + share - 1) / share, 1, int(p.splits));
  uint first = ((s.batch * p.q_len + row) * p.heads + head) * p.splits * (V_DIM4 + 1);

  for (uint i = lane; i < splits; i += GROUP) {
    vec4 stat = partials[first + i * (V_DIM4 + 1) + V_DIM4];
    weight[i] = stat.x;
    sums[i] = stat.y;
  }
  barrier();
  float best = kLeastMax, total = 0;
  for (uint i = 0; i < splits; ++i) best = max(best, weight[i]);
  for (uint i = 0; i < splits; ++i) total += sums[i] * exp2(weight[i] - best);
  Finish f = finish(best, total, head);
  uint at = y_row(s.batch, head, row);
  if (lane == 0) store_lse(s.batch, head, row, f.lse);

  for (uint d0 = 0; d0 < V_DIM4; d0 += DIM_LANES) {
    uint d = d0 + lane % DIM_LANES;
    vec4 sum = vec4(0);
    if (d < V_DIM4)
      for (uint i = lane / DIM_LANES; i < splits; i += SPLIT_LANES)
        sum += partials[first + i * (V_DIM4 + 1) + d] * exp2(weight[i] - best);
    sum_tile[lane] = sum;
    barrier();
    if (lane < DIM_LANES) {
      for (uint j = 1; j < SPLIT_LANES; ++j) sum += sum_tile[j * DIM_LANES + lane];
      if (d < V_DIM4) store_y(at, d, sum * f.factor);
    }
    barrier();
  }
}
