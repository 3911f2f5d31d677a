// The scores of chosen heads and rows, or the weights that they give with the log-sum-exp of attention, or the mean
// of those over the heads, tile by tile. docs/kernels/attention.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define EVERY_KEY
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"

layout(local_size_x_id = kAttentionSpecGroup) in;
#define KV_SIZE (COLS * K_PITCH)
#include "lib/attention_tile.glsl"
layout(std430, binding = kAttentionOut) writeonly buffer Out { float out1[]; };
layout(std430, binding = kAttentionLse) readonly buffer Lse { float lse[]; };  // (batch, heads, q_len)

float o[ROW_TILE * COL_TILE];  // what is written

// What is asked for, of the scores of one head, divided by the `heads` that are averaged.
void add_scores(Tile t, int key, int keys, uint heads) {
  bool weights = p.score_kind >= kScoresWeights, masked = p.score_kind == kScoresMasked;
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    uint folded = min(t.first + tile_row(r), t.count - 1);
    float row_lse = 0;
    if (weights) row_lse = lse[(t.sequence.batch * p.heads + t.head) * p.q_len + t.row + folded];
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
      float value = s[r * COL_TILE + c];
      if (weights)
        value = value > kLeastMax ? exp2(value - row_lse * kLog2E) / float(heads) : 0;
      else if (masked)
        value = value > kLeastMax ? value / kLog2E : uintBitsToFloat(0xff800000u);
      else if (key + int(tile_col(c)) >= keys)
        value = 0;
      else
        value = p.score_kind == kScoresRaw && HAS_SOFTCAP ? value * p.softcap : value / kScoreUnit;
      o[r * COL_TILE + c] = weights ? o[r * COL_TILE + c] + value : value;
    }
  }
}

void write_out(Tile t, uint at, int key) {
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    uint folded = t.first + tile_row(r);
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
      uint col = uint(key) + tile_col(c);
      if (folded < t.count && col < p.kv_len) out1[at + folded * p.kv_len + col] = o[r * COL_TILE + c];
    }
  }
}

void mask_unlisted(Tile t, int key) {
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    uint row = row_of_folded(t, min(t.first + tile_row(r), t.count - 1));
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c)
      if (!is_listed(t.sequence, t.head, row, uint(key) + tile_col(c))) s[r * COL_TILE + c] = kMasked;
  }
}

void score_head(Tile t, int key, RowsSeen seen) {
  bool unmasked = p.score_kind == kScoresRaw || p.score_kind == kScoresCapped;
  t.keys = keys_of(t.sequence.batch, t.head);
  t.walk = walk_of(t.sequence, t.head, t.row, seen.any);
  if (key < seen.any.end && key + int(COLS) > seen.any.begin) {
    if (Q_WHOLE != 0) stage_q(t, 0, CHUNKS * CHUNK);
    scores(t, key);
    if (unmasked) {
      if (p.score_kind == kScoresCapped) {
        [[unroll]] for (uint i = 0; i < ROW_TILE * COL_TILE; ++i) s[i] = capped(s[i]);
      }
    } else {
      if (ADJUSTS) adjust_scores(t, key);
      mask_scores(t, key);
      if (HAS_LISTS) mask_unlisted(t, key);
    }
  } else {
    [[unroll]] for (uint i = 0; i < ROW_TILE * COL_TILE; ++i) s[i] = kMasked;
  }
}

void main() {
  Tile t;
  bool average = p.score_kind == kScoresAverage;
  uint slot = gl_WorkGroupID.z;  // (batch, heads of the output)
  uint out_heads = average ? 1 : p.score_heads, heads = average ? p.score_heads : 1;
  t.sequence = sequence_of(slot / out_heads);
  t.group = 1;
  t.row = p.score_row;
  t.count = uint(clamp(t.sequence.rows - int(p.score_row), 0, int(p.score_rows)));
  t.first = gl_WorkGroupID.y * ROWS;
  if (t.first >= t.count) return;
  RowsSeen seen = rows_seen(t.sequence, int(t.row + t.first), int(t.row + min(t.first + ROWS, t.count) - 1));
  if (p.score_kind == kScoresRaw || p.score_kind == kScoresCapped)
    seen = RowsSeen(Span(0, t.sequence.keys), Span(0, t.sequence.keys));
  int key = int(gl_WorkGroupID.x * COLS);
  stage_spans(t);
  [[unroll]] for (uint i = 0; i < ROW_TILE * COL_TILE; ++i) o[i] = 0;
  [[dont_unroll]] for (uint head = 0; head < heads; ++head) {
    if (head != 0) barrier();
    t.head = p.score_head + slot % out_heads + head;
    score_head(t, key, seen);
    add_scores(t, key, t.sequence.keys, heads);
  }
  write_out(t, slot * p.score_rows * p.kv_len, key);
}
