// Flash attention for a tile of rows on matrices of any size (VK_NV_cooperative_matrix2): scores, weights and
// output are one matrix each, and rows meet in reductions. docs/kernels/attention_matrix.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"

layout(constant_id = kFlexibleSpecScope) const int SCOPE = gl_ScopeSubgroup;  // or gl_ScopeWorkgroup
layout(constant_id = kFlexibleSpecRows) const uint STRIP = 16;
layout(constant_id = kFlexibleSpecStrips) const uint STRIPS = 4;
layout(constant_id = kFlexibleSpecCols) const uint COLS = 32;
layout(constant_id = kFlexibleSpecDimBlock) const uint DIM_BLOCK = 16;
layout(constant_id = kFlexibleSpecVBlock) const uint V_BLOCK = 16;
layout(local_size_x_id = kAttentionSpecGroup) in;

const uint STRIP_LANES = GROUP / STRIPS;
const uint ROWS = STRIPS * STRIP;
const uint DIM_PAD = (DIM + DIM_BLOCK - 1) / DIM_BLOCK * DIM_BLOCK;
const uint V_PAD = (V_DIM + V_BLOCK - 1) / V_BLOCK * V_BLOCK;
const uint V_BLOCKS = V_PAD / V_BLOCK;
#include "lib/attention_matrix.glsl"
const uint BLOCK_PITCH = V_BLOCK + 4;

#define SCORES coopmat<float, SCOPE, STRIP, COLS, gl_MatrixUseAccumulator>
#define OUTPUT coopmat<float, SCOPE, STRIP, V_BLOCK, gl_MatrixUseAccumulator>
#define WEIGHTS coopmat<float16_t, SCOPE, STRIP, COLS, gl_MatrixUseA>
const int kByRow = gl_CooperativeMatrixLayoutRowMajor;
const int kByColumn = gl_CooperativeMatrixLayoutColumnMajor;

shared vec4 block_tile[ROWS * BLOCK_PITCH / 4];  // (ROWS, V_BLOCK)
shared float row_max[ROWS];
shared float row_factor[ROWS];

Tile tile;

uint strip() { return STRIPS == 1 ? 0 : gl_SubgroupID * STRIP; }
uint strip_lane() { return STRIPS == 1 ? lane() : gl_SubgroupInvocationID; }

// Among the lanes that share rows.
void sync() {
  if (SCOPE == gl_ScopeWorkgroup)
    barrier();
  else
    subgroupBarrier();
}

float larger(const in float a, const in float b) { return max(a, b); }
float sum_of(const in float a, const in float b) { return a + b; }
float larger_at(const in uint row, const in uint col, const in float a, const in float b) {
  return max(a, b);
}
// exp2(s - max)
float weight_at(const in uint row, const in uint col, const in float s, const in float most) {
  return exp2(s - most);
}
float adjusted_at(const in uint row, const in uint col, const in float s, const in int step) {
  return adjust(score_row_of(tile, strip() + row), s, int(read_key(tile.walk, step + int(col))));
}
float masked_at(const in uint row, const in uint col, const in float s, const in int step) {
  return masked(tile, row_span[strip() + row], s, step + int(col));
}

SCORES scores(int step) {  // q k^T, as it goes into softmax
  SCORES s = SCORES(0.0);
  [[unroll]] for (uint d = 0; d < DIM_PAD; d += DIM_BLOCK) {
    coopmat<float16_t, SCOPE, STRIP, DIM_BLOCK, gl_MatrixUseA> q;
    coopmat<float16_t, SCOPE, DIM_BLOCK, COLS, gl_MatrixUseB> k;
    coopMatLoad(q, q_tile, strip() * QK_PITCH + d / 4, QK_PITCH, kByRow);
    coopMatLoad(k, k_tile, d / 4, QK_PITCH, kByColumn);
    s = coopMatMulAdd(q, k, s);
  }
  s = s * score_scale();
  if (ADJUSTS) coopMatPerElementNV(s, s, adjusted_at, step);
  if (mixed(tile, step)) coopMatPerElementNV(s, s, masked_at, step);
  return s;
}

