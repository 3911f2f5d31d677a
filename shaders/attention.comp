// Flash attention for a tile of rows: docs/kernels/attention.md draws it. Rows of a tile are (position, head
// of the group that shares a KV head), so that one load of K and V serves the whole group.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/attention.h"
#include "interface/state.h"

layout(constant_id = kAttentionSpecGroup) const uint GROUP = 128;
layout(constant_id = kAttentionSpecColGroups) const uint COL_GROUPS = 8;
layout(constant_id = kAttentionSpecRowTile) const uint ROW_TILE = 4;
layout(constant_id = kAttentionSpecColTile) const uint COL_TILE = 4;
layout(constant_id = kAttentionSpecDim) const uint DIM = 64;
layout(constant_id = kAttentionSpecChunk) const uint CHUNK = 8;
layout(constant_id = kAttentionSpecQWhole) const uint Q_WHOLE = 0;
layout(constant_id = kAttentionSpecVCols) const uint V_COLS = 16;
layout(constant_id = kAttentionSpecType) const uint KV_TYPE = kTypeF32;
layout(local_size_x_id = kAttentionSpecGroup) in;

const uint ROW_GROUPS = GROUP / COL_GROUPS;
const uint ROWS = ROW_GROUPS * ROW_TILE;
const uint COLS = COL_GROUPS * COL_TILE;
const uint DIM4 = (DIM + 3) / 4;
const uint DIM_TILE = (DIM4 + COL_GROUPS - 1) / COL_GROUPS;  // vec4 of the output a lane and row
const uint D_STEP = CHUNK % 4 == 0 ? 4 : 1;  // unrolled: all of a chunk would take drivers long to compile
const uint CHUNKS = (DIM4 + CHUNK - 1) / CHUNK;
// Odd pitches in units of 16 bytes: rows next to each other start in different banks.
const uint Q_PITCH = (Q_WHOLE != 0 ? CHUNKS * CHUNK : CHUNK) | 1;
const uint K_PITCH = CHUNK | 1;
const uint P_PITCH = (COLS / 4) | 1;
const uint V_PITCH = DIM_TILE * COL_GROUPS;
const uint KV_SIZE = COLS * K_PITCH > V_COLS * V_PITCH ? COLS * K_PITCH : V_COLS * V_PITCH;

layout(push_constant) uniform Push { AttentionPush p; };
layout(std430, binding = kAttentionQ) readonly buffer Q4 { vec4 q4[]; };  // (rows, heads, head_dim)
layout(std430, binding = kAttentionQ) readonly buffer Q1 { float q1[]; };
layout(std430, binding = kAttentionState) readonly buffer State { uint state[]; };
layout(std430, binding = kAttentionOut) writeonly buffer Out4 { vec4 out4[]; };  // like q
layout(std430, binding = kAttentionOut) writeonly buffer Out1 { float out1[]; };
#include "lib/attention.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"
#include "lib/rows.glsl"
TSR_KV_CACHE(k, kAttentionK)
TSR_KV_CACHE(v, kAttentionV)

shared vec4 q_tile[ROWS * Q_PITCH];               // (ROWS, CHUNK or all of DIM4), times scale * log2(e)
shared vec4 kv_tile[KV_SIZE];                     // K: (COLS, CHUNK); V: (V_COLS, DIM4)
shared vec4 p_tile[ROWS * P_PITCH];               // (ROWS, COLS / 4)
shared vec4 lane_stat[ROWS * COL_GROUPS / 4];     // (ROWS, COL_GROUPS): a maximum or a sum a lane

uint lane() { return gl_LocalInvocationID.x; }
uint tile_row(uint r) { return r * ROW_GROUPS + lane() / COL_GROUPS; }
uint tile_col(uint c) { return c * COL_GROUPS + lane() % COL_GROUPS; }

struct Tile {
  uint first;     // folded row: position in the pass * group + head of the group
  uint count;     // folded rows of the whole pass
  uint group;     // heads that share the KV head
  uint head;      // the first of them
  uint kv_row;    // cache row of key 0
  uint position;  // of row 0 of the pass
  uint stored;    // keys in the cache
  Span keys;
};

