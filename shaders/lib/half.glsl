// Half i of a word of two f16.
float half_of(uint word, uint i) { return unpackHalf2x16((i & 1u) == 0u ? word : word >> 16).x; }

// Scales of blocks: drivers may read subnormal f16 as zero, which would be whole blocks.
vec2 exact_halves(uint word) {
  ivec2 bits = ivec2(int(word << 16), int(word)) >> 16, mag = bits & 0x7fff;
  vec2 tiny = vec2(mix(mag, -mag, lessThan(bits, ivec2(0)))) * 5.9604644775390625e-8;  // 2^-24
  return mix(unpackHalf2x16(word), tiny, lessThan(mag, ivec2(0x400)));
}

// f32 to f16 bits, round to nearest even: what packHalf2x16 does is up to the driver. Too large gives an
// infinity, NaN stays NaN.
uint half_bits(float x) {
  uint bits = floatBitsToUint(x), sign = (bits >> 16) & 0x8000u, mag = bits & 0x7fffffffu;
  if (mag >= 0x47800000u) return sign | (mag > 0x7f800000u ? 0x7e00u : 0x7c00u);  // 65536 and above
  uint shift = 13, value = mag - 0x38000000u;
  if (mag < 0x38800000u) {  // subnormal as f16: the leading one is explicit and moves right
    shift = min(126u - (mag >> 23), 31u);
    value = (mag & 0x7fffffu) | 0x800000u;
  }
  uint kept = value >> shift, rest = value & ((1u << shift) - 1u), half_unit = 1u << (shift - 1u);
  return sign | (kept + (rest > half_unit || (rest == half_unit && (kept & 1u) != 0u) ? 1u : 0u));
}

// f32 to bf16 bits, likewise.
uint bf16_bits(float x) {
  uint bits = floatBitsToUint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
