// Rows of q and of the output, (rows, heads, head_dim) in f32. The including shader defines DIM, p.heads and
// the buffers under two types: q4 and q1, out4 and out1.
vec4 load_q(uint row, uint head, uint i) {  // elements 4i..4i+3; past head_dim they are zero
  uint at = row * p.heads + head;
  if (DIM % 4 == 0) return q4[at * (DIM / 4) + i];
  vec4 v = vec4(0);
  for (uint e = 0; e < 4; ++e)
    if (4 * i + e < DIM) v[e] = q1[at * DIM + 4 * i + e];
  return v;
}
