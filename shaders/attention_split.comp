// Flash attention for few rows (decode): the keys are split over workgroups, and the query heads that share a
// KV head are the rows of one workgroup, so that K and V are read once. Partial outputs are merged by
// attention_merge; a single split writes the output itself. docs/kernels/attention.md draws it.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"

layout(constant_id = kSplitSpecParts) const uint PARTS = 8;
layout(constant_id = kSplitSpecDimLanes) const uint DIM_LANES = 16;
layout(constant_id = kSplitSpecRows) const uint ROWS = 4;
layout(constant_id = kSplitSpecDirect) const uint DIRECT = 0;
layout(local_size_x_id = kAttentionSpecGroup) in;

const uint QUADS = GROUP / PARTS;  // of four keys: what the workgroup scores at once
const uint COLS = 4 * QUADS;
const uint KEY_LANES = GROUP / DIM_LANES;                      // lanes that share out the keys of a tile
const uint DIM_TILE = (V_DIM4 + DIM_LANES - 1) / DIM_LANES;    // vec4 of the output a lane and row

// vec4 of a key in flight: unrolled further, Adreno spills.
const uint D_STEP = DIM4 % (4 * PARTS) == 0 ? 4 : DIM4 % (2 * PARTS) == 0 ? 2 : 1;

const uint PART_ROWS = COSINE ? ROWS + 1 : ROWS;
shared vec4 q_tile[ROWS * DIM4];           // (ROWS, DIM4), times the scale
shared vec4 part_tile[PART_ROWS * GROUP];  // (PART_ROWS, PARTS, QUADS): parts of four scores, then of four |k|^2
shared vec2 stat_tile[ROWS * KEY_LANES];   // (ROWS, KEY_LANES): maximum and sum

struct Tile {
  uint first;  // folded row: position in the sequence * group + head of the group
  uint count;  // folded rows of the sequence, or up to the end of the block of rows
  uint head;   // the first of those that are folded
  uint split;
  Sequence sequence;
  Keys keys;
  Walk walk;   // of this split
};

uint lane() { return gl_LocalInvocationID.x; }
vec4 o[ROWS * DIM_TILE];  // output before division, over the keys of this lane
float row_max[ROWS];
float row_sum[ROWS];

void stage_q(Tile t) {
  float scale = SCALES_LATE ? 1.0 : score_scale();
  for (uint i = lane(); i < ROWS * DIM4; i += GROUP) {
    uint folded = t.first + i / DIM4;
    vec4 q = vec4(0);
    if (folded < t.count)
      q = load_q(q_row(t.sequence.batch, t.head + folded % p.group, folded / p.group), i % DIM4) * scale;
    q_tile[i] = q;
  }
  if (!COSINE) return;
  barrier();
  for (uint r = lane(); r < ROWS; r += GROUP) {
    float square = 0;
    for (uint d = 0; d < DIM4; ++d) square += dot(q_tile[r * DIM4 + d], q_tile[r * DIM4 + d]);
    stat_tile[r].x = inverse_norm(square) * score_scale();
  }
  barrier();
  for (uint i = lane(); i < ROWS * DIM4; i += GROUP) q_tile[i] *= stat_tile[i / DIM4].x;
}

uvec4 read_keys(Tile t, int step) {
  return uvec4(read_key(t.walk, step), read_key(t.walk, step + 1), read_key(t.walk, step + 2),
               read_key(t.walk, step + 3));
}

float part_of(vec4 q, vec4 k, vec4 v) { return ADDITIVE ? additive(0, q, k, v) : dot(q, k); }

// Parts of q k^T: lane (quad, part) takes every PARTS-th vec4 of four keys next to each other, which are
// independent loads. Keys past the end are not read: the last key stands in for them.
void score_parts(Tile t, int step) {
  uint quad = lane() / PARTS, part = lane() % PARTS;
  uvec4 keys = read_keys(t, step + 4 * int(quad));
  uvec4 row = uvec4(k_row(t.keys, keys.x), k_row(t.keys, keys.y), k_row(t.keys, keys.z), k_row(t.keys, keys.w));
  vec4 s[ROWS], squares = vec4(0);
  [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] = vec4(0);
  [[dont_unroll]] for (uint d0 = part; d0 < DIM4; d0 += D_STEP * PARTS)
    [[unroll]] for (uint i = 0; i < D_STEP; ++i) {
      uint d = d0 + i * PARTS;
      vec4 k0 = load_k(row.x, d), k1 = load_k(row.y, d), k2 = load_k(row.z, d), k3 = load_k(row.w, d);
      vec4 v = vec4(0);
      if (ADDITIVE) v = load_vector(t.head, d);
      [[unroll]] for (uint r = 0; r < ROWS; ++r) {
        vec4 q = q_tile[r * DIM4 + d];
        s[r] += vec4(part_of(q, k0, v), part_of(q, k1, v), part_of(q, k2, v), part_of(q, k3, v));
      }
      if (COSINE) squares += vec4(dot(k0, k0), dot(k1, k1), dot(k2, k2), dot(k3, k3));
    }
  [[unroll]] for (uint r = 0; r < ROWS; ++r) part_tile[(r * PARTS + part) * QUADS + quad] = s[r];
  if (COSINE) part_tile[(ROWS * PARTS + part) * QUADS + quad] = squares;
}

