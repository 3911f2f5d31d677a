// Flash attention with a lane for each key: rows of q and of the output are registers, and lanes meet only at
// the end. Nothing is shared, nobody waits: for devices where a load by eight lanes costs eight times one, and
// registers are memory. Splits keys like attention_split. docs/kernels/attention.md draws it.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/attention.glsl"
#include "lib/attention_walk.glsl"
#include "lib/attention_score.glsl"
#include "lib/kv.glsl"
#include "lib/out.glsl"

layout(constant_id = kKeysSpecRows) const uint ROWS = 8;
layout(constant_id = kKeysSpecDirect) const uint DIRECT = 0;
layout(local_size_x_id = kAttentionSpecGroup) in;  // one subgroup

struct Tile {
  uint first;  // folded row: position in the sequence * group + head of the group
  uint count;  // folded rows of the sequence, or up to the end of the block of rows
  uint head;   // the first of those that are folded
  uint split;
  Sequence sequence;
  Keys keys;
  Walk walk;  // of this split
  Span all;   // keys that all rows see
};

uint lane() { return gl_SubgroupInvocationID; }
uint known_row(Tile t, uint r) { return min(t.first + r, t.count - 1); }

const uint DIM8 = (DIM4 + 1) / 2;
const uint V_DIM8 = (V_DIM4 + 1) / 2;
vec4 q[ROWS * 2 * DIM8];    // times the scale; the same in all lanes
vec4 o[ROWS * 2 * V_DIM8];  // output before division, of the lane's keys
float s[ROWS];          // scores, then weights, of the lane's key
float row_max[ROWS];
float row_sum[ROWS];
Row rows[ROWS];
ScoreRow places[ROWS];  // found once: software drivers divide lane by lane

void begin_rows(Tile t) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    rows[r] = row_of(t.sequence, int(known_row(t, r) / p.group));
    row_max[r] = kLeastMax;
    row_sum[r] = 0;
  }
  [[unroll]] for (uint i = 0; i < ROWS * 2 * V_DIM8; ++i) o[i] = vec4(0);
}

void load_rows(Tile t) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    uint folded = known_row(t, r), row = folded / p.group;
    uint head = t.head + folded % p.group, at = q_row(t.sequence.batch, head, row);
    places[r] = score_row(t.sequence.batch, head, row, rows[r].diagonal);
    float scale = SCALES_LATE ? 1.0 : score_scale(), square = 0;
    [[unroll]] for (uint d = 0; d < DIM4; ++d) {
      q[2 * r * DIM8 + d] = load_q(at, d) * scale;
      if (COSINE) square = dot_add(square, q[2 * r * DIM8 + d], q[2 * r * DIM8 + d]);
    }
    if (COSINE) {
      float norm = inverse_norm(square) * score_scale();
      [[unroll]] for (uint d = 0; d < DIM4; ++d) q[2 * r * DIM8 + d] *= norm;
    }
  }
}

void scores(Tile t, uint at) {  // s = scale q k^T; `at`: k of the lane's key
  float square = 0;
  [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] = 0;
  [[unroll]] for (uint d = 0; d < DIM8; ++d) {
    vec4 k0, k1, v0 = vec4(0), v1 = vec4(0);
    if (ADDITIVE) v0 = load_vector(t.head, 2 * d), v1 = load_vector(t.head, 2 * d + 1);
    load8_k(at, d, k0, k1);
    if (COSINE) square = dot_add(dot_add(square, k0, k0), k1, k1);
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      s[r] = score_add(s[r], q[2 * (r * DIM8 + d)], k0, v0);
      if (2 * d + 1 < DIM4) s[r] = score_add(s[r], q[2 * (r * DIM8 + d) + 1], k1, v1);
    }
  }
  if (ADDITIVE) {
    [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] *= score_scale();
  }
  if (!COSINE) return;
  float norm = inverse_norm(square);
  [[unroll]] for (uint r = 0; r < ROWS; ++r) s[r] *= norm;
}

#ifdef USER_FUNCTIONS
uint user_rows;  // bits: those that see the lane's key

bool some_row_sees(Tile t, int first) {  // the lane's key of a tile
  uint key = read_key(t.walk, first + int(lane()));
  user_rows = 0;
  [[unroll]] for (uint r = 0; r < ROWS; ++r)
    user_rows |= user_mask(places[r].batch, places[r].head, places[r].row, key) ? 1u << r : 0u;
  return user_rows != 0;
}

// Without tiles at either end that the mask hides from the lane: straight code, in steps of USER_AHEAD tiles.
Span seen_steps(Tile t) {
  const int tile = int(GROUP), ahead = USER_AHEAD * tile;
  Span steps = t.walk.steps;
  steps.end += (tile - (steps.end - steps.begin) % tile) % tile;  // the lane's keys are whole tiles from `begin`
  bool seen = false;
  while (steps.begin < steps.end) {
    [[unroll]] for (int i = 0; i < ahead; i += tile) seen = some_row_sees(t, steps.begin + i) || seen;
    if (seen) break;
    steps.begin += ahead;
  }
  seen = false;
  while (steps.begin < steps.end) {
    [[unroll]] for (int i = tile; i <= ahead; i += tile)
      seen = some_row_sees(t, max(steps.end - i, t.walk.steps.begin)) || seen;
    if (seen) break;
    steps.end -= ahead;
  }
  return steps;
}
#endif

// The lane's next tile from `first` on. Where the mask is asked here, each lane goes on to a key of its own.
int next_tile(Tile t, int first, int end) {
#ifdef USER_FUNCTIONS
  if (USER_ASKS_FIRST != 0) {
    while (first < end && !some_row_sees(t, first)) first += int(GROUP);
    return first;
  }
#endif
  return NEXT_TILE(first, GROUP, end);
}

