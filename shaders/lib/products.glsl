// Of four elements at a time; on top of load.glsl.

// Elements 4j .. 4j + 3 of a chunk, its scale included: exact, as scales have 11 bits and quants 8.
vec4 weights4(Chunk chunk, uint j) {
  return HALF_SCALES ? chunk4(chunk, j) * chunk.scales.x : chunk4(chunk, j);
}

// acc + a.b, one fused step a product.
float dot4(vec4 a, vec4 b, float acc) {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, acc))));
}
