#include "base/attention.h"

namespace tessera {
namespace {

// Of a tensor of `heads` heads of `len` rows of `dim` elements a sequence.
void fill(Strides& strides, bool heads_first, std::uint64_t heads, std::uint64_t len, std::uint64_t dim) {
  if (strides != Strides{}) return;
  if (heads_first)
    strides = {heads * len * dim, len * dim, dim, 1};
  else
    strides = {len * heads * dim, dim, heads * dim, 1};
}

}  // namespace

void resolve_strides(AttentionAttrs& a) {
  fill(a.q_strides, a.heads_first, a.heads, a.q_len, a.head_dim);
  fill(a.y_strides, a.heads_first, a.heads, a.q_len, a.v_dim);
  const std::uint64_t rows = a.block_size != 0 ? a.block_size : a.kv_len;
  fill(a.k_strides, a.cache || a.heads_first, a.kv_heads, rows, a.head_dim);
  fill(a.v_strides, a.cache || a.heads_first, a.kv_heads, rows, a.v_dim);
}

}  // namespace tessera
