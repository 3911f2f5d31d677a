#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef USE_SUBGROUP
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
// Few rows of x: bandwidth decides. The lanes of a workgroup run along k, 16 bytes of weights a lane and load;
// COLUMNS loads are in flight before the first is used, and x is read once for all of them.
#include "interface/matmul.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 32;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
layout(constant_id = kMatvecSpecColumns) const uint COLUMNS = 4;
layout(constant_id = kMatvecSpecRows) const uint X_ROWS = 1;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"

const uint LOADS = MATRICES * COLUMNS;
const uint SUMS = LOADS * X_ROWS;  // (MATRICES, COLUMNS, X_ROWS)
#define REDUCE_MANY SUMS
#include "lib/reduce.glsl"

void main() {
  uint n0 = group_index(p.groups_x, p.groups_y) * COLUMNS;
  uint rows = row_count();
  if (n0 >= p.n || rows == 0) return;

  float sums[SUMS];
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = 0.0;
  for (uint col = gl_LocalInvocationID.x * CHUNK; col < p.k; col += GROUP * CHUNK) {
    uvec4 raw[LOADS];
    float scale[LOADS];
    [[unroll]] for (uint l = 0; l < LOADS; ++l) {  // a column past n repeats the last: not stored
      uint row4 = min(n0 + l % COLUMNS, p.n - 1) * p.row_words;
      raw[l] = load_chunk(l / COLUMNS, row4, col);
      scale[l] = chunk_scale(l / COLUMNS, row4, p.k, col);
    }
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
      uint row = min(m, rows - 1);
      float part[LOADS];
      [[unroll]] for (uint l = 0; l < LOADS; ++l) part[l] = 0.0;
      [[unroll]] for (uint j = 0; j < CHUNK / 4; ++j) {
        vec4 x = load_x(row, col + 4 * j);
        [[unroll]] for (uint l = 0; l < LOADS; ++l) part[l] = dot4(x, decode4(raw[l], j), part[l]);
      }
      [[unroll]] for (uint l = 0; l < LOADS; ++l) sums[l * X_ROWS + m] = fma(part[l], scale[l], sums[l * X_ROWS + m]);
    }
  }
  group_sums(sums);
  if (gl_LocalInvocationID.x != 0) return;
  [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m)
      if (n0 + c < p.n && m < rows)
        store_y(m, n0 + c, sums[c * X_ROWS + m], sums[(MATRICES - 1) * COLUMNS * X_ROWS + c * X_ROWS + m]);
}
