// A small network in one dispatch, for devices whose lanes are elements of a vector register: a workgroup is one
// subgroup and takes LANE_ROWS rows through all layers, a lane four columns of a layer at a time.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "interface/mlp.h"
#include "interface/state.h"

layout(constant_id = kMlpSpecGroup) const uint GROUP = 8;
layout(constant_id = kMlpSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMlpSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMlpSpecLaneRows) const uint LANE_ROWS = 16;
layout(constant_id = kMlpSpecVec4) const uint ROW_VEC4 = 16;
layout(constant_id = kMlpSpecActs) const uint ACTS = 1;
layout(local_size_x_id = kMlpSpecGroup) in;

#include "lib/mlp.glsl"
#include "lib/shuffle_product.glsl"

shared vec4 tile[2 * LANE_ROWS * ROW_VEC4];  // (2, LANE_ROWS, ROW_VEC4)

// Columns n0 + 4 lane .. + 3 of a layer's output: to tile[to], or to y. `last` is a literal: such a device goes
// through both sides of a branch.
void columns_of(Layer layer, uint n0, uint from, uint to, bool last, uint m0, uint rows) {
  uint lane = gl_SubgroupInvocationID, col = n0 + 4 * lane;
  [[unroll]] for (uint i = 0; i < LOADS * LANE_ROWS; ++i) sums[i] = 0.0;
  [[unroll]] for (uint l = 0; l < 4; ++l)
    rows4[l] = layer.weights + min(col + l, layer.n - 1) * layer.row_words;
  [[dont_unroll]] for (uint k0 = 0; k0 < layer.k; k0 += 4 * GROUP) {
    uint q = min(k0 / 4 + lane, ROW_VEC4 - 1);  // past the row: not used
    [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m) x[m] = tile[from + m * ROW_VEC4 + q];
    multiply(layer.k, k0);
  }
  vec4 bias;
  [[unroll]] for (uint l = 0; l < 4; ++l) bias[l] = bias_of(layer, col + l);
  [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m) {
    vec4 value;
    [[unroll]] for (uint l = 0; l < 4; ++l)
      value[l] = output_of(layer, col + l, bias[l], sums[l * LANE_ROWS + m]);
    if (last) {
      [[unroll]] for (uint l = 0; l < 4; ++l)
        if (m0 + m < rows && col + l < layer.n) store_y((m0 + m) * layer.n + col + l, value[l]);
    } else if (col / 4 < ROW_VEC4) {
      tile[to + m * ROW_VEC4 + col / 4] = value;
    }
  }
}

void main() {
  uint lane = gl_SubgroupInvocationID, rows = row_count();
  uint m0 = group_index(p.groups_x, p.groups_y) * LANE_ROWS;
  if (m0 >= rows) return;
  [[dont_unroll]] for (uint q = lane; q < ROW_VEC4; q += GROUP)
    [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m)
      tile[m * ROW_VEC4 + q] = load_x(min(m0 + m, rows - 1), 4 * q);
  subgroupBarrier();  // with barrier() such a driver makes a coroutine of the kernel
  uint from = 0, to = LANE_ROWS * ROW_VEC4;
  [[dont_unroll]] for (uint i = 0; i + 1 < p.layers; ++i) {
    Layer layer = layer_of(i);
    [[dont_unroll]] for (uint n0 = 0; n0 < layer.n; n0 += 4 * GROUP)
      columns_of(layer, n0, from, to, false, m0, rows);
    subgroupBarrier();
    to = from;
    from = LANE_ROWS * ROW_VEC4 - from;
  }
  Layer layer = layer_of(p.layers - 1);
  [[dont_unroll]] for (uint n0 = 0; n0 < layer.n; n0 += 4 * GROUP)
    columns_of(layer, n0, from, to, true, m0, rows);
}
