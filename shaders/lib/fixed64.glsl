// Unsigned 64-bit integers as uvec2 (low, high).
uvec2 add64(uvec2 a, uvec2 b) {
  uint carry;
  uint low = uaddCarry(a.x, b.x, carry);
  return uvec2(low, a.y + b.y + carry);
}
uvec2 sub64(uvec2 a, uvec2 b) {
  uint borrow;
  uint low = usubBorrow(a.x, b.x, borrow);
  return uvec2(low, a.y - b.y - borrow);
}
bool less64(uvec2 a, uvec2 b) { return a.y < b.y || (a.y == b.y && a.x < b.x); }
// floor(a * f / 2^32); `exact` when nothing was cut off.
uvec2 scale64(uvec2 a, uint f, out bool exact) {
  uint h0, l0, h1, l1;
  umulExtended(a.x, f, h0, l0);
  umulExtended(a.y, f, h1, l1);
  exact = l0 == 0;
  return add64(uvec2(h0, 0), uvec2(l1, h1));
}
