// Weights of every type from uint words in the device layout (src/kernels/layout.h): all that shaders know of
// it. F16 and BF16 need no optional capability: unpackHalf2x16 and a shift. The including shader defines
// WEIGHT_TYPE (a specialization constant), includes half.glsl and reads its own buffers through
//   uvec4 weight_words(uint which, uint i);  // 16 bytes
//   uint weight_word(uint which, uint i);    // 4 bytes
// `which` is a literal wherever these are called, so it costs nothing. A row of `k` elements starts at the
// row4-th uvec4.

const bool FIVE_BITS = WEIGHT_TYPE == kTypeQ5_0 || WEIGHT_TYPE == kTypeQ5_1 || WEIGHT_TYPE == kTypeQ5_K;
const bool SIX_BITS = WEIGHT_TYPE == kTypeQ6_K;
const bool SUPER_BLOCKS = WEIGHT_TYPE == kTypeQ4_K || WEIGHT_TYPE == kTypeQ5_K;
const bool MINIMA = SUPER_BLOCKS || WEIGHT_TYPE == kTypeQ4_1 || WEIGHT_TYPE == kTypeQ5_1;
const bool NIBBLES =
    MINIMA || FIVE_BITS || SIX_BITS || WEIGHT_TYPE == kTypeQ4_0;
// One f16 scale a block of 32.
const bool HALF_SCALES = WEIGHT_TYPE == kTypeQ8_0 || WEIGHT_TYPE == kTypeQ4_0 || WEIGHT_TYPE == kTypeQ5_0;
// What is subtracted from the stored quants.
const float CENTRE = WEIGHT_TYPE == kTypeQ8_0   ? 128.0
                     : WEIGHT_TYPE == kTypeQ4_0 ? 8.0
                     : WEIGHT_TYPE == kTypeQ5_0 ? 16.0
                     : SIX_BITS                 ? 32.0
                                                : 0.0;
const uint CHUNK = WEIGHT_TYPE == kTypeF32 ? 4 : WEIGHT_TYPE == kTypeQ8_0 ? 16 : NIBBLES ? 32 : 8;

struct Weights8 {
  vec4 lo;  // elements col..col+3
  vec4 hi;  // elements col+4..col+7
};

// CHUNK elements, 16 bytes of quants or values.
struct Chunk {
  uvec4 words;
  uvec2 high;   // fifth bits, or fifth and sixth
  vec2 scales;  // w = x q; with MINIMA w = x q + y; of SIX_BITS each is that of 16 elements
};

vec4 unpack_bf16(uint a, uint b) {
  return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
}

// Whole numbers below 2^23 to floats, less CENTRE, both exactly: the mantissa of 2^23 is the number.
// Conversions run at a quarter of the rate on some GPUs.
vec4 centred(uvec4 q) { return uintBitsToFloat(q | 0x4b000000u) - (8388608.0 + CENTRE); }

vec4 unpack_bytes(uint word) { return centred((uvec4(word ^ 0x80808080u) >> uvec4(0, 8, 16, 24)) & 255u); }

// Quants of four elements from the low 16 bits of `word` and the low 4 (8) bits of `high`.
vec4 unpack_nibbles(uint word, uint high) {
  uvec4 q = (uvec4(word) >> uvec4(0, 4, 8, 12)) & 15u;
  if (FIVE_BITS) q |= (uvec4(high) << uvec4(4, 3, 2, 1)) & 16u;
  if (SIX_BITS) q |= (uvec4(high) << 4 >> uvec4(0, 2, 4, 6)) & 48u;
  return centred(q);
}

uint quant_words(uint k) { return WEIGHT_TYPE == kTypeQ8_0 ? k >> 2 : k >> 3; }
// Words before the scales.
uint scale_words(uint k) { return quant_words(k) + (FIVE_BITS ? k >> 5 : SIX_BITS ? k >> 4 : 0); }

// What load8 reads, as it lies in memory, so that it can be asked for long before it is used.
struct Raw8 {
  uvec4 words;   // F32: the first four; quants in x and y, upper bits in z
  uvec4 scales;  // F32: the second four
};

// The words that scales_in() takes apart.
uvec4 scales_at(uint which, uint row4, uint k, uint col) {
  if (SUPER_BLOCKS) return weight_words(which, row4 + (scale_words(k) >> 2) + (col >> 8));
  uint word = row4 * 4 + scale_words(k);
  if (SIX_BITS)
    return uvec4(weight_word(which, word + (col >> 6)), weight_word(which, word + (k >> 6) + (col >> 9)), 0, 0);
  if (HALF_SCALES) return uvec4(weight_word(which, word + (col >> 6)), 0, 0, 0);
  if (MINIMA) return uvec4(weight_word(which, word + (col >> 5)), 0, 0, 0);
  return uvec4(0);
}

float half_in(uint word, uint i) {
  vec2 pair = exact_halves(word);
  return (i & 1u) == 0u ? pair.x : pair.y;
}

// Of the block of 32 (SIX_BITS: of 16) that holds `col`: w = x q + y.
vec2 scales_in(uvec4 raw, uint col) {
  if (SUPER_BLOCKS) {  // of 256: f16 d and dmin; low nibbles of 8 scales, of 8 minima; their upper bits
    uint i = col >> 5 & 7u;
    uint scale = (raw.y >> 4 * i & 15u) | (raw.w >> 2 * i & 3u) << 4;
    uint minimum = (raw.z >> 4 * i & 15u) | (raw.w >> 2 * i + 16 & 3u) << 4;
    vec2 d = exact_halves(raw.x);
    return vec2(d.x * float(scale), -d.y * float(minimum));
  }
  if (SIX_BITS)
    return vec2(half_in(raw.y, col >> 8) * float(bitfieldExtract(int(raw.x), int(col >> 4 & 3u) * 8, 8)), 0);
  if (HALF_SCALES) return vec2(half_in(raw.x, col >> 5), 0);
  if (MINIMA) return exact_halves(raw.x);
  return vec2(1, 0);
}

