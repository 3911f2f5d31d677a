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
