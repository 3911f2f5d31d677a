// The cosines and sines of a rotary embedding, from cos_cache and sin_cache.
#pragma once

#include "ops/op_program.h"

namespace tessera {

// How many leading elements of a head turn: rotary_embedding_dim, or all.
Result<std::uint64_t> rotary_dims(const Arguments& args, std::uint64_t head_dim);
// Both are (positions, dims/2).
Result<void> check_rotary_caches(const Arguments& args, std::uint64_t dims);
// (count, dims/2, 2): row r is row rows[r] of the caches, or row r when `rows` is empty.
std::vector<float> rotary_table(const OpProgram& p, std::uint64_t dims, std::span<const std::uint32_t> rows,
                                std::uint64_t count);

}  // namespace tessera
