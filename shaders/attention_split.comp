// Flash attention for few rows (decode): the keys are split over workgroups, and the query heads that share a
// KV head are the rows of one workgroup, so that K and V are read once. Partial outputs are merged by
// attention_merge; a single split writes the output itself. docs/kernels/attention.md draws it.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/attention.h"
#include "interface/state.h"

layout(constant_id = kSplitSpecGroup) const uint GROUP = 128;
layout(constant_id = kSplitSpecParts) const uint PARTS = 8;
layout(constant_id = kSplitSpecDimLanes) const uint DIM_LANES = 16;
layout(constant_id = kSplitSpecRows) const uint ROWS = 4;
layout(constant_id = kSplitSpecDim) const uint DIM = 64;
layout(constant_id = kSplitSpecDirect) const uint DIRECT = 0;
layout(constant_id = kSplitSpecType) const uint KV_TYPE = kTypeF32;
layout(local_size_x_id = kSplitSpecGroup) in;

const uint DIM4 = (DIM + 3) / 4;
const uint QUADS = GROUP / PARTS;  // of four keys: what the workgroup scores at once
const uint COLS = 4 * QUADS;
const uint KEY_LANES = GROUP / DIM_LANES;                    // lanes that share out the keys of a tile
const uint DIM_TILE = (DIM4 + DIM_LANES - 1) / DIM_LANES;    // vec4 of the output a lane and row

layout(push_constant) uniform Push { AttentionPush p; };
layout(std430, binding = kAttentionQ) readonly buffer Q4 { vec4 q4[]; };  // (rows, heads, head_dim)
layout(std430, binding = kAttentionQ) readonly buffer Q1 { float q1[]; };
layout(std430, binding = kAttentionState) readonly buffer State { uint state[]; };
// The output, like q, or with several splits the partials.
layout(std430, binding = kAttentionOut) writeonly buffer Out4 { vec4 out4[]; };
layout(std430, binding = kAttentionOut) writeonly buffer Out1 { float out1[]; };
#include "lib/attention.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"
#include "lib/rows.glsl"
TSR_KV_CACHE(k, kAttentionK)
TSR_KV_CACHE(v, kAttentionV)

shared vec4 q_tile[ROWS * DIM4];                // (ROWS, DIM4), times scale * log2(e)
shared vec4 part_tile[ROWS * GROUP];            // (ROWS, PARTS, QUADS): parts of four scores; then outputs
shared vec2 stat_tile[ROWS * KEY_LANES];        // (ROWS, KEY_LANES): maximum and sum

struct Tile {
  uint first;     // folded row: position in the pass * group + head of the group
  uint count;     // folded rows of the whole pass
  uint group;     // heads that share the KV head
  uint head;      // the first of them
  uint kv_row;    // cache row of key 0
  uint position;  // of row 0 of the pass
  uint stored;    // keys in the cache
  Span keys;      // of this split
};

uint lane() { return gl_LocalInvocationID.x; }
float max4(vec4 v) { return max(max(v.x, v.y), max(v.z, v.w)); }

vec4 o[ROWS * DIM_TILE];  // output before division, over the keys of this lane
float row_max[ROWS];
float row_sum[ROWS];

void stage_q(Tile t) {
  for (uint i = lane(); i < ROWS * DIM4; i += GROUP) {
    uint folded = t.first + i / DIM4;
    q_tile[i] = folded < t.count ? load_q(folded / t.group, t.head + folded % t.group, i % DIM4) *
                                       (p.scale * kLog2E)
                                 : vec4(0);
  }
}

// Parts of q k^T: lane (quad, part) takes every PARTS-th vec4 of four keys next to each other, which are
// independent loads. Keys past the end are not read: the last key stands in for them.
void score_parts(Tile t, uint key) {
  uint quad = lane() / PARTS, part = lane() % PARTS;
  uvec4 row = t.kv_row + min(key + 4 * quad + uvec4(0, 1, 2, 3), uvec4(t.keys.end - 1));
  vec4 s[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] = vec4(0);
  for (uint d = part; d < DIM4; d += PARTS) {
    vec4 k0 = load_k(row.x, d), k1 = load_k(row.y, d), k2 = load_k(row.z, d), k3 = load_k(row.w, d);
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      vec4 q = q_tile[r * DIM4 + d];
      s[r] += vec4(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
    }
  }
  [[unroll]] for (uint r = 0; r < ROWS; ++r) part_tile[(r * PARTS + part) * QUADS + quad] = s[r];
}

// The parts summed in order and masked; the scores of a quad take the place of its first part.
void sum_parts(Tile t, uint key) {
  for (uint i = lane(); i < ROWS * QUADS; i += GROUP) {
    uint r = i / QUADS, quad = i % QUADS;
    vec4 s = part_tile[r * PARTS * QUADS + quad];
    for (uint part = 1; part < PARTS; ++part) s += part_tile[(r * PARTS + part) * QUADS + quad];
    uint at = t.position + (t.first + r) / t.group;
    Span seen = row_keys(at, t.stored, p.window, p.causal != 0);
    uvec4 keys = key + 4 * quad + uvec4(0, 1, 2, 3);
    s = mix(s, vec4(kMasked), greaterThanEqual(keys, uvec4(min(seen.end, t.keys.end))));
    part_tile[r * PARTS * QUADS + quad] = mix(s, vec4(kMasked), lessThan(keys, uvec4(seen.begin)));
  }
}

