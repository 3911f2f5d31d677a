// Blocks of 32 weights as bytes, and their products with blocks of x (quantise_rows.comp) by integer dot products.
// Nibbles stay as they lie: word 2g has elements 0, 2, 4, 6 of the g-th eight, word 2g + 1 the others.
// docs/kernels/matmul.md.

struct RawBlock {
  uvec4 words;  // quants; of Q8_0 the first half
  uvec4 more;   // of Q8_0 the second half; else fifth, or fifth and sixth bits
  uvec4 scales;
};

struct DotBlock {
  uvec4 lo, hi;  // elements 0 to 15 and 16 to 31
  vec2 scales;   // w = x q + y; SIX_BITS: x and y are those of lo and hi
};

struct XBlock {
  uvec4 lo, hi;
  uvec4 head;  // step, sums (interface/quantise.h)
};

// (matrices, rows, k/32, 3): strides of x are of rows.
layout(std430, binding = kMatmulX) readonly buffer XBlocks { uvec4 x_blocks[]; };

XBlock load_x_block(uint row, uint col) {
  uint i = ((x_from + row) * (p.k / kQuantisedBlock) + col / kQuantisedBlock) * kQuantisedVectors;
  return XBlock(x_blocks[i], x_blocks[i + 1], x_blocks[i + 2]);
}

// `col` is a multiple of 32 and less than k.
RawBlock fetch_block(uint which, uint row4, uint k, uint col) {
  RawBlock raw = RawBlock(uvec4(0), uvec4(0), scales_at(which, row4, k, col));
  if (WEIGHT_TYPE == kTypeQ8_0) {
    raw.words = weight_words(which, row4 + (col >> 4));
    raw.more = weight_words(which, row4 + (col >> 4) + 1);
  } else {
    uint word = row4 * 4 + quant_words(k);
    raw.words = weight_words(which, row4 + (col >> 5));
    if (FIVE_BITS) raw.more.x = weight_word(which, word + (col >> 5));
    if (SIX_BITS) raw.more.xy = uvec2(weight_word(which, word + (col >> 4)), weight_word(which, word + (col >> 4) + 1));
  }
  return raw;
}

// Bits 0, 2, 4, 6 to the lowest bits of bytes.
uint spread_bits(uint bits) {
  bits &= 0x55u;
  bits = (bits | bits << 12) & 0x00050005u;
  return (bits | bits << 6) & 0x01010101u;
}
// The pairs of bits 0, 4, 8, 12 likewise.
uint spread_pairs(uint bits) {
  bits &= 0x3333u;
  bits = (bits | bits << 8) & 0x00330033u;
  return (bits | bits << 4) & 0x03030303u;
}

uvec2 eight_of(RawBlock raw, uint g) {
  uint word = raw.words[g];
  uvec2 q = uvec2(word, word >> 4) & 0x0f0f0f0fu;
  if (FIVE_BITS) {
    uint high = raw.more.x >> 8 * g;
    q |= uvec2(spread_bits(high), spread_bits(high >> 1)) << 4;
  }
  if (SIX_BITS) {
    uint high = raw.more[g / 2] >> 16 * (g % 2);
    q |= uvec2(spread_pairs(high), spread_pairs(high >> 2)) << 4;
  }
  return q;
}

DotBlock unpack_block(RawBlock raw, uint col) {
  DotBlock w;
  w.scales = scales_in(raw.scales, col);
  if (SIX_BITS) w.scales.y = scales_in(raw.scales, col + 16).x;
  if (WEIGHT_TYPE == kTypeQ8_0) {
    w.lo = raw.words;
    w.hi = raw.more;
  } else {
    w.lo = uvec4(eight_of(raw, 0), eight_of(raw, 1));
    w.hi = uvec4(eight_of(raw, 2), eight_of(raw, 3));
  }
  return w;
}

int dot16(uvec4 a, uvec4 b) {
  return dotPacked4x8EXT(int(a.x), int(b.x)) + dotPacked4x8EXT(int(a.y), int(b.y)) +
         dotPacked4x8EXT(int(a.z), int(b.z)) + dotPacked4x8EXT(int(a.w), int(b.w));
}

// What a block adds to the sum of x w. Sums of whole numbers are exact, and so is the difference to the minimum up to
// one rounding, as the two may cancel.
float add_block(DotBlock w, XBlock x, float sum) {
  int lo = dot16(w.lo, x.lo), hi = dot16(w.hi, x.hi);
  int sum_lo = bitfieldExtract(int(x.head.y), 0, 16), sum_hi = int(x.head.y) >> 16;
  precise float value;
  if (SIX_BITS) {
    value = fma(w.scales.x, float(lo - int(CENTRE) * sum_lo), w.scales.y * float(hi - int(CENTRE) * sum_hi));
  } else if (MINIMA) {  // scales.y is the minimum, negated
    float sums = float(sum_lo + sum_hi);
    precise float least = w.scales.y * sums;
    precise float lost = fma(w.scales.y, sums, -least);
    value = fma(w.scales.x, float(lo + hi), least) + lost;
  } else {
    int centre = WEIGHT_TYPE == kTypeQ8_0 ? 0 : int(CENTRE);  // bytes are stored with their sign
    value = w.scales.x * float(lo + hi - centre * (sum_lo + sum_hi));
  }
  return fma(uintBitsToFloat(x.head.x), value, sum);
}
