// What the matrix forms of matmul share: pieces of 8 elements on their way from memory to shared memory as f16,
// and rows of y from shared memory. The including shader defines GROUP, the tile (TILE_M, TILE_N, TILE_K), STAGES,
// how many copies of it are in shared memory, and TILES_LATER, the uvec4 of `tiles` that it needs for other things.
// docs/kernels/matmul.md.
const uint PARTS = TILE_K / 8;   // pieces of 8 elements a row
const uint PITCH = PARTS + 1;    // uvec4 a row in shared memory: the odd one keeps rows on other banks
const uint X_PIECES = TILE_M * PARTS;
const uint W_PIECES = TILE_N * PARTS;  // of each matrix
const uint X_LOADS = (X_PIECES + GROUP - 1) / GROUP;  // pieces a lane loads
const uint W_LOADS = (W_PIECES + GROUP - 1) / GROUP;
const uint X_TILE = TILE_M * PITCH;
const uint STAGE = X_TILE + MATRICES * TILE_N * PITCH;

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
    if (BATCH) i += x_from;
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
vec4 within_f16(vec4 v) {
  bvec4 nan = greaterThan(floatBitsToUint(v) & 0x7fffffffu, uvec4(0x7f800000u));  // drivers may fold isnan() away
  return mix(clamp(v, -65504.0, 65504.0), v, nan);
}

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

// Each stage: x (TILE_M, TILE_K), then w and up (TILE_N, TILE_K), f16.
shared uvec4 tiles[STAGES * STAGE > TILES_LATER ? STAGES * STAGE : TILES_LATER];

Raw8 next_x[X_LOADS];
Raw8 next_w[MATRICES * W_LOADS];

uint lane() { return gl_LocalInvocationID.x; }

void fetch(uint m0, uint n0, uint rows, uint col) {
  [[unroll]] for (uint l = 0; l < X_LOADS; ++l) {
    uint piece = lane() + l * GROUP;
    next_x[l] = fetch_x8(m0 + piece / PARTS, min(rows, m0 + TILE_M), col + piece % PARTS * 8);
  }
  [[unroll]] for (uint l = 0; l < MATRICES * W_LOADS; ++l) {
    uint piece = lane() + l % W_LOADS * GROUP;
    next_w[l] = fetch_w8(l / W_LOADS, n0 + piece / PARTS, min(p.n, n0 + TILE_N), col + piece % PARTS * 8);
  }
}

void keep(uint stage, uint col) {  // what was fetched for `col`
  [[unroll]] for (uint l = 0; l < X_LOADS; ++l) {
    uint piece = lane() + l * GROUP;
    if (X_PIECES % GROUP == 0 || piece < X_PIECES)
      tiles[stage + piece / PARTS * PITCH + piece % PARTS] = halves_of_x(next_x[l]);
  }
  [[unroll]] for (uint l = 0; l < MATRICES * W_LOADS; ++l) {
    uint piece = lane() + l % W_LOADS * GROUP;
    if (W_PIECES % GROUP == 0 || piece < W_PIECES)
      tiles[stage + X_TILE + (l / W_LOADS * TILE_N + piece / PARTS) * PITCH + piece % PARTS] =
          halves_of_w(next_w[l], col + piece % PARTS * 8);
  }
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
  // A workgroup past the end of a folded grid may start a band of no rows.
  uint in_band = tile - first * tiles_n, height = max(min(tiles_m - first, BAND), 1u);
  return uvec2((first + in_band % height) * tile_m, in_band / height * tile_n);
}