vec2 scales_of(uint which, uint row4, uint k, uint col) { return scales_in(scales_at(which, row4, k, col), col); }

Raw8 fetch8(uint which, uint row4, uint k, uint col) {
  Raw8 raw = Raw8(uvec4(0), uvec4(0));
  if (WEIGHT_TYPE == kTypeF32) {
    raw.words = weight_words(which, row4 + (col >> 2));
    if (col + 4 < k) raw.scales = weight_words(which, row4 + (col >> 2) + 1);
    return raw;
  }
  if (!NIBBLES && WEIGHT_TYPE != kTypeQ8_0) {
    raw.words = weight_words(which, row4 + (col >> 3));
    return raw;
  }
  if (WEIGHT_TYPE == kTypeQ8_0) {
    raw.words.x = weight_word(which, row4 * 4 + (col >> 2));
    raw.words.y = weight_word(which, row4 * 4 + (col >> 2) + 1);
  } else {
    uint word = row4 * 4 + quant_words(k);
    raw.words.x = weight_word(which, row4 * 4 + (col >> 3));
    if (FIVE_BITS) raw.words.z = weight_word(which, word + (col >> 5));
    if (SIX_BITS) raw.words.z = weight_word(which, word + (col >> 4));
  }
  raw.scales = scales_at(which, row4, k, col);
  return raw;
}

Weights8 decode8(Raw8 raw, uint col) {
  Weights8 w;
  if (WEIGHT_TYPE == kTypeF32) return Weights8(uintBitsToFloat(raw.words), uintBitsToFloat(raw.scales));
  if (WEIGHT_TYPE == kTypeF16)
    return Weights8(vec4(unpackHalf2x16(raw.words.x), unpackHalf2x16(raw.words.y)),
                    vec4(unpackHalf2x16(raw.words.z), unpackHalf2x16(raw.words.w)));
  if (WEIGHT_TYPE == kTypeBf16)
    return Weights8(unpack_bf16(raw.words.x, raw.words.y), unpack_bf16(raw.words.z, raw.words.w));
  if (WEIGHT_TYPE == kTypeQ8_0) {
    w.lo = unpack_bytes(raw.words.x);
    w.hi = unpack_bytes(raw.words.y);
  } else {
    uint high = 0;
    if (FIVE_BITS) high = raw.words.z >> (col & 31u);
    if (SIX_BITS) high = raw.words.z >> 2 * (col & 15u);
    w.lo = unpack_nibbles(raw.words.x, high);
    w.hi = unpack_nibbles(raw.words.x >> 16, high >> (SIX_BITS ? 8 : 4));
  }
  vec2 scales = scales_in(raw.scales, col);
  w.lo = MINIMA ? fma(w.lo, scales.xxxx, scales.yyyy) : w.lo * scales.x;
  w.hi = MINIMA ? fma(w.hi, scales.xxxx, scales.yyyy) : w.hi * scales.x;
  return w;
}

// Elements col..col+7; col is a multiple of 8 and less than k; what lies past k is zero.
Weights8 load8(uint which, uint row4, uint k, uint col) { return decode8(fetch8(which, row4, k, col), col); }

// CHUNK elements from col on, a multiple of CHUNK and less than k: chunk4(c, j) * chunk_factor(c), j < CHUNK/4.
Chunk load_chunk(uint which, uint row4, uint k, uint col) {
  Chunk c = Chunk(weight_words(which, row4 + col / CHUNK), uvec2(0), scales_of(which, row4, k, col));
  uint word = row4 * 4 + quant_words(k);
  if (FIVE_BITS) c.high.x = weight_word(which, word + (col >> 5));
  if (SIX_BITS) {
    c.high = uvec2(weight_word(which, word + (col >> 4)), weight_word(which, word + (col >> 4) + 1));
    c.scales.y = scales_of(which, row4, k, col + 16).x;
  }
  return c;
}

vec4 chunk4(Chunk c, uint j) {
  if (WEIGHT_TYPE == kTypeF32) return uintBitsToFloat(c.words);
  if (WEIGHT_TYPE == kTypeQ8_0) return unpack_bytes(c.words[j]);
  if (NIBBLES) {
    uint high = SIX_BITS ? c.high[j >> 2] >> 8 * (j & 3u) : c.high.x >> 4 * j;
    vec4 q = unpack_nibbles(c.words[j >> 1] >> 16 * (j & 1u), high);
    if (MINIMA) return fma(q, c.scales.xxxx, c.scales.yyyy);
    return SIX_BITS ? q * (j < 4 ? c.scales.x : c.scales.y) : q;
  }
  uint a = c.words[2 * j], b = c.words[2 * j + 1];
  if (WEIGHT_TYPE == kTypeBf16) return unpack_bf16(a, b);
  return vec4(unpackHalf2x16(a), unpackHalf2x16(b));
}

// What a sum over a chunk is multiplied by, so that not every element is.
float chunk_factor(Chunk c) { return HALF_SCALES ? c.scales.x : 1.0; }
