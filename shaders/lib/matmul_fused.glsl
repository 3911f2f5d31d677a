// With -DFUSED: what a decoder layer has around a product. NORM: x is normalised as it is loaded. HEADS: the
// product is q, k and v of a row, which are turned and written to y and to the caches.
#ifdef FUSED
const bool NORM = (FLAGS & kMatmulFlagNorm) != 0;
const bool HEADS = (FLAGS & kMatmulFlagHeads) != 0;
const bool ADJACENT = (FLAGS & kMatmulFlagAdjacent) != 0;
const bool PAGED = (FLAGS & kMatmulFlagPaged) != 0;
const bool RING = (FLAGS & kMatmulFlagRing) != 0;
const uint KV_TYPE = HEADS ? ACT : kTypeF32;

layout(std430, binding = kFusedNorm) readonly buffer Norm4 { vec4 norm4[]; };     // (k)
layout(std430, binding = kFusedNorm) readonly buffer Norm1 { float norm1[]; };
layout(std430, binding = kFusedTable) readonly buffer Table { vec4 angles[]; };   // (positions, rope_dims/4, 2, 2)
layout(std430, binding = kFusedBlocks) readonly buffer Blocks { uint block_table[]; };  // (batch, table_stride)
#define KV_NO_BLOCKS
#include "kv_store.glsl"
#include "kv_place.glsl"
TSR_KV_STORE(k_cache, kFusedK)
TSR_KV_STORE(v_cache, kFusedV)

// Elements col..col+3 of the norm's weight, zero past k.
vec4 norm_weight(uint col) {
  if (VEC4) return col < p.k ? norm4[col >> 2] : vec4(0);
  return vec4(col < p.k ? norm1[col] : 0.0, col + 1 < p.k ? norm1[col + 1] : 0.0,
              col + 2 < p.k ? norm1[col + 2] : 0.0, col + 3 < p.k ? norm1[col + 3] : 0.0);
}

// What a product of x times the norm's weight is multiplied by; `squares`: the sum of x^2 over the row.
float norm_factor(float squares) { return inversesqrt(squares / float(p.k) + uintBitsToFloat(p.eps)); }

// Four columns from first + n on, which are one head's. Of a head of q and k the first rope_dims columns come in
// fours that hold two pairs: elements 4i..4i+3 when ADJACENT, else 2i, 2i+1 and those rope_dims/2 further.
void store_heads(uint row, uint n, vec4 v) {
  uint col = p.first + n, turns = (p.heads + p.kv_heads) * p.head_dim;
  uint sequence = row / p.sequence_rows, i = row % p.sequence_rows;
  uint start = state[kStatePosition], position = start + i;
  if (i >= state[kStateRows]) return;
  if (start >= p.positions || i >= p.positions - start) return;  // neither the table nor a cache has it
  if (BIAS) v += vec4(bias[col], bias[col + 1], bias[col + 2], bias[col + 3]);

  bool is_v = col >= turns;
  uint dim = is_v ? p.v_dim : p.head_dim, at = is_v ? col - turns : col;
  uint head = at / dim, d = at % dim, low = d, high = d + 2;
  if (!is_v && d < p.rope_dims) {
    vec4 angle = angles[position * (p.rope_dims / 4) + d / 4];  // cosine and sine of both pairs
    vec2 a = ADJACENT ? v.xz : v.xy, b = ADJACENT ? v.yw : v.zw;
    vec2 first = a * angle.xz - b * angle.yw, second = a * angle.yw + b * angle.xz;
    v = ADJACENT ? vec4(first.x, second.x, first.y, second.y) : vec4(first, second);
    if (!ADJACENT) {
      low = d / 2;
      high = low + p.rope_dims / 2;
    }
  }
  if (!is_v && head < p.heads) {
    uint to = row * p.y_stride + head * dim;
    y[to + low] = floatBitsToUint(v.x);
    y[to + low + 1] = floatBitsToUint(v.y);
    y[to + high] = floatBitsToUint(v.z);
    y[to + high + 1] = floatBitsToUint(v.w);
    return;
  }
  uint to = cache_row(sequence, is_v ? head : head - p.heads, position);
  if (to == kNowhere) return;
  if (is_v) {
    store_v_cache(to, dim, low / 2, v.xy);
    store_v_cache(to, dim, high / 2, v.zw);
  } else {
    store_k_cache(to, dim, low / 2, v.xy);
    store_k_cache(to, dim, high / 2, v.zw);
  }
}
#else
#include "half.glsl"
const bool NORM = false, HEADS = false;
vec4 norm_weight(uint col) { return vec4(1); }
float norm_factor(float squares) { return 1.0; }
void store_heads(uint row, uint n, vec4 v) {}
#endif
