// Vectors of four elements of a KV cache in f32 or f16, from words: f16 needs no optional capability. The
// including shader defines DIM and KV_TYPE. Declares the buffer `name` at `slot` under three types and
//   vec4 load_NAME(uint row, uint i)  // elements 4i..4i+3 of cache row `row`; past head_dim they are zero
#define TSR_KV_CACHE(name, slot)                                                                       \
  layout(std430, binding = slot) readonly buffer Words4##name { uvec4 name##4[]; };                    \
  layout(std430, binding = slot) readonly buffer Words2##name { uvec2 name##2[]; };                    \
  layout(std430, binding = slot) readonly buffer Words1##name { uint name##1[]; };                     \
  float element_##name(uint i) {                                                                       \
    if (KV_TYPE == kTypeF32) return uintBitsToFloat(name##1[i]);                                       \
    vec2 pair = unpackHalf2x16(name##1[i >> 1]);                                                       \
    return (i & 1u) == 0u ? pair.x : pair.y;                                                           \
  }                                                                                                    \
  vec4 load_##name(uint row, uint i) {                                                                 \
    if (DIM % 4 != 0) {                                                                                \
      vec4 v = vec4(0);                                                                                \
      for (uint e = 0; e < 4; ++e)                                                                     \
        if (4 * i + e < DIM) v[e] = element_##name(row * DIM + 4 * i + e);                             \
      return v;                                                                                        \
    }                                                                                                  \
    if (KV_TYPE == kTypeF32) return uintBitsToFloat(name##4[row * (DIM / 4) + i]);                     \
    uvec2 words = name##2[row * (DIM / 4) + i];                                                        \
    return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));                                     \
  }
