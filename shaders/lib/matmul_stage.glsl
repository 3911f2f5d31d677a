// What the matrix forms of matmul share: pieces of 8 elements on their way from memory to shared memory as f16,
// and rows of y from shared memory. docs/kernels/matmul.md.
const bool VEC8 = (FLAGS & kMatmulFlagVec8) != 0;
const bool Y4 = (FLAGS & kMatmulFlagY4) != 0;
layout(std430, binding = kMatmulX) readonly buffer X8 { uvec4 x8[]; };
layout(std430, binding = kMatmulY) writeonly buffer YWords4 { uvec4 y_words4[]; };
layout(std430, binding = kMatmulY) writeonly buffer YWords2 { uvec2 y_words2[]; };

// x[row, col..col+7] for rows below `end`, zero past k: f16 as it is stored, or f32.
Raw8 fetch_x8(uint row, uint end, uint col) {
  Raw8 raw = Raw8(uvec4(0), uvec4(0));
  if (row >= end) return raw;
  if (X_HALF && VEC8) {
    uint i = row * p.x_stride + col;
    if (BATCH) i += batch * p.x_batch;
    if (col < p.k) raw.words = x8[i >> 3];
    return raw;
  }
  raw.words = floatBitsToUint(load_x(row, col));
  raw.scales = floatBitsToUint(load_x(row, col + 4));
  return raw;
}

Raw8 fetch_w8(uint which, uint n, uint end, uint col) {
  if (n < end && col < p.k) return fetch8(which, n * p.row_words, p.k, col);
  return Raw8(uvec4(0), uvec4(0));
}

uvec4 to_halves(vec4 lo, vec4 hi) {
  return uvec4(packFloat2x16(f16vec2(lo.xy)), packFloat2x16(f16vec2(lo.zw)), packFloat2x16(f16vec2(hi.xy)),
               packFloat2x16(f16vec2(hi.zw)));
}

// Saturates: an infinity would meet a zero. NaN stays NaN.
vec4 within_f16(vec4 v) { return mix(clamp(v, -65504.0, 65504.0), v, isnan(v)); }

uvec4 halves_of_x(Raw8 raw) {
  if (X_HALF && VEC8) return raw.words;
  vec4 lo = uintBitsToFloat(raw.words), hi = uintBitsToFloat(raw.scales);
  return X_HALF ? to_halves(lo, hi) : to_halves(within_f16(lo), within_f16(hi));
}

uvec4 halves_of_w(Raw8 raw, uint col) {
  if (WEIGHT_TYPE == kTypeF16) return raw.words;
  Weights8 w = decode8(raw, col);
  if (WEIGHT_TYPE == kTypeF32 || WEIGHT_TYPE == kTypeBf16) {
    w.lo = within_f16(w.lo);
    w.hi = within_f16(w.hi);
  }
  return to_halves(w.lo, w.hi);
}

// Columns n..n+3 of a row of y from their sums; n is a multiple of 4.
void store_y4(uint row, uint n, vec4 dot_w, vec4 dot_up) {
  if (!Y4) {
    [[unroll]] for (uint e = 0; e < 4; ++e)
      if (n + e < p.n) store_y(row, n + e, dot_w[e], dot_up[e]);
    return;
  }
  if (n >= p.n) return;
  uint i = y_at(row, n);
  vec4 value;
  [[unroll]] for (uint e = 0; e < 4; ++e) value[e] = value_of(p.first + n + e, i + e, dot_w[e], dot_up[e]);
  if (Y_HALF)
    y_words2[i >> 2] = uvec2(half_bits(value.x) | half_bits(value.y) << 16,
                             half_bits(value.z) | half_bits(value.w) << 16);
  else
    y_words4[i >> 2] = floatBitsToUint(value);
}

// The tile of a workgroup, in bands of BAND rows of tiles: what is on the device at a time reads few rows of x and
// few of the weights.
const uint BAND = 16;
uvec2 tile_of(uint tile_m, uint tile_n) {
  uint tiles_m = (p.rows + tile_m - 1) / tile_m, tiles_n = (p.n + tile_n - 1) / tile_n;
  uint tile = group_of_product(tiles_m * tiles_n), first = tile / (BAND * tiles_n) * BAND;
  uint in_band = tile - first * tiles_n, height = min(tiles_m - first, BAND);
  return uvec2((first + in_band % height) * tile_m, in_band / height * tile_n);
}
