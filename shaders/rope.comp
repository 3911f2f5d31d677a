// ROPE_APPEND: splits qkv, turns q and k, writes q and appends k and v to their caches.
// ROPE: turns x. KV_APPEND: appends x to a cache.
// An invocation makes two neighbouring elements of a head, so that an f16 cache is written in whole words.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/rope.h"
#include "interface/state.h"

layout(constant_id = kRopeSpecGroup) const uint GROUP = 64;
layout(constant_id = kRopeSpecType) const uint KV_TYPE = kTypeF32;
layout(local_size_x_id = kRopeSpecGroup) in;

layout(push_constant) uniform Push { RopePush p; };

#if defined(ROPE_APPEND)
#define SLOT_X kRopeAppendQkv
#define SLOT_TABLE kRopeAppendTable
#define SLOT_STATE kRopeAppendState
#define SLOT_Y kRopeAppendQ
#elif defined(ROPE)
#define SLOT_X kRopeX
#define SLOT_TABLE kRopeTable
#define SLOT_STATE kRopeState
#define SLOT_Y kRopeY
#else
#define SLOT_X kKvAppendX
#define SLOT_STATE kKvAppendState
#endif

layout(std430, binding = SLOT_X) readonly buffer X { float x[]; };  // (rows, heads of all kinds, head_dim)
layout(std430, binding = SLOT_STATE) readonly buffer State { uint state[]; };

#if defined(SLOT_TABLE)
layout(std430, binding = SLOT_TABLE) readonly buffer Table { float table[]; };  // (context, rope_dims/2, 2)
layout(std430, binding = SLOT_Y) writeonly buffer Y { float y[]; };             // (rows, heads, head_dim)

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

void store_y(uint row, uint head, uint d, vec2 v) {
  uint at = (row * p.heads + head) * p.head_dim + d;
  y[at] = v.x;
  if (d + 1 < p.head_dim) y[at + 1] = v.y;
}
#endif

#if defined(ROPE_APPEND) || defined(KV_APPEND)
#include "lib/half.glsl"
// With an odd head_dim a word of an f16 cache may hold an element of the next position or head, which another
// invocation writes: each half is then set by itself.
#define TSR_KV_STORE(name, slot)                                                              \
  layout(std430, binding = slot) buffer Cache##name { uint name[]; };                         \
  void store_half_##name(uint at, float v) {                                                  \
    uint shift = (at & 1u) * 16u;                                                             \
    atomicAnd(name[at >> 1], ~(0xffffu << shift));                                            \
    atomicOr(name[at >> 1], half_bits(v) << shift);                                           \
  }                                                                                           \
  void store_##name(uint head, uint position, uint d, vec2 v) {                               \
    uint at = (head * p.context + position) * p.head_dim + d;                                 \
    bool both = d + 1 < p.head_dim;                                                           \
    if (KV_TYPE == kTypeF32) {                                                                \
      name[at] = floatBitsToUint(v.x);                                                        \
      if (both) name[at + 1] = floatBitsToUint(v.y);                                          \
    } else if ((p.head_dim & 1u) == 0u) {                                                     \
      name[at >> 1] = half_bits(v.x) | half_bits(v.y) << 16;                                  \
    } else {                                                                                  \
      store_half_##name(at, v.x);                                                             \
      if (both) store_half_##name(at + 1, v.y);                                               \
    }                                                                                         \
  }
#endif

#if defined(ROPE_APPEND)
TSR_KV_STORE(k_cache, kRopeAppendK)
TSR_KV_STORE(v_cache, kRopeAppendV)
#elif defined(KV_APPEND)
TSR_KV_STORE(cache, kKvAppendCache)
#endif

void main() {
#if defined(ROPE_APPEND)
  uint heads = p.heads + 2 * p.kv_heads;
#elif defined(ROPE)
  uint heads = p.heads;
#else
  uint heads = p.kv_heads;
#endif
  uint pairs = (p.head_dim + 1) / 2;
  uint i = gl_WorkGroupID.x * GROUP + gl_LocalInvocationID.x;
  uint row = gl_WorkGroupID.y, head = i / pairs, d = i % pairs * 2;
  uint start = state[kStatePosition], position = start + row;
  if (head >= heads || row >= min(p.rows, state[kStateRows])) return;
  if (start >= p.context || position >= p.context) return;  // neither the table nor a cache has that row
  uint base = (row * heads + head) * p.head_dim;
  uint d1 = min(d + 1, p.head_dim - 1);
#if defined(KV_APPEND)
  store_cache(head, position, d, vec2(x[base + d], x[base + d1]));
#elif defined(ROPE)
  store_y(row, head, d, vec2(turned(base, d, position), turned(base, d1, position)));
#else
  if (head >= p.heads + p.kv_heads) {
    store_v_cache(head - p.heads - p.kv_heads, position, d, vec2(x[base + d], x[base + d1]));
    return;
  }
  vec2 v = vec2(turned(base, d, position), turned(base, d1, position));
  if (head < p.heads)
    store_y(row, head, d, v);
  else
    store_k_cache(head - p.heads, position, d, v);
#endif
}
