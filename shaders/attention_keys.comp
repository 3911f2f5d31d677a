// Flash attention with a lane for each key: rows of q and of the output are registers, and lanes meet only at
// the end. Nothing is shared, nobody waits: for devices where a load by eight lanes costs eight times one, and
// registers are memory. Splits keys like attention_split. docs/kernels/attention.md draws it.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/attention.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"

layout(constant_id = kKeysSpecRows) const uint ROWS = 8;
layout(constant_id = kKeysSpecDirect) const uint DIRECT = 0;
layout(local_size_x_id = kAttentionSpecGroup) in;  // one subgroup

struct Tile {
  uint first;  // folded row: position in the sequence * group + head of the group
  uint count;  // folded rows of the sequence
  uint group;  // heads that share the KV head
  uint head;   // the first of them
  Sequence sequence;
  Keys keys;
  Span span;  // keys of this split
  Span all;   // keys that all rows see
};

uint lane() { return gl_SubgroupInvocationID; }
uint known_row(Tile t, uint r) { return min(t.first + r, t.count - 1); }

const uint DIM8 = (DIM4 + 1) / 2;
const uint V_DIM8 = (V_DIM4 + 1) / 2;
vec4 q[ROWS * 2 * DIM8];    // times the scale; the same in all lanes
vec4 o[ROWS * 2 * V_DIM8];  // output before division, of the lane's keys
float s[ROWS];          // scores, then weights, of the lane's key
float row_max[ROWS];
float row_sum[ROWS];
Row rows[ROWS];

void load_rows(Tile t) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    uint folded = known_row(t, r), row = folded / t.group;
    rows[r] = row_of(t.sequence, int(row));
    row_max[r] = kLeastMax;
    row_sum[r] = 0;
    uint at = q_row(t.sequence.batch, t.head + folded % t.group, row);
    float scale = COSINE ? 1.0 : score_scale(), square = 0;
    [[unroll]] for (uint d = 0; d < DIM4; ++d) {
      q[2 * r * DIM8 + d] = load_q(at, d) * scale;
      if (COSINE) square = dot_add(square, q[2 * r * DIM8 + d], q[2 * r * DIM8 + d]);
    }
    if (COSINE) {
      float norm = inverse_norm(square) * score_scale();
      [[unroll]] for (uint d = 0; d < DIM4; ++d) q[2 * r * DIM8 + d] *= norm;
    }
  }
  [[unroll]] for (uint i = 0; i < ROWS * 2 * V_DIM8; ++i) o[i] = vec4(0);
}

void scores(uint at) {  // s = scale q k^T; `at`: k of the lane's key
  float square = 0;
  [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] = 0;
  [[unroll]] for (uint d = 0; d < DIM8; ++d) {
    vec4 k0, k1;
    load8_k(at, d, k0, k1);
    if (COSINE) square = dot_add(dot_add(square, k0, k0), k1, k1);
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      s[r] = dot_add(s[r], q[2 * (r * DIM8 + d)], k0);
      if (2 * d + 1 < DIM4) s[r] = dot_add(s[r], q[2 * (r * DIM8 + d) + 1], k1);
    }
  }
  if (!COSINE) return;
  float norm = inverse_norm(square);
  [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] *= norm;
}

void adjust_scores(Tile t, int key) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    uint folded = known_row(t, r);
    s[r] = adjust(score_row(t.sequence.batch, t.head + folded % t.group, folded / t.group, rows[r].diagonal),
                  s[r], key);
  }
}

void mask_scores(Tile t, int key) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r)
    if (key < rows[r].seen.begin || key >= min(rows[r].seen.end, t.span.end)) s[r] = kMasked;
}

