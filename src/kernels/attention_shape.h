// What every form of attention needs of a shape: checked once, and put into the words that kernels read.
#pragma once

#include <optional>

#include "interface/attention_params.h"
#include "kernels/choose.h"

namespace tessera {

// "attention of 2x512 rows, 8/2 heads of 64, 512 keys"
std::string describe(const AttentionShape& shape);
// Strides filled in, windows that hide nothing removed, the scores' empty ranges made whole; invalid_argument
// or unsupported when no kernel can do it.
Result<AttentionShape> checked(AttentionShape shape, const Limits& limits);

// Of a checked shape.
std::uint32_t attention_flags(const AttentionShape& shape);
// Heads of one KV head that are folded into rows: all, or with lists of their own one.
std::uint32_t folded_heads(const AttentionShape& shape);
// Folded rows that tiles are cut from: of a sequence, or of a block of rows.
std::uint64_t folded_rows(const AttentionShape& shape);
// Tiles of so many folded rows, of one KV head (or folded_heads()) and sequence.
std::uint64_t row_tiles(const AttentionShape& shape, std::uint32_t rows);
// Whether the work is reading the cache, whose keys are split, rather than arithmetic on tiles of rows.
bool has_few_rows(const AttentionShape& shape);
// `rows`: folded rows of a tile.
shader::AttentionParams attention_params(const AttentionShape& shape, std::uint32_t rows,
                                         std::uint32_t splits);
std::vector<std::uint32_t> words_of(const shader::AttentionParams& params);
// Bit i: rows of binding i are vectors of four elements (kAttentionSpecWide).
std::uint32_t attention_wide(const AttentionShape& shape);
// The shared specialization constants, kAttentionSharedSpecs of them.
std::vector<std::uint32_t> attention_specs(const AttentionShape& shape, std::uint32_t group);
// Dispatch::operands of a kernel that reads q, k and v and writes y.
std::vector<OperandIndex> attention_operands(const AttentionShape& shape);
// The tile forms on matrix units; an error says why this shape or device does not get one.
Result<Dispatch> choose_attention_coopmat(const AttentionShape& shape, const Target& target);
Result<Dispatch> choose_attention_coopmat2(const AttentionShape& shape, const Target& target);
// Gives dispatches that compute scores the module with the user's functions, and their buffers bindings that
// the shape leaves free. invalid_argument says what is wrong with the functions, and in which line.
Result<void> add_user_functions(const AttentionShape& shape, const Limits& limits, AttentionChoice& choice);
// Which tiles of `of` the user's mask leaves; operands and module are still the catalogue's. nullopt where
// `of` has no tiles, or too many. Words are made once of all `heads` or sequences (`batches`) if they do not
// differ.
std::optional<Dispatch> choose_mask_tiles(const AttentionShape& shape, const Dispatch& of, bool batches,
                                          bool heads, const Limits& limits);
// Arithmetic and compulsory traffic of what causality and the window leave (visible_keys). Lengths, documents
// and dense masks could only lower them: they are known on the device alone.
void count_attention(const AttentionShape& shape, Dispatch& dispatch);

}  // namespace tessera
