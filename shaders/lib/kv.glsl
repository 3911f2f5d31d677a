// Where rows of q, k and v start: load_q(q_row(...), i), load_k(k_row(...), i), load_v(v_row(...), i).
#include "lib/rows.glsl"
TSR_ROWS(q, kAttentionQ, Q_TYPE, DIM, p.q_element)
TSR_ROWS(k, kAttentionK, KV_TYPE, DIM, p.k_element)
TSR_ROWS(v, kAttentionV, KV_TYPE, V_DIM, p.v_element)
layout(std430, binding = kAttentionTable) readonly buffer Table { uint table[]; };  // (batch, table_stride)

uint q_row(uint batch, uint head, uint row) { return batch * p.q_batch + head * p.q_head + row * p.q_row; }

// Of one sequence, the KV head that a head reads.
struct Keys {
  uint k;      // start of row 0, of block 0 when paged
  uint v;
  uint table;  // of the sequence
};
Keys keys_of(uint batch, uint head) {
  uint kv_head = head / (p.heads / p.kv_heads);
  Keys c = Keys(kv_head * p.k_head, kv_head * p.v_head, 0);
  if (PAGED) {
    c.table = batch * p.table_stride;
  } else {
    c.k += batch * p.k_batch;
    c.v += batch * p.v_batch;
  }
  return c;
}

// The block of a key and its place there. A number past the blocks is taken for the last block.
uvec2 page_of(Keys c, uint key) {
  uint i = key / p.block_size;
  return uvec2(min(table[c.table + i], p.blocks - 1), key - i * p.block_size);
}
uint k_row(Keys c, uint key) {
  if (PAGED) {
    uvec2 page = page_of(c, key);
    return c.k + page.x * p.k_batch + page.y * p.k_row;
  }
  return c.k + (RING ? key % p.kv_len : key) * p.k_row;
}
uint v_row(Keys c, uint key) {
  if (PAGED) {
    uvec2 page = page_of(c, key);
    return c.v + page.x * p.v_batch + page.y * p.v_row;
  }
  return c.v + (RING ? key % p.kv_len : key) * p.v_row;
}