// s becomes exp2(s - max), with a running maximum of the lane's own keys, and o grows by s v.
void softmax_and_weigh_v(uint at) {  // `at`: v of the lane's key
  float rescale[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    float best = max(row_max[r], s[r]);
    rescale[r] = exp2(row_max[r] - best);
    row_max[r] = best;
    s[r] = exp2(s[r] - best);
    row_sum[r] = row_sum[r] * rescale[r] + s[r];
  }
  [[unroll]] for (uint d = 0; d < V_DIM8; ++d) {
    vec4 v0, v1;
    load8_v(at, d, v0, v1);
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      uint i = 2 * (r * V_DIM8 + d);
      o[i] = o[i] * rescale[r] + s[r] * v0;
      o[i + 1] = o[i + 1] * rescale[r] + s[r] * v1;
    }
  }
}

void write_out(Tile t) {  // sums over lanes, each brought to the common maximum
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    float best = subgroupMax(row_max[r]), rescale = exp2(row_max[r] - best);
    float total = subgroupAdd(row_sum[r] * rescale);
    [[unroll]] for (uint d = 0; d < V_DIM4; ++d)
      o[2 * r * V_DIM8 + d] = subgroupAdd(o[2 * r * V_DIM8 + d] * rescale);
    if (lane() == 0 && t.first + r < t.count) {
      uint folded = t.first + r, batch = t.sequence.batch, row = folded / t.group, head = t.head + folded % t.group;
      if (DIRECT != 0) {
        Finish f = finish(best, total, head);
        uint at = y_row(batch, head, row);
        [[unroll]] for (uint d = 0; d < V_DIM4; ++d) store_y(at, d, o[2 * r * V_DIM8 + d] * f.factor);
        store_lse(batch, head, row, f.lse);
      } else {
        uint at = (((batch * p.q_len + row) * p.heads + head) * p.parts + gl_WorkGroupID.x) * (V_DIM4 + 1);
        [[unroll]] for (uint d = 0; d < V_DIM4; ++d) y4[at + d] = o[2 * r * V_DIM8 + d];
        y4[at + V_DIM4] = vec4(best, total, 0, 0);
      }
    }
  }
}

void main() {
  Tile t;
  t.sequence = sequence_of(gl_WorkGroupID.z);
  t.group = p.heads / p.kv_heads;
  uint kv_head = gl_WorkGroupID.y % p.kv_heads;
  t.head = kv_head * t.group;
  t.keys = keys_of(t.sequence.batch, kv_head);
  t.count = uint(t.sequence.rows) * t.group;
  // Long and short blocks in turn: software drivers give each thread a run of workgroups.
  uint blocks = (p.q_len * t.group + ROWS - 1) / ROWS, i = gl_WorkGroupID.y / p.kv_heads;
  t.first = ((i & 1u) == 0 ? blocks - 1 - i / 2 : i / 2) * ROWS;
  if (t.first >= t.count) return;
  // A split has its share of what all rows of the call see, as the merge knows it.
  Span any = rows_seen(t.sequence, 0, t.sequence.rows - 1).any;
  int share = split_keys(any, p.parts), begin = any.begin + int(gl_WorkGroupID.x) * share;
  if (begin >= any.end && gl_WorkGroupID.x != 0) return;  // the merge does not read this split
  RowsSeen seen = rows_seen(t.sequence, int(t.first / t.group), int(known_row(t, ROWS - 1) / t.group));
  t.span = Span(max(seen.any.begin, begin), min(seen.any.end, p.parts == 1 ? seen.any.end : begin + share));
  t.all = seen.all;
  load_rows(t);
  for (int first = NEXT_TILE(t, ROWS, t.span.begin, GROUP, t.span.end); first < t.span.end;
       first = NEXT_TILE(t, ROWS, first + int(GROUP), GROUP, t.span.end)) {
    int key = first + int(lane()), known = min(key, t.span.end - 1);
    scores(k_row(t.keys, known));
    if (ADJUSTS) adjust_scores(t, known);
    if (first < t.all.begin || first + int(GROUP) > min(t.all.end, t.span.end)) mask_scores(t, key);
    softmax_and_weigh_v(v_row(t.keys, known));
  }
  write_out(t);
}
