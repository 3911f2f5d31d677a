// Floats to blocks of Q8_0 as base/dtype.cpp's encode_row makes them, bit for bit. In
// integers: a device's division may be 2.5 ulp off, and what it does with subnormals is up to it.

// v / 2^shift to the nearest, ties to even; `more`: v stands for a little more than it is.
uint shifted(uint v, uint shift, bool more) {
  uint rest = v & ((1u << shift) - 1u), middle = 1u << (shift - 1u), kept = v >> shift;
  return kept + (rest > middle || (rest == middle && (more || (kept & 1u) != 0u)) ? 1u : 0u);
}

// The scale d of a block, as f32 bits, and 1/d = mantissa 2^exponent; mantissa 0: every quant is 0.
struct Q8Scale {
  uint bits;
  uint mantissa;  // 24 bits, the first one set
  int exponent;
};

// Bits of the largest magnitude in a block.
Q8Scale q8_scale(uint largest) {
  // Below 2^-126 the inverse of d is infinite, past it d is not finite; d as f16 is 0 or not finite too.
  if (largest < 0x00800000u) return Q8Scale(0u, 0u, 0);
  if (largest >= 0x7f800000u) return Q8Scale(largest, 0u, 0);
  // d = largest / 127: 7 more bits than the mantissa has keep 24 of the quotient.
  uint wide = ((largest & 0x7fffffu) | 0x800000u) << 7, d = wide / 127u, rest = wide - d * 127u;
  bool longer = d >= 0x1000000u;
  int power = int(largest >> 23) - 7 + (longer ? 1 : 0);  // biased exponent of d; below 1 it is subnormal
  uint shift = (longer ? 1u : 0u) + uint(max(1 - power, 0));
  d = shift == 0u ? d + (2u * rest > 127u ? 1u : 0u) : shifted(d, shift, rest != 0u);
  power = max(power, 1);
  uint bits = (uint(power - 1) << 23) + d;  // d's first bit, and a carry, add to the exponent

  int first = findMSB(d);
  uint m = first <= 23 ? d << (23 - first) : d >> (first - 23);
  int exponent = 150 - power - (first - 23) - 47;  // 1/d = 2^47 / m 2^exponent
  uint inverse = uint(16777216.0 / uintBitsToFloat(0x3f800000u | (m & 0x7fffffu)));
  int error = -int(inverse * m);  // 2^47 - inverse m, whose upper half is 0
  for (int i = 0; i < 4; ++i) {
    int step = 2 * error > int(m) ? 1 : 2 * error < -int(m) ? -1 : 0;
    inverse += uint(step);
    error -= step * int(m);
  }
  if (inverse == 0x1000000u) {
    inverse >>= 1;
    ++exponent;
  }
  return Q8Scale(bits, exponent >= 105 ? 0u : inverse, exponent);  // at 105 it is above the largest f32
}

// x/d to the nearest whole number, halves away from zero, by way of the f32 product x (1/d).
int q8_quant(uint x, Q8Scale scale) {
  uint m = x & 0x7fffffu;
  int power = int(x >> 23 & 0xffu);
  if (power == 0) {
    int first = findMSB(m);  // -1 when x is 0
    if (first < 0) return 0;
    m <<= 23 - first;
    power = first - 22;
  } else {
    m |= 0x800000u;
  }
  uint high, low;
  umulExtended(m, scale.mantissa, high, low);  // of 47 or 48 bits
  uint shift = high >= 0x8000u ? 24u : 23u;
  uint product = shifted(low, shift, false) + (high << (32u - shift));
  // shifted() rounds to even by the last bit that `low` keeps, which is the product's.
  int whole = 150 - power - scale.exponent - int(shift);  // product 2^-whole
  if (scale.mantissa == 0u || whole > 25 || whole < 16) return 0;
  int quant = int((product + (1u << uint(whole - 1))) >> uint(whole));
  if (quant > 127) return 0;
  return (x >> 31) != 0u ? -quant : quant;
}