vec4 sum_of_parts(uint r, uint quad) {
  vec4 s = part_tile[r * PARTS * QUADS + quad];
  for (uint part = 1; part < PARTS; ++part) s += part_tile[(r * PARTS + part) * QUADS + quad];
  return s;
}

// The parts summed in order, adjusted and masked; the scores of a quad take the place of its first part.
void sum_parts(Tile t, int step) {
  for (uint i = lane(); i < ROWS * QUADS; i += GROUP) {
    uint r = i / QUADS, quad = i % QUADS, folded = min(t.first + r, t.count - 1);
    vec4 s = sum_of_parts(r, quad);
    if (COSINE) {
      vec4 squares = sum_of_parts(ROWS, quad);
      s *= vec4(inverse_norm(squares.x), inverse_norm(squares.y), inverse_norm(squares.z),
                inverse_norm(squares.w));
    }
    if (ADDITIVE) s *= score_scale();
    Row row = row_of(t.sequence, int(folded / p.group));
    if (ADJUSTS) {
      uvec4 keys = read_keys(t, step + 4 * int(quad));
      ScoreRow at = score_row(t.sequence.batch, t.head + folded % p.group, folded / p.group, row.diagonal);
      [[unroll]] for (uint e = 0; e < 4; ++e) s[e] = adjust(at, s[e], int(keys[e]));
    }
    [[unroll]] for (uint e = 0; e < 4; ++e) {
      int key = key_of(t.walk, step + int(4 * quad + e));
      if (key < row.seen.begin || key >= row.seen.end) s[e] = kMasked;
    }
    part_tile[r * PARTS * QUADS + quad] = s;
  }
}

#ifdef USER_FUNCTIONS
shared int user_step;  // the last one of which some row sees some key

// The first step from `step` on, in steps of COLS, of whose keys the user's mask leaves one: others are not read.
int next_seen(Tile t, int step) {
  if (USER_ASKS_FIRST == 0) return step;
  for (; step < t.walk.steps.end; step += int(COLS)) {
    bool seen = false;
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      uint folded = min(t.first + r, t.count - 1), head = t.head + folded % p.group, row = folded / p.group;
      for (uint c = lane(); c < COLS; c += GROUP)
        seen = seen || user_mask(t.sequence.batch, head, row, read_key(t.walk, step + int(c)));
    }
    if (seen) user_step = step;
    barrier();
    if (user_step == step) break;  // where not, a lane that is ahead cannot make it so
  }
  return step;
}
#else
int next_seen(Tile t, int step) { return step; }
#endif

// o += p v over the quads of this lane, with a running maximum of the lane's own keys.
void weigh_v(Tile t, int step) {
  uint d0 = lane() % DIM_LANES;
  uint quads = min(QUADS, uint(t.walk.steps.end - step + 3) / 4);
  for (uint quad = lane() / DIM_LANES; quad < quads; quad += KEY_LANES) {
    uvec4 keys = read_keys(t, step + 4 * int(quad));
    uvec4 row =
        uvec4(v_row(t.keys, keys.x), v_row(t.keys, keys.y), v_row(t.keys, keys.z), v_row(t.keys, keys.w));
    vec4 v[4 * DIM_TILE];
    [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) {
      uint at = min(d0 + d * DIM_LANES, V_DIM4 - 1);
      [[unroll]] for (uint e = 0; e < 4; ++e) v[4 * d + e] = load_v(row[e], at);
    }
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      vec4 s = part_tile[r * PARTS * QUADS + quad];
      float best = max(row_max[r], max4(s));
      float rescale = exp2(row_max[r] - best);
      vec4 prob = exp2(s - best);
      row_max[r] = best;
      row_sum[r] = row_sum[r] * rescale + ((prob.x + prob.y) + (prob.z + prob.w));
      [[unroll]] for (uint d = 0; d < DIM_TILE; ++d) {
        vec4 sum = o[r * DIM_TILE + d] * rescale;
        [[unroll]] for (uint e = 0; e < 4; ++e) sum += prob[e] * v[4 * d + e];
        o[r * DIM_TILE + d] = sum;
      }
    }
  }
}

