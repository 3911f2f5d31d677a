// The scores of chosen heads and rows, or the weights that they give with the log-sum-exp of attention, tile by
// tile. docs/kernels/attention.md.
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

void write_scores(Tile t, uint at, int key, int keys) {
  bool weights = p.score_kind == kScoresWeights, masked = p.score_kind == kScoresMasked;
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    uint folded = t.first + tile_row(r);
    if (folded < t.count) {
      float row_lse = 0;
      if (weights) row_lse = lse[(t.sequence.batch * p.heads + t.head) * p.q_len + t.row + folded];
      [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
        int col = key + int(tile_col(c));
        float value = s[r * COL_TILE + c];
        if (weights)
          value = value > kLeastMax ? exp2(value - row_lse * kLog2E) : 0;
        else if (masked)
          value = value > kLeastMax ? value / kLog2E : uintBitsToFloat(0xff800000u);
        else
          value = col >= keys ? 0 : p.score_kind == kScoresRaw && HAS_SOFTCAP ? value * p.softcap : value / kScoreUnit;
        if (col < int(p.kv_len)) out1[at + folded * p.kv_len + uint(col)] = value;
      }
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

void main() {
  Tile t;
  uint slot = gl_WorkGroupID.z;  // (batch, score_heads)
  t.sequence = sequence_of(slot / p.score_heads);
  t.group = 1;
  t.head = p.score_head + slot % p.score_heads;
  t.row = p.score_row;
  t.keys = keys_of(t.sequence.batch, t.head);
  t.count = uint(clamp(t.sequence.rows - int(p.score_row), 0, int(p.score_rows)));
  t.first = gl_WorkGroupID.y * ROWS;
  if (t.first >= t.count) return;
  bool unmasked = p.score_kind == kScoresRaw || p.score_kind == kScoresCapped;
  RowsSeen seen = rows_seen(t.sequence, int(t.row + t.first), int(t.row + min(t.first + ROWS, t.count) - 1));
  if (unmasked) seen = RowsSeen(Span(0, t.sequence.keys), Span(0, t.sequence.keys));
  t.walk = walk_of(t.sequence, t.head, t.row, seen.any);
  int key = int(gl_WorkGroupID.x * COLS);
  stage_spans(t);
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
  write_scores(t, slot * p.score_rows * p.kv_len, key, t.sequence.keys);
}