// The steps to go through; the first of them is a tile's.
Span tiles_of(Tile t) {
  Span steps = t.walk.steps;
#ifdef USER_FUNCTIONS
  if (USER_ASKS_FIRST != 0) {
    user_sees_all = true;
    steps = seen_steps(t);
    steps.begin = next_tile(t, steps.begin, steps.end);
    return steps;
  }
#endif
  steps.begin = FIRST_TILE(t, ROWS, steps.begin, GROUP, steps.end);
  return steps;
}

void adjust_scores(int key) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    if (ADJUSTS) s[r] = adjust(places[r], s[r], key);
#ifdef USER_FUNCTIONS
    if (USER_ASKS_FIRST != 0 && (user_rows >> r & 1u) == 0) s[r] = kMasked;
#endif
  }
}

void mask_scores(int key) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r)
    if (key < rows[r].seen.begin || key >= rows[r].seen.end) s[r] = kMasked;
}

// s becomes exp2(s - max), with a running maximum of the lane's own keys, and o grows by s v.
void softmax_and_weigh_v(uint at) {  // `at`: v of the lane's key
  float rescale[ROWS];
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    float best = max(row_max[r], s[r]);
    rescale[r] = exp2(row_max[r] - best);
    row_max[r] = best;
    s[r] = exp2(s[r] - best);
    row_sum[r] = row_sum[r] * rescale[r] + s[r];
  }
  [[unroll]] for (uint d = 0; d < V_DIM8; ++d) {
    vec4 v0, v1;
    load8_v(at, d, v0, v1);
    [[unroll]] for (uint r = 0; r < ROWS; ++r) {
      uint i = 2 * (r * V_DIM8 + d);
      o[i] = o[i] * rescale[r] + s[r] * v0;
      o[i + 1] = o[i + 1] * rescale[r] + s[r] * v1;
    }
  }
}

void sum_lanes() {  // each brought to the common maximum
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    float best = subgroupMax(row_max[r]), rescale = exp2(row_max[r] - best);
    row_max[r] = best;
    row_sum[r] = subgroupAdd(row_sum[r] * rescale);
    [[unroll]] for (uint d = 0; d < V_DIM4; ++d)
      o[2 * r * V_DIM8 + d] = subgroupAdd(o[2 * r * V_DIM8 + d] * rescale);
  }
}

void write_out(Tile t) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    if (lane() == 0 && t.first + r < t.count) {
      uint folded = t.first + r, batch = t.sequence.batch, row = folded / p.group, head = t.head + folded % p.group;
      if (DIRECT != 0) {
        Finish f = finish(row_max[r], row_sum[r], head);
        uint at = y_row(batch, head, row);
        [[unroll]] for (uint d = 0; d < V_DIM4; ++d) store_y(at, d, o[2 * r * V_DIM8 + d] * f.factor);
        store_lse(batch, head, row, f.lse);
      } else {
        uint at = (((batch * p.q_len + row) * p.heads + head) * p.splits + t.split) * (V_DIM4 + 1);
        [[unroll]] for (uint d = 0; d < V_DIM4; ++d) y4[at + d] = o[2 * r * V_DIM8 + d];
        y4[at + V_DIM4] = vec4(row_max[r], row_sum[r], 0, 0);
      }
    }
  }
}

void main() {
  Tile t;
  t.sequence = sequence_of(gl_WorkGroupID.z);
  t.head = gl_WorkGroupID.y * p.group;
  t.keys = keys_of(t.sequence.batch, t.head);
  t.split = gl_WorkGroupID.x % p.splits;
  // Long and short tiles in turn: software drivers give each thread a run of workgroups.
  uint i = gl_WorkGroupID.x / p.splits;
  uvec2 folded = tile_rows(t.sequence, (i & 1u) == 0 ? p.tiles - 1 - i / 2 : i / 2, ROWS);
  t.first = folded.x;
  t.count = folded.y;
  if (t.first >= t.count) return;
  uint row = t.first / p.group;
  RowsSeen seen = rows_seen(t.sequence, int(row), int(known_row(t, ROWS - 1) / p.group));
  t.walk = walk_of(t.sequence, t.head, row, seen.any);
  t.all = seen.all;
  if (DIRECT == 0) {  // a split has its share of what all rows of the call see, as the merge knows it
    Span any = walk_of_all(t.sequence, t.head, row).steps;
    int share = split_keys(any, p.splits), begin = any.begin + int(t.split) * share;
    if (begin >= any.end && t.split != 0) return;  // the merge does not read this split
    t.walk.steps = Span(max(t.walk.steps.begin, begin), min(t.walk.steps.end, begin + share));
  }
  // Lists may name nothing: lanes of software drivers that are off are quick to load and to sum.
  bool visits = t.walk.steps.begin < t.walk.steps.end;
  begin_rows(t);
  if (visits) load_rows(t);
  Span steps = tiles_of(t);
  for (int first = steps.begin; first < steps.end; first = next_tile(t, first + int(GROUP), steps.end)) {
    int step = first + int(lane());
    uint key = read_key(t.walk, step);
    scores(t, k_row(t.keys, key));
    adjust_scores(int(key));
    if (!steps_within(t.walk, t.all, first, GROUP)) mask_scores(key_of(t.walk, step));
    softmax_and_weigh_v(v_row(t.keys, key));
  }
  if (visits) sum_lanes();
  write_out(t);
}
