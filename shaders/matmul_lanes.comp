#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
// For devices whose lanes are elements of a vector register: a load is a loop over lanes there, and a shuffle
// one instruction. Each lane has columns of its own and reads their weights; what all lanes need, x, is
// loaded once by different lanes and shuffled. A workgroup is one subgroup, for any number of rows.
#include "interface/matmul.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 8;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
layout(constant_id = kMatvecSpecColumns) const uint COLUMNS = 4;  // a lane
layout(constant_id = kMatvecSpecRows) const uint X_ROWS = 16;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"

const uint LOADS = MATRICES * COLUMNS;
const uint SUMS = LOADS * X_ROWS;                             // (MATRICES, COLUMNS, X_ROWS)
const uint X_PARTS = CHUNK > 4 * GROUP ? CHUNK / GROUP / 4 : 1;  // vec4 a lane holds of a row of x
const uint STEP = X_PARTS * GROUP * 4;                        // elements of k that the lanes hold
// Chunks, and vec4 of a chunk, in one piece of straight code: at the end of a loop's body such a driver writes
// every sum under a mask, and code of more than a thousand multiply-adds takes it a second to compile.
const uint UNROLLED = SUMS * STEP <= 512 ? STEP / CHUNK : 1;
const uint UNROLLED4 = SUMS * CHUNK > 1024 && CHUNK > 16 && X_PARTS == 1 ? 4 : CHUNK / 4;

const uint COLUMN_STEP = HEADS ? 1 : GROUP;  // between the columns of a lane

vec4 x[X_ROWS * X_PARTS];
float squares[X_ROWS];  // of this lane's parts of x
float sums[SUMS];
uint rows4[LOADS];  // where the rows of w start

Chunk chunk[LOADS];
float part[SUMS];

// The j-th vec4 of the chunks; `part_of_x`: which of a lane's vec4 of x they meet.
void multiply4(uint at, uint j, uint part_of_x) {
  vec4 w[LOADS];
  [[unroll]] for (uint l = 0; l < LOADS; ++l) w[l] = chunk4(chunk[l], j);
  [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
    vec4 v = subgroupShuffle(x[m * X_PARTS + part_of_x], at + j - part_of_x * GROUP);
    [[unroll]] for (uint l = 0; l < LOADS; ++l) {
      uint s = l * X_ROWS + m;
      if (HALF_SCALES)
        part[s] = dot4(v, w[l], part[s]);
      else
        sums[s] = dot4(v, w[l], sums[s]);
    }
  }
}

// sums += x w^T over CHUNK elements; `at`: of the first one, in vec4 from the step's.
void multiply(uint k0, uint at) {
  [[unroll]] for (uint l = 0; l < LOADS; ++l)
    chunk[l] = load_chunk(l / COLUMNS, rows4[l], p.k, k0 + 4 * at);
  if (HALF_SCALES) [[unroll]] for (uint i = 0; i < SUMS; ++i) part[i] = 0.0;
  if (UNROLLED4 == CHUNK / 4) {  // no loop of one iteration: drivers leave loops around it as they are
    [[unroll]] for (uint j = 0; j < CHUNK / 4; ++j) multiply4(at, j, X_PARTS == 1 ? 0 : j / GROUP);
  } else {  // X_PARTS is 1
    [[dont_unroll]] for (uint j0 = 0; j0 < CHUNK / 4; j0 += UNROLLED4)
      [[unroll]] for (uint i = 0; i < UNROLLED4; ++i) multiply4(at, j0 + i, 0);
  }
  if (HALF_SCALES)
    [[unroll]] for (uint i = 0; i < SUMS; ++i)
      sums[i] = fma(part[i], chunk_factor(chunk[i / X_ROWS]), sums[i]);
}

void main() {
  uint lane = gl_SubgroupInvocationID, rows = row_count();
  uint tiles_m = (p.rows + X_ROWS - 1) / X_ROWS, wide = COLUMNS * GROUP;
  uint tile = group_of_product(tiles_m * ((p.n + wide - 1) / wide));
  uint m0 = tile % tiles_m * X_ROWS, n0 = tile / tiles_m * wide;
  if (m0 >= rows || n0 >= p.n || past_batch()) return;
  n0 += lane * (HEADS ? COLUMNS : 1);

  [[unroll]] for (uint l = 0; l < LOADS; ++l)  // a column past n repeats the last: not stored
    rows4[l] = min(n0 + l % COLUMNS * COLUMN_STEP, p.n - 1) * p.row_words;
  [[unroll]] for (uint i = 0; i < SUMS; ++i) sums[i] = 0.0;
  if (NORM) [[unroll]] for (uint m = 0; m < X_ROWS; ++m) squares[m] = 0.0;
  [[dont_unroll]] for (uint k0 = 0; k0 < p.k; k0 += STEP) {
    [[unroll]] for (uint i = 0; i < X_PARTS; ++i) {
      uint col = k0 + 4 * (i * GROUP + lane);
      vec4 scale = NORM ? norm_weight(col) : vec4(1);
      [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
        vec4 v = load_x(min(m0 + m, rows - 1), col);
        if (NORM) squares[m] = dot4(v, v, squares[m]);
        x[m * X_PARTS + i] = NORM ? v * scale : v;
      }
    }
    if (UNROLLED > 1 && k0 + STEP <= p.k) {
      [[unroll]] for (uint c = 0; c < UNROLLED; ++c) multiply(k0, c * (CHUNK / 4));
    } else {
      uint end = min(STEP / 4, (p.k - k0 + 3) / 4);
      [[dont_unroll]] for (uint at = 0; at < end; at += CHUNK / 4) multiply(k0, at);
    }
  }
  if (NORM)
    [[unroll]] for (uint m = 0; m < X_ROWS; ++m) {
      float all = squares[m];
      for (uint d = 1; d < GROUP; d <<= 1) all += subgroupShuffleXor(all, d);
      float factor = norm_factor(all);
      [[unroll]] for (uint l = 0; l < LOADS; ++l) sums[l * X_ROWS + m] *= factor;
    }
  // Not unrolled: X_ROWS copies of a store take such a driver long to compile.
  [[dont_unroll]] for (uint m = 0; m < X_ROWS && m0 + m < rows; ++m) {
    float row[LOADS];
    [[unroll]] for (uint l = 0; l < LOADS; ++l) row[l] = sums[l * X_ROWS];
    [[unroll]] for (uint i = 0; i < SUMS; ++i)
      if (i % X_ROWS == m) row[i / X_ROWS] = sums[i];
    if (HEADS) {
      vec4 v = vec4(0);
      [[unroll]] for (uint l = 0; l < LOADS; ++l) v[l % 4] = row[l];
      if (n0 < p.n) store_heads(m0 + m, n0, v);
    } else {
      [[unroll]] for (uint c = 0; c < COLUMNS; ++c)
        if (n0 + c * GROUP < p.n) store_y(m0 + m, n0 + c * GROUP, row[c], row[LOADS - COLUMNS + c]);
    }
  }
}
