// Guarded loads of x (rows, p.k) of f32 or f16 at binding X_BINDING; the including shader defines X_HALF, VEC4
// (k is a multiple of 4) and p.
layout(std430, binding = X_BINDING) readonly buffer X4 { vec4 x4[]; };
layout(std430, binding = X_BINDING) readonly buffer X2 { uvec2 x2[]; };
layout(std430, binding = X_BINDING) readonly buffer X1 { uint x1[]; };

float load_x1(uint i) {
  if (!X_HALF) return uintBitsToFloat(x1[i]);
  return unpackHalf2x16((i & 1u) == 0u ? x1[i >> 1] : x1[i >> 1] >> 16).x;
}

// x[row, col..col+3], zero past k; col is a multiple of 4.
vec4 load_x(uint row, uint col) {
  uint i = row * p.k + col;
  if (VEC4) {
    if (col >= p.k) return vec4(0);
    if (!X_HALF) return x4[i >> 2];
    uvec2 raw = x2[i >> 2];
    return vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y));
  }
  return vec4(col < p.k ? load_x1(i) : 0.0, col + 1 < p.k ? load_x1(i + 1) : 0.0,
              col + 2 < p.k ? load_x1(i + 2) : 0.0, col + 3 < p.k ? load_x1(i + 3) : 0.0);
}
