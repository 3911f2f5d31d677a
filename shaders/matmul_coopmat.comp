// Many rows of x on cooperative matrices (VK_KHR_cooperative_matrix) of any fragment shape. A workgroup computes
// TILE_M x TILE_N of y in steps of TILE_K: x and the decoded weights as f16 in shared memory, f32 sums in fragments,
// and the next step's loads in flight while this one is computed. docs/kernels/matmul.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "interface/matmul.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 128;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
// MoltenVK wants literals here: https://github.com/KhronosGroup/MoltenVK
layout(constant_id = kFragmentSpecM) const uint M = 16;
layout(constant_id = kFragmentSpecN) const uint N = 16;
layout(constant_id = kFragmentSpecK) const uint K = 16;
layout(constant_id = kFragmentSpecTileM) const uint TILE_M = 64;
layout(constant_id = kFragmentSpecTileN) const uint TILE_N = 64;
layout(constant_id = kFragmentSpecTileK) const uint TILE_K = 32;
layout(constant_id = kFragmentSpecGroupsM) const uint GROUPS_M = 2;
layout(constant_id = kFragmentSpecGroupsN) const uint GROUPS_N = 2;
layout(constant_id = kFragmentSpecStages) const uint STAGES = 1;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"

const uint PART_M = TILE_M / GROUPS_M;  // of a subgroup
const uint PART_N = TILE_N / GROUPS_N;
const uint FRAGS_M = PART_M / M;
const uint FRAGS_N = PART_N / N;
const uint STRIP_PITCH = PART_N / 4 + 1;  // M rows of a subgroup's sums on their way to y
const uint STRIP = M * STRIP_PITCH;
const uint TILES_LATER = GROUPS_M * GROUPS_N * MATRICES * STRIP;
const uint SUBGROUP = GROUP / (GROUPS_M * GROUPS_N);
#include "lib/matmul_stage.glsl"

#define SUMS coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
#define LEFT coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA>
#define RIGHT coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB>
const int kByRow = gl_CooperativeMatrixLayoutRowMajor;
const int kByColumn = gl_CooperativeMatrixLayoutColumnMajor;

SUMS sums[MATRICES * FRAGS_N * FRAGS_M];

void multiply(uint stage, uint part_m, uint part_n) {
  [[unroll]] for (uint d = 0; d < TILE_K; d += K) {
    LEFT x[FRAGS_M];
    [[unroll]] for (uint i = 0; i < FRAGS_M; ++i)
      coopMatLoad(x[i], tiles, stage + (part_m + i * M) * PITCH + d / 8, PITCH, kByRow);
    [[unroll]] for (uint j = 0; j < MATRICES * FRAGS_N; ++j) {
      RIGHT w;
      uint n = j / FRAGS_N * TILE_N + part_n + j % FRAGS_N * N;
      coopMatLoad(w, tiles, stage + X_TILE + n * PITCH + d / 8, PITCH, kByColumn);
      [[unroll]] for (uint i = 0; i < FRAGS_M; ++i)
        sums[j * FRAGS_M + i] = coopMatMulAdd(x[i], w, sums[j * FRAGS_M + i]);
    }
  }
}

// M rows of a subgroup at a time, so that a lane has four neighbours of a row.
void write_out(uint m0, uint n0, uint rows) {
  uint strip = gl_SubgroupID * MATRICES * STRIP;
  [[unroll]] for (uint i = 0; i < FRAGS_M; ++i) {
    [[unroll]] for (uint j = 0; j < MATRICES * FRAGS_N; ++j)
      coopMatStore(sums[j * FRAGS_M + i], tiles, strip + j / FRAGS_N * STRIP + j % FRAGS_N * N / 4, STRIP_PITCH,
                   kByRow);
    subgroupBarrier();
    // Unrolled: a loop in here would keep drivers from unrolling the one around it.
    [[unroll]] for (uint q0 = 0; q0 < M * PART_N / 4; q0 += SUBGROUP) {
      uint q = q0 + gl_SubgroupInvocationID, row = q / (PART_N / 4), c = q % (PART_N / 4);
      uint at = strip + row * STRIP_PITCH + c;
      if (q < M * PART_N / 4 && m0 + i * M + row < rows)
        store_y4(m0 + i * M + row, n0 + 4 * c, uintBitsToFloat(tiles[at]),
                 uintBitsToFloat(tiles[at + (MATRICES - 1) * STRIP]));
    }
    if (i + 1 < FRAGS_M) subgroupBarrier();
  }
}

void main() {
  uvec2 tile = tile_of(TILE_M, TILE_N);
  uint rows = row_count();
  if (tile.x >= rows || tile.y >= p.n || past_batch()) return;
  uint part_m = gl_SubgroupID / GROUPS_N * PART_M, part_n = gl_SubgroupID % GROUPS_N * PART_N;

  [[unroll]] for (uint i = 0; i < MATRICES * FRAGS_N * FRAGS_M; ++i) sums[i] = SUMS(0.0);
  fetch(tile.x, tile.y, rows, 0);
  uint stage = 0;
  [[dont_unroll]] for (uint col = 0; col < p.k; col += TILE_K) {
    keep(stage, col);
    barrier();
    fetch(tile.x, tile.y, rows, col + TILE_K);  // past the end nothing is read
    multiply(stage, part_m, part_n);
    if (STAGES == 1)
      barrier();
    else
      stage = STAGE - stage;
  }
  if (STAGES != 1) barrier();  // one stage ends its steps with one
  write_out(tile.x + part_m, tile.y + part_n, rows);
}
