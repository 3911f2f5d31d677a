// Many rows of x as blocks of 8-bit numbers. A workgroup computes TILE_M x TILE_N of y in steps of a block: x and the
// weights as bytes in shared memory, LANE_M x LANE_N sums in a lane's registers, and the next step's loads in flight
// while this one is computed.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_integer_dot_product : require
#include "interface/matmul.h"
#include "interface/quantise.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 128;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeQ8_0;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
layout(constant_id = kTileSpecM) const uint TILE_M = 64;
layout(constant_id = kTileSpecN) const uint TILE_N = 64;
layout(constant_id = kTileSpecLaneM) const uint LANE_M = 4;
layout(constant_id = kTileSpecLaneN) const uint LANE_N = 8;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"
#include "lib/matmul_dot.glsl"

const uint LANES_N = TILE_N / LANE_N;  // lanes along n; GROUP / LANES_N along m
const uint LANES_M = TILE_M / LANE_M;
const uint BLOCK = 3;  // uvec4 a block: quants and what scales them. An odd number keeps rows on other banks
const uint W_ROWS = MATRICES * TILE_N;
const uint X_LOADS = (TILE_M + GROUP - 1) / GROUP;  // blocks a lane loads
const uint W_LOADS = (W_ROWS + GROUP - 1) / GROUP;
const uint SUMS = LANE_M * LANE_N;

shared uvec4 x_tile[TILE_M * BLOCK];
shared uvec4 w_tile[W_ROWS * BLOCK];  // (MATRICES, TILE_N)

XBlock next_x[X_LOADS];
RawBlock next_w[W_LOADS];

uint lane() { return gl_LocalInvocationID.x; }
// Lanes take rows of the weights from the last on, so that few have both.
uint w_row(uint l) { return GROUP - 1 - lane() + l * GROUP; }

void fetch(uint m0, uint n0, uint rows, uint col) {
  [[unroll]] for (uint l = 0; l < X_LOADS; ++l) {
    uint row = lane() + l * GROUP;
    if (row < TILE_M && m0 + row < rows && col < p.k) next_x[l] = load_x_block(m0 + row, col);
  }
  [[unroll]] for (uint l = 0; l < W_LOADS; ++l) {
    uint row = w_row(l), n = n0 + row % TILE_N;
    if (row < W_ROWS && n < p.n && col < p.k) {
      if (row < TILE_N)
        next_w[l] = fetch_block(0, n * p.row_words, p.k, col);
      else
        next_w[l] = fetch_block(1, n * p.row_words, p.k, col);
    }
  }
}

void keep(uint col) {  // rows past the last hold anything, and go nowhere
  [[unroll]] for (uint l = 0; l < X_LOADS; ++l) {
    uint row = lane() + l * GROUP;
    if (row < TILE_M) {
      x_tile[row * BLOCK] = next_x[l].lo;
      x_tile[row * BLOCK + 1] = next_x[l].hi;
      x_tile[row * BLOCK + 2] = next_x[l].head;
    }
  }
  [[unroll]] for (uint l = 0; l < W_LOADS; ++l) {
    uint row = w_row(l);
    if (row < W_ROWS) {
      DotBlock w = unpack_block(next_w[l], col);
      w_tile[row * BLOCK] = w.lo;
      w_tile[row * BLOCK + 1] = w.hi;
      w_tile[row * BLOCK + 2] = uvec4(floatBitsToUint(w.scales), 0, 0);
    }
  }
}

void multiply(uint which, uint lane_m, uint lane_n, inout float sums[SUMS]) {
  XBlock x[LANE_M];
  [[unroll]] for (uint i = 0; i < LANE_M; ++i) {
    uint at = (lane_m + i * LANES_M) * BLOCK;
    x[i] = XBlock(x_tile[at], x_tile[at + 1], x_tile[at + 2]);
  }
  [[unroll]] for (uint j = 0; j < LANE_N; ++j) {
    uint at = (which * TILE_N + lane_n + j * LANES_N) * BLOCK;
    DotBlock w = DotBlock(w_tile[at], w_tile[at + 1], uintBitsToFloat(w_tile[at + 2].xy));
    [[unroll]] for (uint i = 0; i < LANE_M; ++i) sums[i * LANE_N + j] = add_block(w, x[i], sums[i * LANE_N + j]);
  }
}

void main() {
  uint lane_m = lane() / LANES_N, lane_n = lane() % LANES_N;
  uint tiles_m = (p.rows + TILE_M - 1) / TILE_M;
  uint tile = group_of_product(tiles_m * ((p.n + TILE_N - 1) / TILE_N));
  uint m0 = tile % tiles_m * TILE_M, n0 = tile / tiles_m * TILE_N;  // neighbours share their weights
  uint rows = row_count();
  if (m0 >= rows || n0 >= p.n || past_batch()) return;

  float sums[SUMS], up_sums[SUMS];
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = up_sums[i] = 0.0;
  fetch(m0, n0, rows, 0);
  [[dont_unroll]] for (uint col = 0; col < p.k; col += kQuantisedBlock) {
    keep(col);
    barrier();
    fetch(m0, n0, rows, col + kQuantisedBlock);  // past the end nothing is read
    multiply(0, lane_m, lane_n, sums);
    if (GATED) multiply(1, lane_m, lane_n, up_sums);
    barrier();
  }

  [[unroll]] for (uint i = 0; i < LANE_M; ++i)
    [[unroll]] for (uint j = 0; j < LANE_N; ++j) {
      uint row = m0 + lane_m + i * LANES_M, n = n0 + lane_n + j * LANES_N;
      if (row < rows && n < p.n) store_y(row, n, sums[i * LANE_N + j], up_sums[i * LANE_N + j]);
    }
}
