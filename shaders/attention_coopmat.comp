// Flash attention for a tile of rows on cooperative matrices (VK_KHR_cooperative_matrix) of any fragment shape.
// Which lane holds which element is unknown: rows meet their maximum and factor through matrices loaded with
// stride 0, and single scores learn their place from a matrix of indices. docs/kernels/attention_matrix.md.
// HALF_SUMS: the device has f16 accumulators too.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"

// MoltenVK wants literals here: https://github.com/KhronosGroup/MoltenVK
layout(constant_id = kMatrixSpecM) const uint M = 16;
layout(constant_id = kMatrixSpecN) const uint N = 16;
layout(constant_id = kMatrixSpecK) const uint K = 16;
layout(constant_id = kMatrixSpecCols) const uint COLS = 32;
layout(constant_id = kMatrixSpecRowGroups) const uint ROW_GROUPS = 4;
layout(constant_id = kMatrixSpecColGroups) const uint COL_GROUPS = 1;
layout(constant_id = kMatrixSpecRowFrags) const uint ROW_FRAGS = 1;
layout(local_size_x_id = kAttentionSpecGroup) in;

const uint STRIP = ROW_FRAGS * M;  // rows of the subgroups that share rows
const uint STRIP_LANES = GROUP / ROW_GROUPS;
const uint ROWS = ROW_GROUPS * STRIP;
const uint WIDTH = COL_GROUPS * N;  // columns of one fragment of each subgroup of a strip
const uint DIM_PAD = (DIM + K - 1) / K * K;
const uint V_PAD = (V_DIM + WIDTH - 1) / WIDTH * WIDTH;
const uint S_FRAGS = COLS / WIDTH;  // fragments of scores a subgroup and M rows
const uint O_FRAGS = V_PAD / WIDTH;
#include "lib/attention_matrix.glsl"
const uint P_PITCH = COLS + 8;
const uint WIDTH_PITCH = WIDTH + 4;

#define SUMS coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
#define HALF_SUMS_OF coopmat<float16_t, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>
#define LEFT coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA>
#define RIGHT coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB>
const int kByRow = gl_CooperativeMatrixLayoutRowMajor;
const int kByColumn = gl_CooperativeMatrixLayoutColumnMajor;

shared float16_t p_tile[ROWS * P_PITCH];         // (ROWS, COLS)
shared vec4 width_tile[ROWS * WIDTH_PITCH / 4];  // (ROWS, WIDTH)
shared float row_max[ROWS];
shared float row_factor[ROWS];
shared float indices[M * N];  // row * N + column

SUMS s[ROW_FRAGS * S_FRAGS];
SUMS o[ROW_FRAGS * O_FRAGS];  // output before division
SUMS sum[ROW_FRAGS];          // of each element's own columns

uint strip() { return gl_SubgroupID / COL_GROUPS * STRIP; }
uint part() { return gl_SubgroupID % COL_GROUPS; }
uint strip_lane() { return part() * gl_SubgroupSize + gl_SubgroupInvocationID; }

// Among the subgroups that share rows.
void sync() {
  if (COL_GROUPS == 1)
    subgroupBarrier();
  else
    barrier();
}

