#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Many rows of x: arithmetic decides. A workgroup computes TILE_M x TILE_N of y in steps of TILE_K: x and the
// decoded weights in shared memory, LANE_M x LANE_N sums in a lane's registers, and the next step's loads in
// flight while this one is computed.
#include "interface/matmul.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 128;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
layout(constant_id = kTileSpecM) const uint TILE_M = 64;
layout(constant_id = kTileSpecN) const uint TILE_N = 64;
layout(constant_id = kTileSpecK) const uint TILE_K = 16;
layout(constant_id = kTileSpecLaneM) const uint LANE_M = 4;
layout(constant_id = kTileSpecLaneN) const uint LANE_N = 8;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"

const uint LANES_N = TILE_N / LANE_N;    // lanes along n; GROUP / LANES_N along m
const uint LANES_M = TILE_M / LANE_M;
const uint STRIDE = TILE_K / 4 + 1;      // vec4 a row in shared memory: the odd one keeps rows on other banks
const uint PARTS = TILE_K / 8;           // pieces of 8 elements a row
const uint X_PIECES = TILE_M * PARTS;
const uint W_PIECES = TILE_N * PARTS;    // of each matrix
const uint X_LOADS = (X_PIECES + GROUP - 1) / GROUP;  // pieces a lane loads
const uint W_LOADS = (W_PIECES + GROUP - 1) / GROUP;
const uint SUMS = LANE_M * LANE_N;

shared vec4 x_tile[TILE_M * STRIDE];             // (TILE_M, STRIDE)
shared vec4 w_tile[MATRICES * TILE_N * STRIDE];  // (MATRICES, TILE_N, STRIDE)

// The column that lies at place t of w_tile: with HEADS a lane has whole fours of neighbours.
uint column_at(uint t) {
  if (!HEADS) return t;
  uint lane_n = t % LANES_N, j = t / LANES_N;
  return (j / 4 * LANES_N + lane_n) * 4 + j % 4;
}

Weights8 load_x8(uint row, uint end, uint col) {
  Weights8 x = Weights8(vec4(0), vec4(0));
  if (row < end) {
    x.lo = load_x(row, col);
    x.hi = load_x(row, col + 4);
  }
  return x;
}

Weights8 load_w8(uint which, uint n, uint end, uint col) {
  if (n < end && col < p.k) return load8(which, n * p.row_words, p.k, col);
  return Weights8(vec4(0), vec4(0));
}

// sums += x_tile w_tile^T for this lane's rows lane_m + i LANES_M and columns lane_n + j LANES_N.
void multiply(uint which, uint lane_m, uint lane_n, inout float sums[SUMS]) {
  [[dont_unroll]] for (uint q = 0; q < TILE_K / 4; ++q) {
    vec4 x[LANE_M];
    [[unroll]] for (uint i = 0; i < LANE_M; ++i) x[i] = x_tile[(lane_m + i * LANES_M) * STRIDE + q];
    [[unroll]] for (uint j = 0; j < LANE_N; ++j) {
      vec4 w = w_tile[(which * TILE_N + lane_n + j * LANES_N) * STRIDE + q];
      [[unroll]] for (uint i = 0; i < LANE_M; ++i) sums[i * LANE_N + j] = dot4(x[i], w, sums[i * LANE_N + j]);
    }
  }
}

void main() {
  uint lane = gl_LocalInvocationID.x, lane_m = lane / LANES_N, lane_n = lane % LANES_N;
  uint tiles_m = (p.rows + TILE_M - 1) / TILE_M;
  uint tile = group_of_product(tiles_m * ((p.n + TILE_N - 1) / TILE_N));
  uint m0 = tile % tiles_m * TILE_M, n0 = tile / tiles_m * TILE_N;  // neighbours share their weights
  uint rows = row_count();
  if (m0 >= rows || n0 >= p.n || past_batch()) return;

  float sums[SUMS], up_sums[SUMS];
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = up_sums[i] = 0.0;

  uint steps = (p.k + TILE_K - 1) / TILE_K;
  [[dont_unroll]] for (uint step = 0; step <= steps; ++step) {
    Weights8 next_x[X_LOADS], next_w[MATRICES * W_LOADS];  // past the end all are zero and never multiplied
    [[unroll]] for (uint l = 0; l < X_LOADS; ++l) {
      uint piece = lane + l * GROUP;
      next_x[l] = load_x8(m0 + piece / PARTS, min(rows, m0 + TILE_M), step * TILE_K + piece % PARTS * 8);
    }
    [[unroll]] for (uint l = 0; l < MATRICES * W_LOADS; ++l) {
      uint piece = lane + l % W_LOADS * GROUP;
      next_w[l] = load_w8(l / W_LOADS, n0 + column_at(piece / PARTS), min(p.n, n0 + TILE_N),
                          step * TILE_K + piece % PARTS * 8);
    }
    if (step > 0) {
      multiply(0, lane_m, lane_n, sums);
      if (GATED) multiply(1, lane_m, lane_n, up_sums);
    }
    barrier();
    [[unroll]] for (uint l = 0; l < X_LOADS; ++l) {
      uint piece = lane + l * GROUP, at = piece / PARTS * STRIDE + piece % PARTS * 2;
      if (piece < X_PIECES) {
        x_tile[at] = next_x[l].lo;
        x_tile[at + 1] = next_x[l].hi;
      }
    }
    [[unroll]] for (uint l = 0; l < MATRICES * W_LOADS; ++l) {
      uint piece = lane + l % W_LOADS * GROUP;
      uint at = (l / W_LOADS * TILE_N + piece / PARTS) * STRIDE + piece % PARTS * 2;
      if (piece < W_PIECES) {
        w_tile[at] = next_w[l].lo;
        w_tile[at + 1] = next_w[l].hi;
      }
    }
    barrier();
  }

  if (HEADS) {
    [[dont_unroll]] for (uint four = 0; four < SUMS / 4; ++four) {
      uint i = four * 4 / LANE_N, j = four * 4 % LANE_N;
      uint row = m0 + lane_m + i * LANES_M, n = n0 + (j / 4 * LANES_N + lane_n) * 4;
      vec4 v = vec4(0);
      [[unroll]] for (uint s = 0; s < SUMS; ++s)
        if (s / 4 == four) v[s % 4] = sums[s];
      if (row < rows && n < p.n) store_heads(row, n, v);
    }
    return;
  }
  [[unroll]] for (uint i = 0; i < LANE_M; ++i)
    [[unroll]] for (uint j = 0; j < LANE_N; ++j) {
      uint row = m0 + lane_m + i * LANES_M, n = n0 + lane_n + j * LANES_N;
      if (row < rows && n < p.n) store_y(row, n, sums[i * LANE_N + j], up_sums[i * LANE_N + j]);
    }
}
