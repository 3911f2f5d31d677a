// The feed-forward block in one kernel: for each tile of hidden units, h = act(x w^T) into shared memory, then
// y += h down^T into registers. A workgroup takes TILE_M rows and all columns of y; with splits, a part of the
// hidden units. A lane has LANE_ROWS rows, and columns and units of its own, whose weights it reads itself.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/feed_forward.h"
#include "interface/state.h"

layout(constant_id = kFeedForwardSpecGroup) const uint GROUP = 128;
layout(constant_id = kFeedForwardSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kFeedForwardSpecFlags) const uint FLAGS = 0;
layout(constant_id = kFeedForwardSpecAct) const uint ACT = kActNone;
layout(constant_id = kFeedForwardSpecColumns) const uint COLUMNS = 8;  // a multiple of 4
layout(constant_id = kFeedForwardSpecLaneRows) const uint LANE_ROWS = 4;
layout(constant_id = kFeedForwardSpecLanesM) const uint LANES_M = 4;
layout(constant_id = kFeedForwardSpecXVec4) const uint X_VEC4 = 64;  // an even number
layout(local_size_x_id = kFeedForwardSpecGroup) in;

#include "lib/feed_forward.glsl"

const uint LANES_N = GROUP / LANES_M;  // at least 16, so that a tile of units is whole chunks
const uint TILE_M = LANES_M * LANE_ROWS;
const uint UNITS = 4 / MATRICES;  // hidden units a lane: four rows of weights at a time, here and in the second product
const uint TILE_F = LANES_N * UNITS;
const uint X_STRIDE = X_VEC4 + 1;      // vec4: the odd one keeps rows on other banks
const uint H_STRIDE = TILE_F / 4 + 1;
const uint H = TILE_M * X_STRIDE;      // where the hidden tile starts

shared vec4 tile[TILE_M * (X_STRIDE + H_STRIDE)];  // x (TILE_M, X_STRIDE), h (TILE_M, H_STRIDE)

#include "lib/tile_product.glsl"

void load_tile_of_x(uint m0, uint rows) {
  for (uint i = gl_LocalInvocationID.x; i < TILE_M * X_VEC4; i += GROUP) {
    uint row = i / X_VEC4, q = i % X_VEC4;
    tile[row * X_STRIDE + q] = m0 + row < rows ? load_x(m0 + row, 4 * q) : vec4(0);
  }
}

// The hidden tile from unit f0 on.
void first_product(uint f0, uint lane_m, uint lane_n) {
  float sums[SUMS];
  uint rows4[4];
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = 0.0;
  [[unroll]] for (uint l = 0; l < 4; ++l)
    rows4[l] = min(f0 + lane_n + l % UNITS * LANES_N, p.hidden - 1) * p.row_words;
  [[dont_unroll]] for (uint k0 = 0; k0 < p.k; k0 += CHUNK)
    multiply(0, UNITS, rows4, p.k, k0, lane_m * X_STRIDE + k0 / 4, X_STRIDE, sums);
  barrier();  // all have used the hidden tile before
  [[unroll]] for (uint c = 0; c < UNITS; ++c) {
    uint unit = lane_n + c * LANES_N;
    vec2 biases = biases_of(f0 + unit);
    [[unroll]] for (uint i = 0; i < LANE_ROWS; ++i)
      tile[H + (lane_m + i * LANES_M) * H_STRIDE + unit / 4][unit % 4] =
          hidden_of(f0 + unit, biases, sums[4 * i + c], sums[4 * i + (MATRICES - 1) * UNITS + c]);
  }
  barrier();
}

void main() {
  uint lane = gl_LocalInvocationID.x, lane_m = lane / LANES_N, lane_n = lane % LANES_N;
  uint rows = row_count(), tiles_m = (p.rows + TILE_M - 1) / TILE_M;
  uint group = group_index(p.groups_x, p.groups_y);
  uint m0 = group % tiles_m * TILE_M, split = group / tiles_m;  // neighbours share their weights
  if (m0 >= rows || split >= p.splits) return;

  load_tile_of_x(m0, rows);
  barrier();
  float y_sums[COLUMNS * LANE_ROWS];  // (COLUMNS / 4, LANE_ROWS, 4)
  [[unroll]] for (uint i = 0; i < COLUMNS * LANE_ROWS; ++i) y_sums[i] = 0.0;
  uint end = min((split + 1) * p.share * TILE_F, p.hidden);
  [[dont_unroll]] for (uint f0 = split * p.share * TILE_F; f0 < end; f0 += TILE_F) {
    first_product(f0, lane_m, lane_n);
    [[unroll]] for (uint c0 = 0; c0 < COLUMNS; c0 += 4) {
      float sums[SUMS];
      uint rows4[4];
      [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = y_sums[c0 * LANE_ROWS + i];
      [[unroll]] for (uint l = 0; l < 4; ++l)  // a column past n repeats the last: not stored
        rows4[l] = min(lane_n + (c0 + l) * LANES_N, p.n - 1) * p.down_words;
      [[dont_unroll]] for (uint t = 0; t < min(TILE_F, p.hidden - f0); t += CHUNK)
        multiply(DOWN, 4, rows4, p.hidden, f0 + t, H + lane_m * H_STRIDE + t / 4, H_STRIDE, sums);
      [[unroll]] for (uint i = 0; i < SUMS; ++i) y_sums[c0 * LANE_ROWS + i] = sums[i];
    }
  }

  [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
    [[unroll]] for (uint i = 0; i < LANE_ROWS; ++i) {
      uint row = m0 + lane_m + i * LANES_M, col = lane_n + c * LANES_N;
      if (row < rows && col < p.n) store(split, row, col, y_sums[c / 4 * SUMS + 4 * i + c % 4]);
    }
}
