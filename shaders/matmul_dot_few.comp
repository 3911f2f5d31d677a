// Few rows of x as blocks of 8-bit numbers: bandwidth decides. The lanes of a workgroup run along k, a block of 32
// weights a load; COLUMNS loads are in flight before the first is used, and x is read once for all of them.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_integer_dot_product : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "interface/matmul.h"
#include "interface/quantise.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 32;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeQ8_0;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
layout(constant_id = kMatvecSpecColumns) const uint COLUMNS = 4;
layout(constant_id = kMatvecSpecRows) const uint X_ROWS = 1;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"
#include "lib/matmul_dot.glsl"

const uint LOADS = MATRICES * COLUMNS;
const uint SUMS = LOADS * X_ROWS;  // (MATRICES, COLUMNS, X_ROWS)
#define REDUCE_MANY SUMS
#include "lib/reduce.glsl"

void main() {
  uint tiles_m = (p.rows + X_ROWS - 1) / X_ROWS, rows = row_count();
  uint tile = group_of_product(tiles_m * ((p.n + COLUMNS - 1) / COLUMNS));
  uint m0 = tile % tiles_m * X_ROWS, n0 = tile / tiles_m * COLUMNS;  // neighbours share their weights
  if (n0 >= p.n || m0 >= rows || past_batch()) return;

  float sums[SUMS];
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = 0.0;
  for (uint col = gl_LocalInvocationID.x * kQuantisedBlock; col < p.k; col += GROUP * kQuantisedBlock) {
    RawBlock raw[LOADS];
    [[unroll]] for (uint l = 0; l < LOADS; ++l)  // a column past n repeats the last: not stored
      raw[l] = fetch_block(l / COLUMNS, min(n0 + l % COLUMNS, p.n - 1) * p.row_words, p.k, col);
    DotBlock w[LOADS];
    [[unroll]] for (uint l = 0; l < LOADS; ++l) w[l] = unpack_block(raw[l], col);
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
      XBlock x = load_x_block(min(m0 + m, rows - 1), col);
      [[unroll]] for (uint l = 0; l < LOADS; ++l) sums[l * X_ROWS + m] = add_block(w[l], x, sums[l * X_ROWS + m]);
    }
  }
  group_sums(sums);
  if (gl_LocalInvocationID.x != 0) return;
  [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m)
      if (n0 + c < p.n && m0 + m < rows)
        store_y(m0 + m, n0 + c, sums[c * X_ROWS + m], sums[(MATRICES - 1) * COLUMNS * X_ROWS + c * X_ROWS + m]);
}
