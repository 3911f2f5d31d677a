// Loads of x of f32 or f16 at binding X_BINDING; the including shader has half.glsl and defines X_HALF.
layout(std430, binding = X_BINDING) readonly buffer X4 { vec4 x4[]; };
layout(std430, binding = X_BINDING) readonly buffer X2 { uvec2 x2[]; };
layout(std430, binding = X_BINDING) readonly buffer X1 { uint x1[]; };

float load_x1(uint i) {
  if (!X_HALF) return uintBitsToFloat(x1[i]);
  return half_of(x1[i >> 1], i);
}

// Elements i..i+3; i is a multiple of 4.
vec4 load_x4(uint i) {
  if (!X_HALF) return x4[i >> 2];
  uvec2 raw = x2[i >> 2];
  return vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y));
}