void scores() {  // s = q k^T
  [[unroll]] for (uint i = 0; i < ROW_FRAGS * S_FRAGS; ++i) s[i] = SUMS(0.0);
  [[unroll]] for (uint d = 0; d < DIM_PAD; d += K) {
    LEFT q[ROW_FRAGS];
    [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
      coopMatLoad(q[r], q_tile, (strip() + r * M) * QK_PITCH + d / 4, QK_PITCH, kByRow);
    [[unroll]] for (uint c = 0; c < S_FRAGS; ++c) {
      RIGHT k;
      coopMatLoad(k, k_tile, (part() * S_FRAGS + c) * N * QK_PITCH + d / 4, QK_PITCH, kByColumn);
      [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
        s[r * S_FRAGS + c] = coopMatMulAdd(q[r], k, s[r * S_FRAGS + c]);
    }
  }
  float scale = score_scale();
  [[unroll]] for (uint i = 0; i < ROW_FRAGS * S_FRAGS; ++i) s[i] = s[i] * scale;
}

int step_of(int step, uint c, uint at) { return step + int((part() * S_FRAGS + c) * N + at % N); }

void adjust_scores(Tile t, int step) {
  SUMS index;
  coopMatLoad(index, indices, 0, N, kByRow);
  [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
    [[unroll]] for (uint e = 0; e < index.length(); ++e) {
      uint at = uint(index[e]);
      ScoreRow row = score_row_of(t, strip() + r * M + at / N);
      [[unroll]] for (uint c = 0; c < S_FRAGS; ++c)
        s[r * S_FRAGS + c][e] =
            adjust(row, s[r * S_FRAGS + c][e], int(read_key(t.walk, step_of(step, c, at))));
    }
}

void mask_scores(Tile t, int step) {
  SUMS index;
  coopMatLoad(index, indices, 0, N, kByRow);
  [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
    [[unroll]] for (uint e = 0; e < index.length(); ++e) {
      uint at = uint(index[e]);
      Span seen = row_span[strip() + r * M + at / N];
      [[unroll]] for (uint c = 0; c < S_FRAGS; ++c)
        s[r * S_FRAGS + c][e] = masked(t, seen, s[r * S_FRAGS + c][e], step_of(step, c, at));
    }
}

// The rows' new maxima, and what is before them is multiplied by: one fragment a subgroup goes through shared
// memory, and then a lane has a row.
void find_maxima() {
  [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r) {
    SUMS most = s[r * S_FRAGS];
    [[unroll]] for (uint c = 1; c < S_FRAGS; ++c)
      [[unroll]] for (uint e = 0; e < most.length(); ++e) most[e] = max(most[e], s[r * S_FRAGS + c][e]);
    coopMatStore(most, width_tile, ((strip() + r * M) * WIDTH_PITCH + part() * N) / 4, WIDTH_PITCH / 4, kByRow);
  }
  sync();
  [[dont_unroll]] for (uint i = strip_lane(); i < STRIP; i += STRIP_LANES) {
    uint row = strip() + i;
    float before = row_max[row], most = before;
    [[unroll]] for (uint c = 0; c < WIDTH / 4; ++c)
      most = max(most, max4(width_tile[row * (WIDTH_PITCH / 4) + c]));
    row_factor[row] = exp2(before - most);
    row_max[row] = most;
  }
  sync();
}

void softmax() {  // p = exp2(s - max), and what came before is rescaled to the new maximum
#ifndef HALF_SUMS
  SUMS index;
  coopMatLoad(index, indices, 0, N, kByRow);
#endif
  [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r) {
    SUMS most, factor;
    coopMatLoad(most, row_max, strip() + r * M, 0, kByColumn);
    coopMatLoad(factor, row_factor, strip() + r * M, 0, kByColumn);
    [[unroll]] for (uint d = 0; d < O_FRAGS; ++d) o[r * O_FRAGS + d] = o[r * O_FRAGS + d] * factor;
    sum[r] = sum[r] * factor;
    [[unroll]] for (uint c = 0; c < S_FRAGS; ++c) {
      SUMS prob = s[r * S_FRAGS + c];
      [[unroll]] for (uint e = 0; e < prob.length(); ++e) prob[e] = exp2(prob[e] - most[e]);
      sum[r] = sum[r] + prob;
      uint at = (strip() + r * M) * P_PITCH + (part() * S_FRAGS + c) * N;
#ifdef HALF_SUMS
      coopMatStore(HALF_SUMS_OF(prob), p_tile, at, P_PITCH, kByRow);
#else
      [[unroll]] for (uint e = 0; e < prob.length(); ++e) {
        uint i = uint(index[e]);
        p_tile[at + i / N * P_PITCH + i % N] = float16_t(prob[e]);
      }
#endif
    }
  }
  sync();
}

void weigh_v() {  // o += p v
  [[unroll]] for (uint c = 0; c < COLS; c += K) {
    LEFT prob[ROW_FRAGS];
    [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
      coopMatLoad(prob[r], p_tile, (strip() + r * M) * P_PITCH + c, P_PITCH, kByRow);
    [[unroll]] for (uint d = 0; d < O_FRAGS; ++d) {
      RIGHT v;
      coopMatLoad(v, v_tile, (part() * O_FRAGS + d) * N * V_PITCH + c / 4, V_PITCH, kByColumn);
      [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
        o[r * O_FRAGS + d] = coopMatMulAdd(prob[r], v, o[r * O_FRAGS + d]);
    }
  }
}

// row_factor becomes what the output is multiplied by.
void finish_rows(Tile t) {
  [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
    coopMatStore(sum[r], width_tile, ((strip() + r * M) * WIDTH_PITCH + part() * N) / 4, WIDTH_PITCH / 4,
                 kByRow);
  sync();
  [[dont_unroll]] for (uint i = strip_lane(); i < STRIP; i += STRIP_LANES) {
    uint row = strip() + i, folded = t.first + row;
    if (folded < t.count) {
      vec4 sums = vec4(0);
      [[unroll]] for (uint c = 0; c < WIDTH / 4; ++c) sums += width_tile[row * (WIDTH_PITCH / 4) + c];
      Finish f = finish(row_max[row], (sums.x + sums.y) + (sums.z + sums.w), head_of_folded(t, folded));
      row_factor[row] = f.factor;
      store_lse(t.sequence.batch, head_of_folded(t, folded), row_of_folded(t, folded), f.lse);
    }
  }
  sync();
}

void write_out(Tile t) {
  finish_rows(t);
  [[unroll]] for (uint d = 0; d < O_FRAGS; ++d) {
    [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r)
      coopMatStore(o[r * O_FRAGS + d], width_tile, ((strip() + r * M) * WIDTH_PITCH + part() * N) / 4,
                   WIDTH_PITCH / 4, kByRow);
    sync();
    // Unrolled: a loop in here would keep drivers from unrolling the one around it.
    [[unroll]] for (uint j = 0; j < STRIP * WIDTH / 4; j += STRIP_LANES) {
      uint i = j + strip_lane(), row = strip() + i / (WIDTH / 4), c = i % (WIDTH / 4), folded = t.first + row;
      uint col4 = (c / (N / 4) * O_FRAGS + d) * (N / 4) + c % (N / 4);
      if (i < STRIP * WIDTH / 4 && folded < t.count && col4 < V_DIM4) {
        uint at = y_row(t.sequence.batch, head_of_folded(t, folded), row_of_folded(t, folded));
        store_y(at, col4, width_tile[row * (WIDTH_PITCH / 4) + c] * row_factor[row]);
      }
    }
    sync();
  }
}

void main() {
  Tile t = tile_of(p.tiles - 1 - gl_WorkGroupID.x);  // the longest first
  if (t.first >= t.count) return;
  for (uint i = lane(); i < M * N; i += GROUP) indices[i] = float(i);
  for (uint i = lane(); i < ROWS; i += GROUP) row_max[i] = kLeastMax;
  stage_rows(t);
  stage_q(t);
  [[unroll]] for (uint i = 0; i < ROW_FRAGS * O_FRAGS; ++i) o[i] = SUMS(0.0);
  [[unroll]] for (uint r = 0; r < ROW_FRAGS; ++r) sum[r] = SUMS(0.0);
  for (int step = t.walk.steps.begin; step < t.walk.steps.end; step += int(COLS)) {
    stage_k(t, step);
    stage_v(t, step);
    barrier();
    scores();
    if (ADJUSTS) adjust_scores(t, step);
    if (mixed(t, step)) mask_scores(t, step);
    find_maxima();
    softmax();
    weigh_v();
    barrier();
  }
  barrier();
  write_out(t);
}
