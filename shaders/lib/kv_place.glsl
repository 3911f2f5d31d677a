// Where a key lies in a KV cache (docs/kernels/kv_cache.md). The including shader defines PAGED and RING, has the
// block table as `block_table`, (batch, table_stride), and the sizes in its parameters.
const uint kNowhere = 0xffffffffu;
// The row of a cache that holds this key; kNowhere when the block table names a block that there is not.
uint cache_row(uint sequence, uint head, uint position) {
  uint slot = RING ? position % p.capacity : position, block = sequence;
  if (PAGED) {
    block = block_table[sequence * p.table_stride + slot / p.slots];
    slot %= p.slots;
    if (block >= p.blocks) return kNowhere;
  }
  return (block * p.kv_heads + head) * p.slots + slot;
}
