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

vec4 unpack_s8(uint word) {
  return vec4(int(word << 24) >> 24, int(word << 16) >> 24, int(word << 8) >> 24, int(word) >> 24);
}

vec4 unpack_u4(uint word) {  // the low 16 bits of `word`
  return vec4((uvec4(word) >> uvec4(0, 4, 8, 12)) & 15u) - 8.0;
}

vec4 unpack_bf16(uint a, uint b) {
  return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
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
    w.lo = unpack_bf16(raw.x, raw.y);
    w.hi = unpack_bf16(raw.z, raw.w);
  } else if (WEIGHT_TYPE == kTypeQ8_0) {
    float scale = block_scale(which, row4, k >> 2, col);
    w.lo = scale * unpack_s8(weight_word(which, row4 * 4 + (col >> 2)));
    w.hi = scale * unpack_s8(weight_word(which, row4 * 4 + (col >> 2) + 1));
  } else {
    float scale = block_scale(which, row4, k >> 3, col);
    uint raw = weight_word(which, row4 * 4 + (col >> 3));
    w.lo = scale * unpack_u4(raw);
    w.hi = scale * unpack_u4(raw >> 16);
  }
  return w;
}

// The same by pieces of 16 bytes: CHUNK elements from col on (a multiple of CHUNK, less than k) are
// decode4(load_chunk(...), j) * chunk_scale(...) for j < CHUNK / 4.
const uint CHUNK =
    WEIGHT_TYPE == kTypeF32 ? 4 : WEIGHT_TYPE == kTypeQ8_0 ? 16 : WEIGHT_TYPE == kTypeQ4_0 ? 32 : 8;

uvec4 load_chunk(uint which, uint row4, uint col) { return weight_words(which, row4 + col / CHUNK); }

float chunk_scale(uint which, uint row4, uint k, uint col) {
  if (WEIGHT_TYPE == kTypeQ8_0) return block_scale(which, row4, k >> 2, col);
  if (WEIGHT_TYPE == kTypeQ4_0) return block_scale(which, row4, k >> 3, col);
  return 1.0;
}

vec4 decode4(uvec4 raw, uint j) {
  if (WEIGHT_TYPE == kTypeF32) return uintBitsToFloat(raw);
  if (WEIGHT_TYPE == kTypeQ8_0) return unpack_s8(raw[j]);
  if (WEIGHT_TYPE == kTypeQ4_0) return unpack_u4(raw[j >> 1] >> ((j & 1u) * 16));
  uint a = raw[2 * j], b = raw[2 * j + 1];
  if (WEIGHT_TYPE == kTypeBf16) return unpack_bf16(a, b);
  return vec4(unpackHalf2x16(a), unpackHalf2x16(b));
}
