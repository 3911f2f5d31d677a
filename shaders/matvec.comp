#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef USE_SUBGROUP
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
// Few rows of x: bandwidth decides. The lanes of a workgroup run along k, 16 bytes of weights a lane and
// load; COLUMNS loads are in flight before the first is used, and x is read once for all of them.
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
const uint ALL_SUMS = SUMS + (NORM ? X_ROWS : 0);  // and of the squares of x
// Of the vec4 in a chunk. All 8 of 32 elements at once took 256 registers of an AMD GPU (Mesa 25, GCN 5), and
// with 8 rows of x a software driver 0.8 s to compile.
const uint UNROLLED = CHUNK > 8 ? 2 : CHUNK / 4;
#define REDUCE_MANY ALL_SUMS
#include "lib/reduce.glsl"

// Where the sum of a row's squares is; within the array without NORM too.
uint squares(uint m) { return min(SUMS + m, ALL_SUMS - 1); }

void main() {
  uint tiles_m = (p.rows + X_ROWS - 1) / X_ROWS, rows = row_count();
  uint tile = group_of_product(tiles_m * ((p.n + COLUMNS - 1) / COLUMNS));
  uint m0 = tile % tiles_m * X_ROWS, n0 = tile / tiles_m * COLUMNS;  // neighbours share their weights
  if (n0 >= p.n || m0 >= rows || past_batch()) return;

  float sums[ALL_SUMS];
  [[unroll]] for (uint i = 0; i < ALL_SUMS; ++i) sums[i] = 0.0;
  for (uint col = gl_LocalInvocationID.x * CHUNK; col < p.k; col += GROUP * CHUNK) {
    Chunk chunk[LOADS];
    [[unroll]] for (uint l = 0; l < LOADS; ++l) {  // a column past n repeats the last: not stored
      uint row4 = min(n0 + l % COLUMNS, p.n - 1) * p.row_words;
      chunk[l] = load_chunk(l / COLUMNS, row4, p.k, col);
    }
    float part[SUMS];
    [[unroll]] for (uint i = 0; i < SUMS; ++i) part[i] = 0.0;
    [[dont_unroll]] for (uint j0 = 0; j0 < CHUNK / 4; j0 += UNROLLED)
      [[unroll]] for (uint i = 0; i < UNROLLED; ++i) {  // from a constant: else drivers do not unroll
        uint j = UNROLLED == CHUNK / 4 ? i : j0 + i;
        vec4 w[LOADS];
        [[unroll]] for (uint l = 0; l < LOADS; ++l) w[l] = chunk4(chunk[l], j);
        vec4 scale = NORM ? norm_weight(col + 4 * j) : vec4(1);
        [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
          vec4 x = load_x(min(m0 + m, rows - 1), col + 4 * j);
          if (NORM) {
            sums[squares(m)] = dot4(x, x, sums[squares(m)]);
            x *= scale;
          }
          [[unroll]] for (uint l = 0; l < LOADS; ++l)
            part[l * X_ROWS + m] = dot4(x, w[l], part[l * X_ROWS + m]);
        }
      }
    [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = fma(part[i], chunk_factor(chunk[i / X_ROWS]), sums[i]);
  }
  group_sums(sums);
  if (gl_LocalInvocationID.x != 0) return;
  if (NORM)
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
      float factor = norm_factor(sums[squares(m)]);
      [[unroll]] for (uint l = 0; l < LOADS; ++l) sums[l * X_ROWS + m] *= factor;
    }
  if (HEADS) {  // COLUMNS is 4
    [[dont_unroll]] for (uint m = 0; m < X_ROWS; ++m) {
      vec4 v = vec4(0);
      [[unroll]] for (uint i = 0; i < SUMS; ++i)
        if (i % X_ROWS == m) v[i / X_ROWS % 4] = sums[i];
      if (n0 < p.n && m0 + m < rows) store_heads(m0 + m, n0, v);
    }
    return;
  }
  [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m)
      if (n0 + c < p.n && m0 + m < rows)
        store_y(m0 + m, n0 + c, sums[c * X_ROWS + m], sums[(MATRICES - 1) * COLUMNS * X_ROWS + c * X_ROWS + m]);
}
