// Vectors of four elements of q, k and v from words: 16-bit types need no optional capability. Declares the
// buffer `name` at `slot` under three types and
//   vec4 load_NAME(uint at, uint i)  // elements 4i..4i+3 of the row that starts at element `at` (q8_0: word);
//                                    // past LENGTH they are zero
//   void load8_NAME(uint at, uint i, out vec4 a, out vec4 b)  // elements 8i..8i+7, by one load where WIDE allows
// TYPE, LENGTH and the bit of WIDE are constants; STRIDE is that of elements, which is 1 when WIDE.
vec4 unpack4(uint type, uvec2 words) {
  if (type == kTypeF16) return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
  return uintBitsToFloat(uvec4(words.x << 16, words.x & 0xffff0000u, words.y << 16, words.y & 0xffff0000u));
}
vec4 unpack_s8(uint word) {
  return vec4(int(word << 24) >> 24, int(word << 16) >> 24, int(word << 8) >> 24, int(word) >> 24);
}

#define TSR_ROWS(name, slot, TYPE, LENGTH, STRIDE)                                                      \
  layout(std430, binding = slot) readonly buffer Words4##name { uvec4 name##4[]; };                     \
  layout(std430, binding = slot) readonly buffer Words2##name { uvec2 name##2[]; };                     \
  layout(std430, binding = slot) readonly buffer Words1##name { uint name##1[]; };                      \
  float element_##name(uint i) {                                                                        \
    if (TYPE == kTypeF32) return uintBitsToFloat(name##1[i]);                                           \
    uint word = name##1[i >> 1], bits = (i & 1u) == 0u ? word & 0xffffu : word >> 16;                   \
    return TYPE == kTypeF16 ? unpackHalf2x16(bits).x : uintBitsToFloat(bits << 16);                     \
  }                                                                                                     \
  vec4 load_##name(uint at, uint i) {                                                                   \
    if (TYPE == kTypeQ8_0) {                                                                            \
      vec2 scales = unpackHalf2x16(name##1[at + LENGTH / 4 + (i >> 4)]);                                \
      return ((i & 8u) == 0u ? scales.x : scales.y) * unpack_s8(name##1[at + i]);                       \
    }                                                                                                   \
    if ((WIDE & (1u << slot)) == 0u) {                                                                  \
      vec4 v = vec4(0);                                                                                 \
      for (uint e = 0; e < 4; ++e)                                                                      \
        if (4 * i + e < LENGTH) v[e] = element_##name(at + (4 * i + e) * STRIDE);                       \
      return v;                                                                                         \
    }                                                                                                   \
    if (TYPE == kTypeF32) return uintBitsToFloat(name##4[(at >> 2) + i]);                               \
    return unpack4(TYPE, name##2[(at >> 2) + i]);                                                       \
  }                                                                                                     \
  void load8_##name(uint at, uint i, out vec4 a, out vec4 b) {                                          \
    if ((TYPE == kTypeF16 || TYPE == kTypeBf16) && (WIDE & (0x10000u << slot)) != 0u) {                 \
      uvec4 words = name##4[(at >> 3) + i];                                                             \
      a = unpack4(TYPE, words.xy);                                                                      \
      b = unpack4(TYPE, words.zw);                                                                      \
    } else {                                                                                            \
      a = load_##name(at, 2 * i);                                                                       \
      b = 8 * i + 4 < LENGTH ? load_##name(at, 2 * i + 1) : vec4(0);                                    \
    }                                                                                                   \
  }
