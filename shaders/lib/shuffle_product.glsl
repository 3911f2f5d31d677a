// Products on devices whose lanes are elements of a vector register: what all lanes need is held by them, four
// elements each, and shuffled. Four rows of weights a lane and matrix; of LANE_ROWS rows.
#include "products.glsl"

const uint LOADS = 4 * MATRICES;
// Of the vec4 in a chunk, in one piece of straight code: it takes such a driver a second to compile a thousand
// multiply-adds.
const uint FIRST_UNROLLED = LOADS * LANE_ROWS * CHUNK <= 512 || CHUNK <= 8 ? CHUNK / 4 : CHUNK / 8;

vec4 x[LANE_ROWS];               // lane l holds elements k0 + 4l .. + 3
float sums[LOADS * LANE_ROWS];   // (MATRICES, 4, LANE_ROWS)
uint rows4[4];                   // where the rows of weights start

Chunk chunk[LOADS];

void multiply4(uint at, uint j) {  // the j-th vec4 of the chunks
  vec4 w[LOADS];
  [[unroll]] for (uint l = 0; l < LOADS; ++l) w[l] = weights4(chunk[l], j);
  [[unroll]] for (uint m = 0; m < LANE_ROWS; ++m) {
    vec4 v = subgroupShuffle(x[m], at + j);
    [[unroll]] for (uint l = 0; l < LOADS; ++l)
      sums[l * LANE_ROWS + m] = dot4(v, w[l], sums[l * LANE_ROWS + m]);
  }
}

// sums += x w^T over elements [k0, k0 + 4 GROUP) of k.
void multiply(uint k, uint k0) {
  uint end = min(GROUP, (k - k0 + 3) / 4);
  [[dont_unroll]] for (uint at = 0; at < end; at += CHUNK / 4) {
    [[unroll]] for (uint l = 0; l < LOADS; ++l) chunk[l] = load_chunk(l / 4, rows4[l % 4], k, k0 + 4 * at);
    if (FIRST_UNROLLED == CHUNK / 4) {  // no loop of one iteration: it would count as two of a driver's limit
      [[unroll]] for (uint j = 0; j < CHUNK / 4; ++j) multiply4(at, j);
    } else {
      [[dont_unroll]] for (uint j0 = 0; j0 < CHUNK / 4; j0 += FIRST_UNROLLED)
        [[unroll]] for (uint u = 0; u < FIRST_UNROLLED; ++u) multiply4(at, j0 + u);
    }
  }
}
