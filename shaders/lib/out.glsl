void store_out(uint row, uint head, uint i, vec4 v) {  // elements 4i..4i+3 of out(rows, heads, head_dim)
  uint at = row * p.heads + head;
  if (DIM % 4 == 0) {
    out4[at * (DIM / 4) + i] = v;
    return;
  }
  for (uint e = 0; e < 4; ++e)
    if (4 * i + e < DIM) out1[at * DIM + 4 * i + e] = v[e];
}