void write_out(Tile t, uint r, uint d, vec4 sum, float best, float total) {
  uint folded = t.first + r;
  if (folded >= t.count) return;
  uint batch = t.sequence.batch, row = folded / p.group, head = t.head + folded % p.group;
  if (DIRECT != 0) {
    Finish f = finish(best, total, head);
    if (d < V_DIM4) store_y(y_row(batch, head, row), d, sum * f.factor);
    if (d == 0) store_lse(batch, head, row, f.lse);
    return;
  }
  uint at = (((batch * p.q_len + row) * p.heads + head) * p.splits + t.split) * (V_DIM4 + 1);
  if (d < V_DIM4) y4[at + d] = sum;
  if (d == 0) y4[at + V_DIM4] = vec4(best, total, 0, 0);
}

// Sums over the lanes that shared out the keys, each brought to the common maximum.
void merge_lanes(Tile t) {
  uint key_lane = lane() / DIM_LANES;
  if (lane() % DIM_LANES == 0) {
    [[unroll]] for (uint r = 0; r < ROWS; ++r)
      stat_tile[r * KEY_LANES + key_lane] = vec2(row_max[r], row_sum[r]);
  }
  for (uint d = 0; d < DIM_TILE; ++d) {
    barrier();
    [[unroll]] for (uint r = 0; r < ROWS; ++r) part_tile[r * GROUP + lane()] = o[r * DIM_TILE + d];
    barrier();
    for (uint i = lane(); i < ROWS * DIM_LANES; i += GROUP) {
      uint r = i / DIM_LANES, column = i % DIM_LANES;
      float best = kLeastMax, total = 0;
      for (uint j = 0; j < KEY_LANES; ++j) best = max(best, stat_tile[r * KEY_LANES + j].x);
      vec4 sum = vec4(0);
      for (uint j = 0; j < KEY_LANES; ++j) {
        vec2 stat = stat_tile[r * KEY_LANES + j];
        float rescale = exp2(stat.x - best);
        total += stat.y * rescale;
        sum += part_tile[r * GROUP + j * DIM_LANES + column] * rescale;
      }
      write_out(t, r, d * DIM_LANES + column, sum, best, total);
    }
  }
}

void main() {
  Tile t;
  t.sequence = sequence_of(gl_WorkGroupID.z);
  t.head = gl_WorkGroupID.y * p.group;
  t.keys = keys_of(t.sequence.batch, t.head);
  t.split = gl_WorkGroupID.x % p.splits;
  uvec2 rows = tile_rows(t.sequence, gl_WorkGroupID.x / p.splits, ROWS);
  t.first = rows.x;
  t.count = rows.y;
  if (t.first >= t.count) return;
  t.walk = walk_of_all(t.sequence, t.head, t.first / p.group);
  Span all = t.walk.steps;
  int share = split_keys(all, p.splits);
  t.walk.steps.begin = all.begin + int(t.split) * share;
  t.walk.steps.end = min(t.walk.steps.begin + share, all.end);
  if (t.walk.steps.begin >= all.end && t.split != 0) return;  // the merge does not read this split
#ifdef USER_FUNCTIONS
  if (lane() == 0) user_step = -1;
  barrier();
#endif
  int step = next_seen(t, t.walk.steps.begin);
#ifdef USER_FUNCTIONS
  if (USER_ASKS_FIRST != 0 && step >= t.walk.steps.end) {  // nothing is seen of this split
    for (uint i = lane(); i < ROWS * V_DIM4; i += GROUP) write_out(t, i / V_DIM4, i % V_DIM4, vec4(0), kLeastMax, 0);
    return;
  }
#endif
  [[unroll]] for (uint i = 0; i < ROWS * DIM_TILE; ++i) o[i] = vec4(0);
  [[unroll]] for (uint r = 0; r < ROWS; ++r) row_max[r] = kLeastMax;
  [[unroll]] for (uint r = 0; r < ROWS; ++r) row_sum[r] = 0;
  stage_q(t);
  for (; step < t.walk.steps.end; step = next_seen(t, step + int(COLS))) {
    barrier();
    score_parts(t, step);
    barrier();
    sum_parts(t, step);
    barrier();
    weigh_v(t, step);
  }
  merge_lanes(t);
}