void stage_q(Tile t, uint first, uint width) {
  [[dont_unroll]] for (uint i = lane(); i < ROWS * width; i += GROUP) {
    uint row = i / width, d = i % width, folded = t.first + row;
    vec4 q = vec4(0);
    if (folded < t.count && first + d < DIM4)
      q = load_q(folded / t.group, t.head + folded % t.group, first + d) * (p.scale * kLog2E);
    q_tile[row * Q_PITCH + d] = q;
  }
}

// Keys past the end are not read: the last key stands in for them, and its score is masked.
void stage_k(Tile t, uint key, uint first) {
  [[dont_unroll]] for (uint i = lane(); i < COLS * CHUNK; i += GROUP) {
    uint col = i / CHUNK, d = i % CHUNK;
    vec4 k = vec4(0);
    if (first + d < DIM4) k = load_k(t.kv_row + min(key + col, t.keys.end - 1), first + d);
    kv_tile[col * K_PITCH + d] = k;
  }
}

void stage_v(Tile t, uint key) {
  [[dont_unroll]] for (uint i = lane(); i < V_COLS * DIM4; i += GROUP) {
    uint col = i / DIM4, d = i % DIM4;
    kv_tile[col * V_PITCH + d] = load_v(t.kv_row + min(key + col, t.keys.end - 1), d);
  }
}

float dot_add(float sum, vec4 a, vec4 b) {
  sum += a.x * b.x;
  sum += a.y * b.y;
  sum += a.z * b.z;
  return sum + a.w * b.w;
}

float max4(vec4 v) { return max(max(v.x, v.y), max(v.z, v.w)); }

// Every row of the tile sees every one of these keys.
bool all_seen(Tile t, uint key) {
  uint first = t.position + t.first / t.group;
  uint last = t.position + (min(t.first + ROWS, t.count) - 1) / t.group;
  return key + COLS <= row_keys(first, t.stored, p.window, p.causal != 0).end &&
         key >= row_keys(last, t.stored, p.window, p.causal != 0).begin;
}

float s[ROW_TILE * COL_TILE];   // scores, then probabilities before division
vec4 o[ROW_TILE * DIM_TILE];    // output before division
float row_max[ROW_TILE];
float lane_sum[ROW_TILE];       // of the lane's own columns

void scores(Tile t, uint key) {  // s = q k^T
  [[unroll]] for (uint i = 0; i < ROW_TILE * COL_TILE; ++i) s[i] = 0;
  [[dont_unroll]] for (uint chunk = 0; chunk < CHUNKS; ++chunk) {
    if (chunk != 0) barrier();
    stage_k(t, key, chunk * CHUNK);
    if (Q_WHOLE == 0) stage_q(t, chunk * CHUNK, CHUNK);
    barrier();
    uint at = Q_WHOLE != 0 ? chunk * CHUNK : 0;
    [[dont_unroll]] for (uint d0 = 0; d0 < CHUNK; d0 += D_STEP)
      [[unroll]] for (uint d = d0; d < d0 + D_STEP; ++d) {
        vec4 q[ROW_TILE];
        [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) q[r] = q_tile[tile_row(r) * Q_PITCH + at + d];
        [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
          vec4 k = kv_tile[tile_col(c) * K_PITCH + d];
          [[unroll]] for (uint r = 0; r < ROW_TILE; ++r)
            s[r * COL_TILE + c] = dot_add(s[r * COL_TILE + c], q[r], k);
        }
      }
  }
}

void mask(Tile t, uint key) {
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    uint at = t.position + (t.first + tile_row(r)) / t.group;
    Span seen = row_keys(at, t.stored, p.window, p.causal != 0);
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
      uint col = key + tile_col(c);
      if (col < seen.begin || col >= seen.end) s[r * COL_TILE + c] = kMasked;
    }
  }
}

