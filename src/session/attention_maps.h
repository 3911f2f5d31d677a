// The attention weights of one text, head by head, over any Walker.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/log.h"
#include "base/vocab.h"
#include "graph/attention_outputs.h"
#include "graph/walker.h"
#include "models/decoder.h"
#include "models/transformer.h"

namespace tessera {

// Self-attention of a decoder or an encoder, or a decoder's over the encoder's output.
enum class AttentionKind : std::uint8_t { decoder, encoder, cross };

// Which layers and heads, counted from 0.
struct AttentionRange {
  std::uint32_t layer = 0, layers = 0;  // layers 0: all from `layer` on
  std::uint32_t head = 0, heads = 0;    // likewise
  // Counts resolved; invalid_argument where the model has fewer of them.
  Result<AttentionRange> within(std::uint32_t all_layers, std::uint32_t all_heads) const;
};

struct AttentionMap {
  std::uint32_t layer = 0, head = 0, rows = 0, keys = 0;
  std::span<const float> weights;  // (rows, keys): softmax over the keys; 0 where a row does not see one
};
using AttentionSink = std::function<void(const AttentionMap& map)>;  // layers in order, of each its heads

// A program whose one pass after another leaves weights of some rows in outputs.
struct AttentionProgram {
  std::shared_ptr<const Program> program;  // unfused; for a walker of its own
  AttentionRange range;                    // resolved
  std::vector<ValueId> weights;            // one a layer of the range
};

// The most rows of a pass over `tokens` that leaves all maps of a resolved range in outputs: at least 1.
std::uint32_t attention_chunk(const AttentionRange& range, std::size_t tokens);

// `decoder` is built for a context of as many tokens as will be run. Errors: those of AttentionRange, and
// invalid_argument where the maps are more than 1 GiB.
Result<AttentionProgram> attention_program(const DecoderProgram& decoder, const AttentionRange& range);
// Runs ids, as many as the context.
Result<void> run_attention(const AttentionProgram& attention, const DecoderProgram& decoder, Walker& walker,
                           std::span<const TokenId> ids, const Progress& progress, const AttentionSink& sink);

// `transformer` is built for one beam, and for as many tokens of either side as will be run.
Result<AttentionProgram> attention_program(const TransformerProgram& transformer, AttentionKind kind,
                                           const AttentionRange& range);
// Runs source and target, which is what the decoder reads, BOS first. Rows: encoder, the source's tokens;
// others, the target's.
Result<void> run_attention(const AttentionProgram& attention, const TransformerProgram& transformer,
                           AttentionKind kind, Walker& walker, std::span<const TokenId> source,
                           std::span<const TokenId> target, const Progress& progress,
                           const AttentionSink& sink);

}  // namespace tessera
