// Linear attention row by row, the state in registers: a lane has four columns of it, or PARTS lanes an equal
// part of their rows each. Nothing is shared, nobody waits: for devices where a load by eight lanes costs
// eight times one, and registers are memory. docs/kernels/linear_attention.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "interface/linear_attention.h"

layout(constant_id = kLinearSpecGroup) const uint GROUP = 8;
layout(local_size_x_id = kLinearSpecGroup) in;  // one subgroup
#include "lib/linear_attention.glsl"

// Rows of k, q and decay are spread over the lanes: each loads what no other does, and hands it on.
const uint OWN = (K_DIM + PARTS - 1) / PARTS;    // rows of the state that a lane has
const uint HELD = (OWN + COLS4 - 1) / COLS4;     // elements of a row of k that a lane has
vec4 states[OWN];
float z[HELD];  // the normaliser's elements
float keys[HELD], queries[HELD], decays[HELD];

uint part() { return lane() % PARTS; }
uint column(Place at) { return column_of(at, lane() / PARTS); }
// Of a row, the element that is held at i; K_DIM: none.
uint element(uint i) {
  uint d = i * COLS4 + lane() / PARTS, e = part() * OWN + d;
  return d < OWN && e < K_DIM ? e : K_DIM;
}
// The lane that holds what goes with row d of the lane's part of the state, at d / COLS4.
uint holder(uint d) { return d % COLS4 * PARTS + part(); }

vec4 over_parts(vec4 sum) {
  [[unroll]] for (uint d = 1; d < PARTS; d <<= 1) sum += subgroupShuffleXor(sum, d);
  return sum;
}

void load_state(Place at) {
  [[unroll]] for (uint d = 0; d < OWN; ++d) {
    uint row = part() * OWN + d;
    states[d] = vec4(0);
    if (p.has_past != 0 && row < K_DIM && column(at) < p.v_dim)
      states[d] = load_past((state_of(at) + row) * p.v_dim, column(at) / 4);
  }
  [[unroll]] for (uint i = 0; i < HELD; ++i)
    z[i] = p.has_past_normaliser != 0 && element(i) < K_DIM ? past_z[state_of(at) + element(i)] : 0;
}

void store_state(Place at) {
  if (p.store_state != 0)
    [[unroll]] for (uint d = 0; d < OWN; ++d)
      if (part() * OWN + d < K_DIM) store_present(state_of(at) + part() * OWN + d, column(at), states[d]);
  if (NORMALISE && p.store_normaliser != 0 && at.tile == 0)
    [[unroll]] for (uint i = 0; i < HELD; ++i)
      if (element(i) < K_DIM) present_z[state_of(at) + element(i)] = z[i];
}

// S = diag(exp(g)) S + k u^T
void update(Place at, uint row) {
  uint key_row = (at.batch % p.key_sequences * p.len + row) * p.kv_heads + at.kv_head;
  uint head_row = row_of(at, row) * p.kv_heads + at.kv_head;
  float decay = GATED && !BY_DIM ? exp(max(element_decay(head_row), kLinearLeastDecay)) : 1;
  [[unroll]] for (uint i = 0; i < HELD; ++i) {
    uint e = element(i);
    keys[i] = e < K_DIM ? feature(element_k(key_row * K_DIM + e)) : 0;
    decays[i] = decay;
    if (BY_DIM) decays[i] = e < K_DIM ? exp(max(element_decay(head_row * K_DIM + e), kLinearLeastDecay)) : 0;
    if (NORMALISE) z[i] = z[i] * decays[i] + keys[i];
  }
  vec4 v = column(at) < p.v_dim ? load_v(head_row * p.v_dim, column(at) / 4) : vec4(0);
  vec4 found[2] = {vec4(0), vec4(0)};  // two sums, which do not wait for each other
  [[unroll]] for (uint d = 0; d < OWN; ++d) {
    float k = subgroupShuffle(keys[d / COLS4], holder(d));
    if (GATED) states[d] *= BY_DIM ? subgroupShuffle(decays[d / COLS4], holder(d)) : decay;
    if (DELTA)
      found[d % 2] += k * states[d];
    else
      states[d] += k * v;
  }
  if (!DELTA) return;
  float rate = beta[row_of(at, row) * p.betas + (p.betas == 1 ? 0 : at.kv_head)];
  vec4 u = rate * (v - over_parts(found[0] + found[1]));
  [[unroll]] for (uint d = 0; d < OWN; ++d) states[d] += subgroupShuffle(keys[d / COLS4], holder(d)) * u;
}

void output_row(Place at, uint row, uint head) {
  uint head_row = row_of(at, row) * p.heads + head;
  float normaliser = 0;
  [[unroll]] for (uint i = 0; i < HELD; ++i) {
    uint e = element(i);
    queries[i] = e < K_DIM ? feature(element_q(head_row * K_DIM + e)) : 0;
    if (NORMALISE) normaliser += queries[i] * z[i];
  }
  vec4 sums[2] = {vec4(0), vec4(0)};
  [[unroll]] for (uint d = 0; d < OWN; ++d)
    sums[d % 2] += subgroupShuffle(queries[d / COLS4], holder(d)) * states[d];
  vec4 y = p.scale * over_parts(sums[0] + sums[1]);
  if (NORMALISE) {
    [[unroll]] for (uint d = 1; d < GROUP; d <<= 1) normaliser += subgroupShuffleXor(normaliser, d);
    normaliser += p.epsilon;
    y = normaliser == 0 ? vec4(0) : y / normaliser;
  }
  if (part() == 0) store_y(head_row * p.v_dim, column(at), y);
}

void main() {
  Place at;
  if (!find_place(at)) return;
  load_state(at);
  uint shared_by = p.heads / p.kv_heads;
  for (uint row = at.first; row < at.end; ++row) {
    if (UPDATE) update(at, row);
    if (OUTPUT)
      for (uint h = 0; h < shared_by; ++h) output_row(at, row, at.kv_head * shared_by + h);
  }
  if (UPDATE) store_state(at);
}