// One lane's value for each of its rows, to be read by the lanes that share the row.
void put_stat(uint r, float value) {
  uint at = tile_row(r) * COL_GROUPS + lane() % COL_GROUPS;
  lane_stat[at / 4][at % 4] = value;
}

void softmax() {  // p = exp2(s - max), and what came before is rescaled to the new maximum
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    float best = s[r * COL_TILE];
    [[unroll]] for (uint c = 1; c < COL_TILE; ++c) best = max(best, s[r * COL_TILE + c]);
    put_stat(r, best);
  }
  barrier();
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    float best = row_max[r];
    for (uint i = 0; i < COL_GROUPS / 4; ++i)
      best = max(best, max4(lane_stat[tile_row(r) * (COL_GROUPS / 4) + i]));
    float rescale = exp2(row_max[r] - best);
    row_max[r] = best;
    lane_sum[r] *= rescale;
    [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) o[r * DIM_TILE + d] *= rescale;
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
      float prob = exp2(s[r * COL_TILE + c] - best);
      lane_sum[r] += prob;
      p_tile[tile_row(r) * P_PITCH + tile_col(c) / 4][tile_col(c) % 4] = prob;
    }
  }
}

void weigh_v(Tile t, uint key) {  // o += p v
  [[dont_unroll]] for (uint v0 = 0; v0 < COLS; v0 += V_COLS) {
    if (v0 != 0) barrier();
    stage_v(t, key + v0);
    barrier();
    for (uint c = 0; c < V_COLS; c += 4) {
      vec4 prob[ROW_TILE];
      [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) prob[r] = p_tile[tile_row(r) * P_PITCH + (v0 + c) / 4];
      [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) {
        [[unroll]] for (uint e = 0; e < 4; ++e) {
          vec4 v = kv_tile[(c + e) * V_PITCH + tile_col(d)];
          [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) o[r * DIM_TILE + d] += prob[r][e] * v;
        }
      }
    }
  }
}

void write_out(Tile t) {  // o / sum; 0 where every key was masked
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) put_stat(r, lane_sum[r]);
  barrier();
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    vec4 sums = vec4(0);
    for (uint i = 0; i < COL_GROUPS / 4; ++i) sums += lane_stat[tile_row(r) * (COL_GROUPS / 4) + i];
    float sum = (sums.x + sums.y) + (sums.z + sums.w);
    float inverse = sum > 0 ? 1 / sum : 0;
    uint folded = t.first + tile_row(r);
    [[unroll]] for (uint d = 0; d < DIM_TILE; ++d)
      if (folded < t.count && tile_col(d) < DIM4)
        store_out(folded / t.group, t.head + folded % t.group, tile_col(d), o[r * DIM_TILE + d] * inverse);
  }
}

void main() {
  Tile t;
  t.group = p.heads / p.kv_heads;
  t.head = gl_WorkGroupID.y * t.group;
  t.kv_row = gl_WorkGroupID.y * p.context;
  uint rows = min(state[kStateRows], p.rows);
  t.count = rows * t.group;
  t.first = (p.parts - 1 - gl_WorkGroupID.x) * ROWS;  // the longest first
  if (t.first >= t.count) return;
  t.position = min(state[kStatePosition], p.context);
  t.stored = kv_length(t.position, rows, p.context);
  t.keys = visible_keys(t.position + t.first / t.group,
                        t.position + (min(t.first + ROWS, t.count) - 1) / t.group, t.stored, p.window,
                        p.causal != 0);
  [[unroll]] for (uint i = 0; i < ROW_TILE * DIM_TILE; ++i) o[i] = vec4(0);
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) row_max[r] = kLeastMax;
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) lane_sum[r] = 0;
  if (Q_WHOLE != 0) stage_q(t, 0, CHUNKS * CHUNK);
  for (uint key = t.keys.begin; key < t.keys.end; key += COLS) {
    scores(t, key);
    if (!all_seen(t, key)) mask(t, key);
    softmax();
    weigh_v(t, key);
    barrier();
  }
  write_out(t);
}
