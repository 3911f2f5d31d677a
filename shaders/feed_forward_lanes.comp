// The feed-forward block for devices whose lanes are elements of a vector register (matmul_lanes.comp): a
// workgroup is one subgroup and has LANE_ROWS rows. A lane computes four hidden units at a time, keeps them, and
// shuffles hand them to all lanes, each of which has columns of y of its own. Nothing is shared.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "interface/feed_forward.h"
#include "interface/state.h"

layout(constant_id = kFeedForwardSpecGroup) const uint GROUP = 8;
layout(constant_id = kFeedForwardSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kFeedForwardSpecFlags) const uint FLAGS = 0;
layout(constant_id = kFeedForwardSpecAct) const uint ACT = kActNone;
layout(constant_id = kFeedForwardSpecColumns) const uint COLUMNS = 8;
layout(constant_id = kFeedForwardSpecLaneRows) const uint LANE_ROWS = 16;
layout(local_size_x_id = kFeedForwardSpecGroup) in;

#include "lib/feed_forward.glsl"

#include "lib/shuffle_product.glsl"

const uint TILE_F = 4 * GROUP;  // hidden units at a time; at least CHUNK
const uint SECOND_UNROLLED = COLUMNS * LANE_ROWS * CHUNK <= 512 || CHUNK <= 8 ? CHUNK / 4 : 2;

float y_sums[COLUMNS * LANE_ROWS];  // (COLUMNS, LANE_ROWS)
vec4 h[LANE_ROWS];                  // units 4 lane .. 4 lane + 3 of the tile

void first_product(uint f0, uint m0, uint rows) {
  uint lane = gl_SubgroupInvocationID;
  [[unroll]] for (uint l = 0; l < 4; ++l) rows4[l] = min(f0 + 4 * lane + l, p.hidden - 1) * p.row_words;
  [[unroll]] for (uint i = 0; i < LOADS * LANE_ROWS; ++i) sums[i] = 0.0;
  [[dont_unroll]] for (uint k0 = 0; k0 < p.k; k0 += 4 * GROUP) {
    [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m) x[m] = load_x(min(m0 + m, rows - 1), k0 + 4 * lane);
    multiply(p.k, k0);
  }
  [[unroll]] for (uint c = 0; c < 4; ++c) {
    uint unit = f0 + 4 * lane + c;
    vec2 biases = biases_of(unit);
    [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m)
      h[m][c] =
          hidden_of(unit, biases, sums[c * LANE_ROWS + m], sums[((MATRICES - 1) * 4 + c) * LANE_ROWS + m]);
  }
}

Chunk down[COLUMNS];

void multiply_hidden4(uint at, uint j) {  // the j-th vec4 of the chunks
  vec4 w[COLUMNS];
  [[unroll]] for (uint c = 0; c < COLUMNS; ++c) w[c] = weights4(down[c], j);
  [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m) {
    vec4 v = subgroupShuffle(h[m], at + j);
    [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
      y_sums[c * LANE_ROWS + m] = dot4(v, w[c], y_sums[c * LANE_ROWS + m]);
  }
}

void second_product(uint f0) {
  uint lane = gl_SubgroupInvocationID, end = min(GROUP, (p.hidden - f0 + 3) / 4);
  [[dont_unroll]] for (uint at = 0; at < end; at += CHUNK / 4) {
    [[unroll]] for (uint c = 0; c < COLUMNS; ++c)  // a column past n repeats the last: not stored
      down[c] = load_chunk(DOWN, min(lane + c * GROUP, p.n - 1) * p.down_words, p.hidden, f0 + 4 * at);
    if (SECOND_UNROLLED == CHUNK / 4) {
      [[unroll]] for (uint j = 0; j < CHUNK / 4; ++j) multiply_hidden4(at, j);
    } else {
      [[dont_unroll]] for (uint j0 = 0; j0 < CHUNK / 4; j0 += SECOND_UNROLLED)
        [[unroll]] for (uint u = 0; u < SECOND_UNROLLED; ++u) multiply_hidden4(at, j0 + u);
    }
  }
}

void main() {
  uint lane = gl_SubgroupInvocationID, rows = row_count(), tiles_m = (p.rows + LANE_ROWS - 1) / LANE_ROWS;
  uint group = group_index(p.groups_x, p.groups_y);
  uint m0 = group % tiles_m * LANE_ROWS, split = group / tiles_m;
  if (m0 >= rows || split >= p.splits) return;

  [[unroll]] for (uint i = 0; i < COLUMNS * LANE_ROWS; ++i) y_sums[i] = 0.0;
  uint end = min((split + 1) * p.share * TILE_F, p.hidden);
  [[dont_unroll]] for (uint f0 = split * p.share * TILE_F; f0 < end; f0 += TILE_F) {
    first_product(f0, m0, rows);
    second_product(f0);
  }
  [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
    [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m)
      if (m0 + m < rows && lane + c * GROUP < p.n)
        store(split, m0 + m, lane + c * GROUP, y_sums[c * LANE_ROWS + m]);
}
