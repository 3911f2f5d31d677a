// Block lists of a public attention: those that are given, checked, or of a known shape.
#pragma once

#include "ops/attention_sizes.h"
#include "ops/op_program.h"

namespace tessera {

// Of Longformer (no random blocks) and BigBird: row block r names key blocks r - window to r + window, the
// first `globals` and `random` others, drawn from the seed; the first `globals` row blocks name all.
struct SparseShape {
  std::uint64_t blocks = 0;  // of rows, and as many of keys
  std::uint64_t window = 0, globals = 0, random = 0;
  std::uint64_t seed = 0;
};
// Numbers of first entries (blocks + 1), then the entries.
std::vector<std::uint32_t> sparse_lists(const SparseShape& shape);

// q_block, k_block and what lists are shared by.
Result<void> set_lists(const Arguments& args, const AttentionSizes& sizes, AttentionAttrs& attrs);

// The op's `lists`; kNoValue without any.
Result<ValueId> add_lists(const Arguments& args, const AttentionAttrs& attrs, OpProgram& program);

}  // namespace tessera
