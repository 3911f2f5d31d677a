// ROPE_APPEND: splits qkv, turns q and k, writes q and appends k and v to their caches.
// ROPE: turns x. KV_APPEND: appends x to a cache.
// An invocation makes two neighbouring elements of a head, so that a 16-bit cache is written in whole words.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/rope.h"
#include "interface/state.h"

layout(constant_id = kRopeSpecGroup) const uint GROUP = 64;
layout(constant_id = kRopeSpecType) const uint KV_TYPE = kTypeF32;
layout(constant_id = kRopeSpecFlags) const uint FLAGS = 0;
layout(local_size_x_id = kRopeSpecGroup) in;
const bool PAGED = (FLAGS & kRopeFlagPaged) != 0;
const bool RING = (FLAGS & kRopeFlagRing) != 0;
const bool BY_ROW = (FLAGS & kRopeFlagByRow) != 0;
const bool ALL_ROWS = (FLAGS & kRopeFlagAllRows) != 0;

layout(push_constant) uniform Push { RopePush p; };

#if defined(ROPE_APPEND)
#define SLOT_X kRopeAppendQkv
#define SLOT_TABLE kRopeAppendTable
#define SLOT_STATE kRopeAppendState
#define SLOT_Y kRopeAppendQ
#define SLOT_BLOCKS kRopeAppendBlocks
#elif defined(ROPE)
#define SLOT_X kRopeX
#define SLOT_TABLE kRopeTable
#define SLOT_STATE kRopeState
#define SLOT_Y kRopeY
#else
#define SLOT_X kKvAppendX
#define SLOT_STATE kKvAppendState
#define SLOT_BLOCKS kKvAppendBlocks
#endif

layout(std430, binding = SLOT_X) readonly buffer X { float x[]; };
layout(std430, binding = SLOT_STATE) readonly buffer State { uint state[]; };

#if defined(SLOT_TABLE)
layout(std430, binding = SLOT_TABLE) readonly buffer Table { float table[]; };  // (positions, rope_dims/2, 2)
layout(std430, binding = SLOT_Y) writeonly buffer Y { float y[]; };

// Element d of the head at `base`, turned by the angle of its pair.
float turned(uint base, uint d, uint position) {
  float own = x[base + d];
  if (d >= p.rope_dims) return own;
  uint half_dims = p.rope_dims / 2;
  bool first = p.adjacent != 0 ? (d & 1u) == 0u : d < half_dims;
  uint pair = p.adjacent != 0 ? d / 2 : (first ? d : d - half_dims);
  float other = x[base + (p.adjacent != 0 ? d ^ 1u : (first ? d + half_dims : d - half_dims))];
  uint at = (position * half_dims + pair) * 2;
  float cosine = table[at], sine = table[at + 1];
  return first ? own * cosine - other * sine : own * cosine + other * sine;
}

void store_y(uint sequence, uint row, uint head, uint d, vec2 v) {
  uint at = sequence * p.y_batch + head * p.y_head + row * p.y_row + d;
  y[at] = v.x;
  if (d + 1 < p.head_dim) y[at + 1] = v.y;
}
#endif

#if defined(SLOT_BLOCKS)
#include "lib/kv_store.glsl"
layout(std430, binding = SLOT_BLOCKS) readonly buffer Blocks { uint block_table[]; };  // (batch, table_stride)
#include "lib/kv_place.glsl"
#endif

#if defined(ROPE_APPEND)
TSR_KV_STORE(k_cache, kRopeAppendK)
TSR_KV_STORE(v_cache, kRopeAppendV)

void main() {
  uint i = gl_WorkGroupID.x * GROUP + gl_LocalInvocationID.x;
  uint head = i / p.lanes, lane = i % p.lanes, d = lane * 2;
  uint row = gl_WorkGroupID.y, sequence = gl_WorkGroupID.z;
  uint start = state[kStatePosition], position = start + row;
  if (row >= min(p.rows, state[kStateRows])) return;
  if (start >= p.positions || row >= p.positions - start) return;  // neither the table nor a cache has it

  uint turns = p.heads + p.kv_heads;
  bool is_v = head >= turns;
  uint dim = is_v ? p.v_dim : p.head_dim;
  bool live = head < turns + p.kv_heads && d < dim;
  uint base = sequence * p.x_batch + row * p.x_row +
              (is_v ? turns * p.head_dim + (head - turns) * p.v_dim : head * p.head_dim);
  uint d1 = min(d + 1, dim - 1);
  vec2 v = vec2(0);
  if (live && is_v) v = vec2(x[base + d], x[base + d1]);
  if (live && !is_v) v = vec2(turned(base, d, position), turned(base, d1, position));
  if (live && head < p.heads) store_y(sequence, row, head, d, v);
  share_block(live, v);
  if (head < p.heads || head >= turns + p.kv_heads) return;
  uint at = cache_row(sequence, is_v ? head - turns : head - p.heads, position);
  if (at == kNowhere) return;
  if (is_v)
    store_v_cache(at, dim, lane, v);
  else
    store_k_cache(at, dim, lane, v);
}

#elif defined(KV_APPEND)
TSR_KV_STORE(cache, kKvAppendCache)

void main() {
  uint i = gl_WorkGroupID.x * GROUP + gl_LocalInvocationID.x;
  uint head = i / p.lanes, lane = i % p.lanes, d = lane * 2;
  uint row = gl_WorkGroupID.y, sequence = gl_WorkGroupID.z, start = state[kStatePosition];
  if (row >= min(p.rows, state[kStateRows])) return;
  if (start >= p.positions || row >= p.positions - start) return;  // the cache does not have it

  bool live = head < p.kv_heads && d < p.head_dim;
  uint base = sequence * p.x_batch + head * p.x_head + row * p.x_row;
  vec2 v = vec2(0);
  if (live) v = vec2(x[base + d], x[base + min(d + 1, p.head_dim - 1)]);
  share_block(live, v);
  if (head >= p.kv_heads) return;
  uint at = cache_row(sequence, head, start + row);
  if (at != kNowhere) store_cache(at, p.head_dim, lane, v);
}

#else
void main() {
  uint i = gl_WorkGroupID.x * GROUP + gl_LocalInvocationID.x;
  uint head = i / p.lanes, d = i % p.lanes * 2;
  uint row = gl_WorkGroupID.y, sequence = gl_WorkGroupID.z;
  uint start = BY_ROW ? sequence * p.rows : state[kStatePosition], position = start + row;
  if (head >= p.heads || row >= p.rows || (!ALL_ROWS && row >= state[kStateRows])) return;
  if (start >= p.positions || row >= p.positions - start) return;  // the table does not have it
  uint base = sequence * p.x_batch + head * p.x_head + row * p.x_row;
  uint d1 = min(d + 1, p.head_dim - 1);
  store_y(sequence, row, head, d, vec2(turned(base, d, position), turned(base, d1, position)));
}
#endif
