// Weights of every type from uint words in the device layout (src/kernels/layout.h). F16 and BF16 need no
// optional capability: unpackHalf2x16 and a shift. The including shader defines WEIGHT_TYPE (a specialization
// constant) and reads its own buffers through
//   uvec4 weight_words(uint which, uint i);  // 16 bytes
//   uint weight_word(uint which, uint i);    // 4 bytes
// `which` is a literal wherever these are called, so it costs nothing.

struct Weights8 {
  vec4 lo;  // elements col..col+3
  vec4 hi;  // elements col+4..col+7
};

vec4 unpack_s8(uint word, float scale) {
  ivec4 q = ivec4(int(word << 24) >> 24, int(word << 16) >> 24, int(word << 8) >> 24, int(word) >> 24);
  return vec4(q) * scale;
}

vec4 unpack_u4(uint word, float scale) {  // the low 16 bits of `word`
  uvec4 q = (uvec4(word) >> uvec4(0, 4, 8, 12)) & 15u;
  return (vec4(q) - 8.0) * scale;
}

// The f16 scale of the block of 32 that holds `col`; scales start `scales` words into the row.
float block_scale(uint which, uint row4, uint scales, uint col) {
  uint word = weight_word(which, row4 * 4 + scales + (col >> 6));
  vec2 pair = unpackHalf2x16(word);
  return (col & 32u) == 0u ? pair.x : pair.y;
}

// Elements col..col+7 of the row of `k` elements that starts at the row4-th uvec4. col is a multiple of 8 and
// less than k; what lies past k is zero.
Weights8 load8(uint which, uint row4, uint k, uint col) {
  Weights8 w;
  if (WEIGHT_TYPE == kTypeF32) {
    w.lo = uintBitsToFloat(weight_words(which, row4 + (col >> 2)));
    w.hi = col + 4 < k ? uintBitsToFloat(weight_words(which, row4 + (col >> 2) + 1)) : vec4(0);
  } else if (WEIGHT_TYPE == kTypeF16) {
    uvec4 raw = weight_words(which, row4 + (col >> 3));
    w.lo = vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y));
    w.hi = vec4(unpackHalf2x16(raw.z), unpackHalf2x16(raw.w));
  } else if (WEIGHT_TYPE == kTypeBf16) {
    uvec4 raw = weight_words(which, row4 + (col >> 3));
    uvec4 even = raw << 16, odd = raw & 0xffff0000u;
    w.lo = uintBitsToFloat(uvec4(even.x, odd.x, even.y, odd.y));
    w.hi = uintBitsToFloat(uvec4(even.z, odd.z, even.w, odd.w));
  } else if (WEIGHT_TYPE == kTypeQ8_0) {
    float scale = block_scale(which, row4, k >> 2, col);
    w.lo = unpack_s8(weight_word(which, row4 * 4 + (col >> 2)), scale);
    w.hi = unpack_s8(weight_word(which, row4 * 4 + (col >> 2) + 1), scale);
  } else {
    float scale = block_scale(which, row4, k >> 3, col);
    uint raw = weight_word(which, row4 * 4 + (col >> 3));
    w.lo = unpack_u4(raw, scale);
    w.hi = unpack_u4(raw >> 16, scale);
  }
  return w;
}
