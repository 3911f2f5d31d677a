// Products of rows in shared memory, `vec4 tile[]`, with four rows of weights at a time, which a lane reads by
// itself: LANE_ROWS rows a lane, LANES_M apart.
#include "products.glsl"

const uint SUMS = 4 * LANE_ROWS;  // (LANE_ROWS, 4)
// Of the vec4 in a chunk. With two at a time of more than 8 elements, and sums of a chunk apart that its scale
// multiplies, Intel's compiler (Mesa 25: Gen9, Arc, Xe2) spilled 1 to 229 registers with all types of 4 to 8 bits.
const uint UNROLLED = CHUNK > 8 ? 1 : CHUNK / 4;

// sums += a b^T over a chunk: a is this lane's rows from tile[at] on, `stride` apart; b the rows of weights that
// start at rows4, from element `col` of their k on, `each` rows of the matrix `first` and of those after it.
void multiply(uint first, uint each, uint rows4[4], uint k, uint col, uint at, uint stride, inout float sums[SUMS]) {
  Chunk chunk[4];
  [[unroll]] for (uint l = 0; l < 4; ++l) chunk[l] = load_chunk(first + l / each, rows4[l], k, col);
  [[dont_unroll]] for (uint j0 = 0; j0 < CHUNK / 4; j0 += UNROLLED)
    [[unroll]] for (uint u = 0; u < UNROLLED; ++u) {
      uint j = UNROLLED == CHUNK / 4 ? u : j0 + u;
      vec4 w[4];
      [[unroll]] for (uint l = 0; l < 4; ++l) w[l] = weights4(chunk[l], j);
      [[unroll]] for (uint i = 0; i < LANE_ROWS; ++i) {
        vec4 a = tile[at + i * LANES_M * stride + j];
        [[unroll]] for (uint l = 0; l < 4; ++l) sums[4 * i + l] = dot4(a, w[l], sums[4 * i + l]);
      }
    }
}
