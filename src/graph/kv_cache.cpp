#include "graph/kv_cache.h"

#include <algorithm>

namespace tessera {

SequenceRows sequence_rows(const Program& program, const Op& op) {
  const AttentionAttrs& a = op.attrs.attention;
  const Value& x = program.values[op.in[0]];
  const std::uint64_t batch = std::max<std::uint32_t>(a.batch, 1);
  if (has_strides(a.q_strides)) return {batch, a.q_len};
  if (a.heads_first) return {batch, x.shape.size() == 4 ? x.shape[2] : 0};
  return {batch, x.shape[0] / batch};
}

Strides head_strides(const AttentionAttrs& attrs, const Strides& given, std::uint64_t rows,
                     std::uint64_t heads, std::uint64_t dim) {
  if (has_strides(given)) return given;
  if (attrs.heads_first) return {heads * rows * dim, rows * dim, dim, 1};
  return {rows * heads * dim, dim, heads * dim, 1};
}

CacheForm cache_form(const Program& program, ValueId cache, ValueId table, bool ring) {
  const std::vector<std::uint64_t>& shape = program.values[cache].shape;
  const std::size_t heads = shape.size() - 3;  // rank 3 has one sequence
  CacheForm form;
  form.blocks = heads == 0 ? 1 : shape[0];
  form.kv_heads = shape[heads];
  form.slots = shape[heads + 1];
  form.dim = shape[heads + 2];
  if (table != kNoValue) form.table_stride = program.values[table].last_dim();
  form.ring = ring;
  return form;
}

}  // namespace tessera
