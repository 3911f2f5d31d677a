// Many rows of x on matrices of any size (VK_NV_cooperative_matrix2): the sums of a subgroup, or of the workgroup, are
// one matrix, and each element of it goes to y by itself. docs/kernels/matmul.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "interface/matmul.h"
#include "interface/state.h"

layout(constant_id = kMatmulSpecGroup) const uint GROUP = 128;
layout(constant_id = kMatmulSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(constant_id = kMatmulSpecFlags) const uint FLAGS = 0;
layout(constant_id = kMatmulSpecAct) const uint ACT = kActNone;
layout(constant_id = kWholeSpecScope) const int SCOPE = gl_ScopeSubgroup;  // or gl_ScopeWorkgroup
layout(constant_id = kWholeSpecK) const uint K = 16;
layout(constant_id = kWholeSpecTileM) const uint TILE_M = 64;
layout(constant_id = kWholeSpecTileN) const uint TILE_N = 64;
layout(constant_id = kWholeSpecTileK) const uint TILE_K = 32;
layout(constant_id = kWholeSpecGroupsM) const uint GROUPS_M = 2;  // 1 and 1: the workgroup has one matrix
layout(constant_id = kWholeSpecGroupsN) const uint GROUPS_N = 2;
layout(constant_id = kWholeSpecStages) const uint STAGES = 1;
layout(local_size_x_id = kMatmulSpecGroup) in;

#include "lib/matmul_io.glsl"

const uint PART_M = TILE_M / GROUPS_M;
const uint PART_N = TILE_N / GROUPS_N;
const uint TILES_LATER = 0;
#include "lib/matmul_stage.glsl"

#define SUMS coopmat<float, SCOPE, PART_M, PART_N, gl_MatrixUseAccumulator>
#define LEFT coopmat<float16_t, SCOPE, PART_M, K, gl_MatrixUseA>
#define RIGHT coopmat<float16_t, SCOPE, K, PART_N, gl_MatrixUseB>
const int kByRow = gl_CooperativeMatrixLayoutRowMajor;
const int kByColumn = gl_CooperativeMatrixLayoutColumnMajor;

SUMS sums, up_sums;

void multiply(uint stage, uint part_m, uint part_n) {
  [[unroll]] for (uint d = 0; d < TILE_K; d += K) {
    LEFT x;
    RIGHT w;
    coopMatLoad(x, tiles, stage + part_m * PITCH + d / 8, PITCH, kByRow);
    coopMatLoad(w, tiles, stage + X_TILE + part_n * PITCH + d / 8, PITCH, kByColumn);
    sums = coopMatMulAdd(x, w, sums);
    if (GATED) {
      coopMatLoad(w, tiles, stage + X_TILE + (TILE_N + part_n) * PITCH + d / 8, PITCH, kByColumn);
      up_sums = coopMatMulAdd(x, w, up_sums);
    }
  }
}

uint first_row, end_row, first_n;  // of this matrix; rows end with the live ones

float store_at(const in uint row, const in uint col, const in float dot_w) {
  if (first_row + row < end_row && first_n + col < p.n) store_y(first_row + row, first_n + col, dot_w, 0.0);
  return dot_w;
}
float store_both_at(const in uint row, const in uint col, const in float dot_w, const in float dot_up) {
  if (first_row + row < end_row && first_n + col < p.n) store_y(first_row + row, first_n + col, dot_w, dot_up);
  return dot_w;
}

void main() {
  uvec2 tile = tile_of(TILE_M, TILE_N);
  uint rows = row_count();
  if (tile.x >= rows || tile.y >= p.n || past_batch()) return;
  uint part = GROUPS_M * GROUPS_N == 1 ? 0 : gl_SubgroupID;
  uint part_m = part / GROUPS_N * PART_M, part_n = part % GROUPS_N * PART_N;

  sums = SUMS(0.0);
  if (GATED) up_sums = SUMS(0.0);
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
  first_row = tile.x + part_m;
  end_row = rows;
  first_n = tile.y + part_n;
  if (GATED)
    coopMatPerElementNV(sums, sums, store_both_at, up_sums);
  else
    coopMatPerElementNV(sums, sums, store_at);
}
