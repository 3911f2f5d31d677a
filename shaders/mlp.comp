// A small network in one dispatch. A workgroup takes TILE_M rows through all layers; between two layers they lie
// in shared memory, in one half of it and then the other.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/mlp.h"
#include "interface/state.h"

layout(constant_id = kMlpSpecGroup) const uint GROUP = 128;
layout(constant_id = kMlpSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMlpSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMlpSpecLaneRows) const uint LANE_ROWS = 4;
layout(constant_id = kMlpSpecVec4) const uint ROW_VEC4 = 16;
layout(constant_id = kMlpSpecActs) const uint ACTS = 1;
layout(constant_id = kMlpSpecLanesM) const uint LANES_M = 8;
layout(local_size_x_id = kMlpSpecGroup) in;

#include "lib/mlp.glsl"

const uint LANES_N = GROUP / LANES_M;
const uint TILE_M = LANES_M * LANE_ROWS;
const uint STRIDE = ROW_VEC4 + 1;  // vec4: the odd one keeps rows on other banks

shared vec4 tile[2 * TILE_M * STRIDE];  // (2, TILE_M, STRIDE)

#include "lib/tile_product.glsl"

// Columns n0 + lane_n + (0..3) LANES_N of a layer's output for this lane's rows: to tile[to], or to y.
void columns_of(Layer layer, uint n0, uint from, uint to, bool last, uint m0, uint rows) {
  uint lane_m = gl_LocalInvocationID.x / LANES_N, lane_n = gl_LocalInvocationID.x % LANES_N;
  float sums[SUMS];
  uint rows4[4];
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = 0.0;
  [[unroll]] for (uint l = 0; l < 4; ++l)
    rows4[l] = layer.weights + min(n0 + lane_n + l * LANES_N, layer.n - 1) * layer.row_words;
  [[dont_unroll]] for (uint k0 = 0; k0 < layer.k; k0 += CHUNK)
    multiply(0, 4, rows4, layer.k, k0, from + lane_m * STRIDE + k0 / 4, STRIDE, sums);
  [[unroll]] for (uint l = 0; l < 4; ++l) {
    uint col = n0 + lane_n + l * LANES_N;
    float bias = bias_of(layer, col);
    [[unroll]] for (uint i = 0; i < LANE_ROWS; ++i) {
      uint row = lane_m + i * LANES_M;
      float value = output_of(layer, col, bias, sums[4 * i + l]);
      if (last) {
        if (m0 + row < rows && col < layer.n) store_y((m0 + row) * layer.n + col, value);
      } else if (col < 4 * ROW_VEC4) {
        tile[to + row * STRIDE + col / 4][col % 4] = value;
      }
    }
  }
}

void main() {
  uint rows = row_count(), m0 = group_index(p.groups_x, p.groups_y) * TILE_M;
  if (m0 >= rows) return;
  for (uint i = gl_LocalInvocationID.x; i < TILE_M * ROW_VEC4; i += GROUP) {
    uint row = i / ROW_VEC4, q = i % ROW_VEC4;
    tile[row * STRIDE + q] = m0 + row < rows ? load_x(m0 + row, 4 * q) : vec4(0);
  }
  barrier();
  [[dont_unroll]] for (uint i = 0; i < p.layers; ++i) {
    Layer layer = layer_of(i);
    uint from = (i & 1u) * TILE_M * STRIDE, to = TILE_M * STRIDE - from;
    [[dont_unroll]] for (uint n0 = 0; n0 < layer.n; n0 += 4 * LANES_N)
      columns_of(layer, n0, from, to, i + 1 == p.layers, m0, rows);
    barrier();
  }
}