// o += p v over the quads of this lane, with a running maximum of the lane's own keys.
void weigh_v(Tile t, uint key) {
  uint d0 = lane() % DIM_LANES;
  uint quads = min(QUADS, (t.keys.end - key + 3) / 4);
  for (uint quad = lane() / DIM_LANES; quad < quads; quad += KEY_LANES) {
    uvec4 row = t.kv_row + min(key + 4 * quad + uvec4(0, 1, 2, 3), uvec4(t.keys.end - 1));
    vec4 v[4 * DIM_TILE];
    [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) {
      uint at = min(d0 + d * DIM_LANES, DIM4 - 1);
      [[unroll]] for (uint e = 0; e < 4; ++e) v[4 * d + e] = load_v(row[e], at);
    }
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      vec4 s = part_tile[r * PARTS * QUADS + quad];
      float best = max(row_max[r], max4(s));
      float rescale = exp2(row_max[r] - best);
      vec4 prob = exp2(s - best);
      row_max[r] = best;
      row_sum[r] = row_sum[r] * rescale + ((prob.x + prob.y) + (prob.z + prob.w));
      [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) {
        vec4 sum = o[r * DIM_TILE + d] * rescale;
        [[unroll]] for (uint e = 0; e < 4; ++e) sum += prob[e] * v[4 * d + e];
        o[r * DIM_TILE + d] = sum;
      }
    }
  }
}

void write_out(Tile t, uint r, uint d, vec4 sum, float best, float total) {
  uint folded = t.first + r;
  if (folded >= t.count) return;
  uint row = folded / t.group, head = t.head + folded % t.group;
  if (DIRECT != 0) {
    if (d < DIM4) store_out(row, head, d, total > 0 ? sum / total : vec4(0));
    return;
  }
  uint at = ((row * p.heads + head) * p.parts + gl_WorkGroupID.x) * (DIM4 + 1);
  if (d < DIM4) out4[at + d] = sum;
  if (d == 0) out4[at + DIM4] = vec4(best, total, 0, 0);
}

// Sums over the lanes that shared out the keys, each brought to the common maximum.
void merge_lanes(Tile t) {
  uint key_lane = lane() / DIM_LANES;
  if (lane() % DIM_LANES == 0) {
    [[unroll]] for (uint r = 0; r < ROWS; ++r)
      stat_tile[r * KEY_LANES + key_lane] = vec2(row_max[r], row_sum[r]);
  }
  for (uint d = 0; d < DIM_TILE; ++d) {
    barrier();
    [[unroll]] for (uint r = 0; r < ROWS; ++r) part_tile[r * GROUP + lane()] = o[r * DIM_TILE + d];
    barrier();
    for (uint i = lane(); i < ROWS * DIM_LANES; i += GROUP) {
      uint r = i / DIM_LANES, column = i % DIM_LANES;
      float best = kLeastMax, total = 0;
      for (uint j = 0; j < KEY_LANES; ++j) best = max(best, stat_tile[r * KEY_LANES + j].x);
      vec4 sum = vec4(0);
      for (uint j = 0; j < KEY_LANES; ++j) {
        vec2 stat = stat_tile[r * KEY_LANES + j];
        float rescale = exp2(stat.x - best);
        total += stat.y * rescale;
        sum += part_tile[r * GROUP + j * DIM_LANES + column] * rescale;
      }
      write_out(t, r, d * DIM_LANES + column, sum, best, total);
    }
  }
}

void main() {
  Tile t;
  t.group = p.heads / p.kv_heads;
  t.head = gl_WorkGroupID.y * t.group;
  t.kv_row = gl_WorkGroupID.y * p.context;
  uint rows = min(state[kStateRows], p.rows);
  t.count = rows * t.group;
  t.first = gl_WorkGroupID.z * ROWS;
  if (t.first >= t.count) return;
  t.position = min(state[kStatePosition], p.context);
  t.stored = kv_length(t.position, rows, p.context);
  Span all = visible_keys(t.position, t.position + rows - 1, t.stored, p.window, p.causal != 0);
  uint share = split_keys(all, p.parts);
  t.keys.begin = all.begin + gl_WorkGroupID.x * share;
  t.keys.end = min(t.keys.begin + share, all.end);
  if (t.keys.begin >= all.end && gl_WorkGroupID.x != 0) return;  // the merge does not read this split
  [[unroll]] for (uint i = 0; i < ROWS * DIM_TILE; ++i) o[i] = vec4(0);
  [[unroll]] for (uint r = 0; r < ROWS; ++r) row_max[r] = kLeastMax;
  [[unroll]] for (uint r = 0; r < ROWS; ++r) row_sum[r] = 0;
  stage_q(t);
  for (uint key = t.keys.begin; key < t.keys.end; key += COLS) {
    barrier();
    score_parts(t, key);
    barrier();
    sum_parts(t, key);
    barrier();
    weigh_v(t, key);
  }
  merge_lanes(t);
}
