// Geometry of a KV cache and of the rows that go into it: what rope, kv_append and rope_append are checked
// for, lowered with and computed by.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace tessera {

// Sequences, and rows of each, in operand `x` of rope, kv_append or rope_append. A pass has
// min(StepState.rows, rows) of them in every sequence; row i is at StepState.position + i.
struct SequenceRows {
  std::uint64_t batch = 1, rows = 1;
};
SequenceRows sequence_rows(const Program& program, const Op& op);

// Where heads of `dim` elements begin in an operand: `given` when it is not all zero, else the layout that
// attrs.heads_first says.
Strides head_strides(const AttentionAttrs& attrs, const Strides& given, std::uint64_t rows,
                     std::uint64_t heads, std::uint64_t dim);
inline bool has_strides(const Strides& s) { return s != Strides{}; }

// Key j of sequence b and head h is row ((block * kv_heads + h) * slots + slot) of the cache, with
//   j' = ring ? j % capacity : j
//   block, slot = b, j'                                      (not paged)
//               = table[b, j' / slots], j' % slots           (paged)
struct CacheForm {
  std::uint64_t blocks = 1;  // leading dimension: sequences, or blocks when paged
  std::uint64_t kv_heads = 1;
  std::uint64_t slots = 0;         // keys of a sequence, or of a block
  std::uint64_t dim = 0;           // elements of a row
  std::uint64_t table_stride = 0;  // blocks a sequence may have; 0: not paged
  bool ring = false;

  bool paged() const { return table_stride != 0; }
  std::uint64_t capacity() const { return paged() ? table_stride * slots : slots; }  // keys of a sequence
  std::uint64_t row(std::uint64_t block, std::uint64_t head, std::uint64_t slot) const {
    return (block * kv_heads + head) * slots + slot;
  }
};
// Of values that Program::check() has accepted; `table` may be kNoValue.
CacheForm cache_form(const Program& program, ValueId cache, ValueId table, bool ring);

}  // namespace tessera
