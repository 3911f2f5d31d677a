// Rows of a KV cache, written by lanes that hold two neighbouring elements each. The including shader defines
// GROUP and KV_TYPE; KV_NO_BLOCKS where that is never Q8_0.
#include "half.glsl"

#ifndef KV_NO_BLOCKS
#include "quantise.glsl"

// What the lanes of a workgroup hold, for Q8_0: the largest magnitude of a block is needed by all of its lanes.
shared uvec2 shared_bits[KV_TYPE == kTypeQ8_0 ? GROUP : 1];

// Call from all lanes in uniform control flow, before any store_NAME().
void share_block(bool live, vec2 v) {
  if (KV_TYPE != kTypeQ8_0) return;
  shared_bits[gl_LocalInvocationID.x] = live ? floatBitsToUint(v) : uvec2(0);
  barrier();
}

// The scale of the block whose first lane is `first`.
Q8Scale block_scale(uint first) {
  uint largest = 0;
  for (uint i = 0; i < 16; ++i) {
    uvec2 bits = shared_bits[first + i] & 0x7fffffffu;
    largest = max(largest, max(bits.x, bits.y));
  }
  return q8_scale(largest);
}

uint q8_row_words(uint dim) { return (dim + dim / 16 + 15) / 16 * 4; }

// The word of a Q8_0 row of `dim` elements that this lane of the head writes; kNoWord: none. Of every kQ8Lanes
// lanes, which hold 64 elements, the first 16 write their quants and the next one their scales; the last lanes of
// the head's first 64 write what pads the row.
const uint kNoWord = 0xffffffffu;
uint q8_word_index(uint dim, uint lane) {
  uint chunk = lane / kQ8Lanes, part = lane % kQ8Lanes, scales = dim / 4, pad = scales + (dim + 63) / 64;
  if (part < 16) return chunk * 16 + part < scales ? chunk * 16 + part : kNoWord;
  if (part == 16) return chunk * 64 < dim ? scales + chunk : kNoWord;
  uint word = pad + part - 17;
  return chunk == 0 && word < q8_row_words(dim) ? word : kNoWord;
}
uint q8_word(uint lane) {
  uint part = lane % kQ8Lanes, chunk = gl_LocalInvocationID.x - part;  // chunk: its first lane
  if (part > 16) return 0;
  if (part == 16)
    return half_bits(uintBitsToFloat(block_scale(chunk).bits)) |
           half_bits(uintBitsToFloat(block_scale(chunk + 16).bits)) << 16;
  Q8Scale scale = block_scale(chunk + part / 8 * 16);
  uvec2 a = shared_bits[chunk + 2 * part], b = shared_bits[chunk + 2 * part + 1];
  return (uint(q8_quant(a.x, scale)) & 0xffu) | (uint(q8_quant(a.y, scale)) & 0xffu) << 8 |
         (uint(q8_quant(b.x, scale)) & 0xffu) << 16 | uint(q8_quant(b.y, scale)) << 24;
}

#define TSR_KV_STORE_BLOCKS(name, row, dim, lane)                                     \
  if (KV_TYPE == kTypeQ8_0) {                                                         \
    uint word = q8_word_index(dim, lane);                                             \
    if (word != kNoWord) name[row * q8_row_words(dim) + word] = q8_word(lane);        \
    return;                                                                           \
  }
#else
#define TSR_KV_STORE_BLOCKS(name, row, dim, lane)
#endif

uint bits16(float v) { return KV_TYPE == kTypeF16 ? half_bits(v) : bf16_bits(v); }

// Declares the buffer `name` at `slot` and store_NAME(row, dim, lane, v): elements 2 lane and 2 lane + 1, if there
// are, of a row of `dim`. With an odd dim a word of a 16-bit cache may hold an element of the next row, which
// another invocation writes: each half is then set by itself.
#define TSR_KV_STORE(name, slot)                                                      \
  layout(std430, binding = slot) buffer Cache##name { uint name[]; };                 \
  void store_half_##name(uint at, float v) {                                          \
    uint shift = (at & 1u) * 16u;                                                     \
    atomicAnd(name[at >> 1], ~(0xffffu << shift));                                    \
    atomicOr(name[at >> 1], bits16(v) << shift);                                      \
  }                                                                                   \
  void store_##name(uint row, uint dim, uint lane, vec2 v) {                          \
    TSR_KV_STORE_BLOCKS(name, row, dim, lane)                                         \
    uint d = lane * 2, at = row * dim + d;                                            \
    if (d >= dim) return;                                                             \
    bool both = d + 1 < dim;                                                          \
    if (KV_TYPE == kTypeF32) {                                                        \
      name[at] = floatBitsToUint(v.x);                                                \
      if (both) name[at + 1] = floatBitsToUint(v.y);                                  \
    } else if ((dim & 1u) == 0u) {                                                    \
      name[at >> 1] = bits16(v.x) | bits16(v.y) << 16;                                \
    } else {                                                                          \
      store_half_##name(at, v.x);                                                     \
      if (both) store_half_##name(at + 1, v.y);                                       \
    }                                                                                 \
  }