void store_block(OUTPUT block) {
  coopMatStore(block, block_tile, strip() * BLOCK_PITCH / 4, BLOCK_PITCH / 4, kByRow);
  sync();
}

// row_factor becomes what the output is multiplied by.
void finish_rows(SCORES most, SCORES sum) {
  OUTPUT across;
  coopMatReduceNV(across, most, gl_CooperativeMatrixReduceRowNV, larger);
  store_block(across);
  for (uint i = strip_lane(); i < STRIP; i += STRIP_LANES)
    row_max[strip() + i] = block_tile[(strip() + i) * BLOCK_PITCH / 4].x;
  sync();
  coopMatReduceNV(across, sum, gl_CooperativeMatrixReduceRowNV, sum_of);
  store_block(across);
  for (uint i = strip_lane(); i < STRIP; i += STRIP_LANES) {
    uint row = strip() + i, folded = tile.first + row;
    if (folded < tile.count) {
      uint head = head_of_folded(tile, folded);
      Finish f = finish(row_max[row], block_tile[row * BLOCK_PITCH / 4].x, head);
      row_factor[row] = f.factor;
      store_lse(tile.sequence.batch, head, row_of_folded(tile, folded), f.lse);
    }
  }
  sync();
}

void write_block(OUTPUT block, uint first4) {
  store_block(block);
  for (uint i = strip_lane(); i < STRIP * V_BLOCK / 4; i += STRIP_LANES) {
    uint row = strip() + i / (V_BLOCK / 4), c = i % (V_BLOCK / 4), folded = tile.first + row;
    if (folded < tile.count && first4 + c < V_DIM4) {
      uint at = y_row(tile.sequence.batch, head_of_folded(tile, folded), row_of_folded(tile, folded));
      store_y(at, first4 + c, block_tile[row * BLOCK_PITCH / 4 + c] * row_factor[row]);
    }
  }
  sync();
}

void main() {
  tile = tile_of(p.tiles - 1 - gl_WorkGroupID.x);  // the longest first
  if (tile.first >= tile.count) return;
  stage_rows(tile);
  stage_q(tile);
  SCORES most = SCORES(kLeastMax), sum = SCORES(0.0);  // every column: the row's maximum; sums of this column
  OUTPUT o[V_BLOCKS];                                  // before division
  [[unroll]] for (uint d = 0; d < V_BLOCKS; ++d) o[d] = OUTPUT(0.0);
  for (int step = tile.walk.steps.begin; step < tile.walk.steps.end; step += int(COLS)) {
    stage_k(tile, step);
    stage_v(tile, step);
    barrier();
    SCORES s = scores(step), before = most, factor, weight;
    coopMatReduceNV(most, s, gl_CooperativeMatrixReduceRowNV, larger);
    coopMatPerElementNV(most, most, larger_at, before);
    coopMatPerElementNV(factor, before, weight_at, most);
    coopMatPerElementNV(weight, s, weight_at, most);
    sum = sum * factor + weight;
    OUTPUT rescale;
    coopMatReduceNV(rescale, factor, gl_CooperativeMatrixReduceRowNV, larger);
    WEIGHTS left = WEIGHTS(weight);
    [[unroll]] for (uint d = 0; d < V_BLOCKS; ++d) {
      coopmat<float16_t, SCOPE, COLS, V_BLOCK, gl_MatrixUseB> v;
      coopMatLoad(v, v_tile, d * V_BLOCK * V_PITCH, V_PITCH, kByColumn);
      o[d] = coopMatMulAdd(left, v, o[d] * rescale);
    }
    barrier();
  }
  barrier();
  finish_rows(most, sum);
  [[unroll]] for (uint d = 0; d < V_BLOCKS; ++d) write_block(o[d], d * V_BLOCK / 4);
}
