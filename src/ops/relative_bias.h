// The relative bias of a public attention: tables by distance, T5's buckets, and those of a 2-D window.
#pragma once

#include "ops/attention_sizes.h"
#include "ops/op_program.h"

namespace tessera {

// T5's bucket of a key that is `distance` behind its row (negative: before it). Exact for small distances,
// then by logarithm up to max_distance; bidirectional: the upper half of the buckets is of keys behind the
// row.
struct Buckets {
  std::uint32_t count = 32, max_distance = 128;
  bool bidirectional = true;
};
std::uint32_t t5_bucket(const Buckets& buckets, std::int64_t distance);

// `relative` and `relative_size`.
Result<void> set_relative(const Arguments& args, AttentionAttrs& attrs);

// The op's `relative`, (entries, heads); kNoValue without a bias.
ValueId add_relative(const Arguments& args, const AttentionAttrs& attrs, OpProgram& program);

}  // namespace tessera
