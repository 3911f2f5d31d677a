// Flash attention for a tile of rows: docs/kernels/attention.md draws it. Rows of a tile are (position, head
// of the group that shares a KV head), so that one load of K and V serves the whole group.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"

layout(constant_id = kAttentionSpecVCols) const uint V_COLS = 16;
layout(local_size_x_id = kAttentionSpecGroup) in;
#define KV_SIZE (COLS * K_PITCH > V_COLS * V_PITCH ? COLS * K_PITCH : V_COLS * V_PITCH)
#define DIM_TILE ((V_DIM4 + COL_GROUPS - 1) / COL_GROUPS)  // vec4 of the output a lane and row
#define V_PITCH (DIM_TILE * COL_GROUPS)
#include "lib/attention_tile.glsl"
const uint P_PITCH = (COLS / 4) | 1;

shared vec4 p_tile[ROWS * P_PITCH];            // (ROWS, COLS / 4)
shared vec4 lane_stat[ROWS * COL_GROUPS / 4];  // (ROWS, COL_GROUPS): a maximum or a sum a lane

vec4 o[ROW_TILE * DIM_TILE];  // output before division
float row_max[ROW_TILE];
float lane_sum[ROW_TILE];     // of the lane's own columns

void stage_v(Tile t, int step) {
  [[dont_unroll]] for (uint i = lane(); i < V_COLS * V_DIM4; i += GROUP) {
    uint col = i / V_DIM4, d = i % V_DIM4;
    kv_tile[col * V_PITCH + d] = load_v(v_row(t.keys, read_key(t.walk, step + int(col))), d);
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

void weigh_v(Tile t, int step) {  // o += p v
  [[dont_unroll]] for (uint v0 = 0; v0 < COLS; v0 += V_COLS) {
    if (v0 != 0) barrier();
    stage_v(t, step + int(v0));
    barrier();
    for (uint c = 0; c < V_COLS; c += 4) {
      uint p_at = tile_row(0) * P_PITCH + (v0 + c) / 4, v_at = c * V_PITCH + tile_col(0);
      vec4 prob[ROW_TILE];
      [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) prob[r] = p_tile[p_at + r * ROW_GROUPS * P_PITCH];
      [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) {
        [[unroll]] for (uint e = 0; e < 4; ++e) {
          vec4 v = kv_tile[v_at + (e * V_PITCH + d * COL_GROUPS)];
          [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) o[r * DIM_TILE + d] += prob[r][e] * v;
        }
      }
    }
  }
}

void write_out(Tile t) {
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) put_stat(r, lane_sum[r]);
  barrier();
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    vec4 sums = vec4(0);
    for (uint i = 0; i < COL_GROUPS / 4; ++i) sums += lane_stat[tile_row(r) * (COL_GROUPS / 4) + i];
    uint folded = t.first + tile_row(r);
    if (folded < t.count) {
      uint row = row_of_folded(t, folded), head = head_of_folded(t, folded);
      Finish f = finish(row_max[r], (sums.x + sums.y) + (sums.z + sums.w), head);
      uint at = y_row(t.sequence.batch, head, row);
      [[unroll]] for (uint d = 0; d < DIM_TILE; ++d)
        if (tile_col(d) < V_DIM4) store_y(at, tile_col(d), o[r * DIM_TILE + d] * f.factor);
      if (lane() % COL_GROUPS == 0) store_lse(t.sequence.batch, head, row, f.lse);
    }
  }
}

void main() {
  Tile t;
  t.sequence = sequence_of(gl_WorkGroupID.z);
  t.group = p.group;
  t.head = gl_WorkGroupID.y * t.group;
  t.row = 0;
  t.keys = keys_of(t.sequence.batch, t.head);
  uvec2 rows = tile_rows(t.sequence, p.tiles - 1 - gl_WorkGroupID.x, ROWS);  // the longest first
  t.first = rows.x;
  t.count = rows.y;
  if (t.first >= t.count) return;
  RowsSeen seen = rows_seen(t.sequence, int(row_of_folded(t, t.first)),
                            int(row_of_folded(t, min(t.first + ROWS, t.count) - 1)));
  t.walk = walk_of(t.sequence, t.head, row_of_folded(t, t.first), seen.any);
  [[unroll]] for (uint i = 0; i < ROW_TILE * DIM_TILE; ++i) o[i] = vec4(0);
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) row_max[r] = kLeastMax;
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) lane_sum[r] = 0;
  stage_spans(t);
  if (Q_WHOLE != 0) stage_q(t, 0, CHUNKS * CHUNK);
  int end = t.walk.steps.end;
  for (int step = FIRST_TILE(t, ROWS, t.walk.steps.begin, COLS, end); step < end;
       step = NEXT_TILE(step + int(COLS), COLS, end)) {
    scores(t, step);
    if (ADJUSTS) adjust_scores(t, step);
    if (!steps_within(t.walk, seen.all, step, COLS)) mask_scores(t, step);
    softmax();
    weigh_v(t, step);
    barrier();
  }
  write_out(t);
}
