#include "session/attention_maps.h"

#include <algorithm>
#include <numeric>

#include "session/walker_io.h"

namespace tessera {
namespace {

constexpr std::uint64_t kMostMapBytes = std::uint64_t{1} << 30;
// Of the outputs of one pass: far below what a binding may be anywhere.
constexpr std::uint64_t kMostPassBytes = std::uint64_t{1} << 26;
constexpr std::uint32_t kMostChunk = 64;

// All maps of a range, filled in by passes.
class Maps {
 public:
  Maps(const AttentionProgram& attention, std::size_t rows, std::size_t keys)
      : attention_(attention), rows_(rows), keys_(keys) {
    weights_.resize(std::size_t{attention.range.layers} * attention.range.heads * rows * keys);
  }

  // Rows [first, first + count), which the latest pass left in outputs of `pass_rows` rows.
  Result<void> read(Walker& walker, std::size_t first, std::size_t count, std::size_t pass_rows) {
    const AttentionRange& r = attention_.range;
    std::vector<float> pass(r.heads * pass_rows * keys_);
    for (std::size_t layer = 0; layer < r.layers; ++layer) {
      TSR_CHECK(walker.read(attention_.weights[layer], 0, std::as_writable_bytes(std::span(pass))));
      for (std::size_t head = 0; head < r.heads; ++head)
        std::copy_n(&pass[head * pass_rows * keys_], count * keys_,
                    &weights_[((layer * r.heads + head) * rows_ + first) * keys_]);
    }
    return {};
  }

  void hand_out(const AttentionSink& sink) const {
    const AttentionRange& r = attention_.range;
    const std::size_t size = rows_ * keys_;
    for (std::uint32_t i = 0; i < r.layers * r.heads; ++i)
      sink({r.layer + i / r.heads, r.head + i % r.heads, static_cast<std::uint32_t>(rows_),
            static_cast<std::uint32_t>(keys_), std::span(weights_).subspan(i * size, size)});
  }

 private:
  const AttentionProgram& attention_;
  std::size_t rows_, keys_;
  std::vector<float> weights_;  // (layers, heads, rows, keys)
};

Result<void> check_size(const AttentionRange& range, std::uint64_t rows, std::uint64_t keys) {
  const std::uint64_t most = kMostMapBytes / 4 / (std::uint64_t{range.layers} * range.heads);
  if (rows <= most / keys) return {};
  return Error{Code::invalid_argument,
               "weights of " + std::to_string(range.layers) + " layers, " + std::to_string(range.heads) +
                   " heads, " + std::to_string(rows) + " rows and " + std::to_string(keys) +
                   " keys take more than 1 GiB: ask for fewer layers or heads, or a shorter text"};
}

// The graph alone, or it and the first one, to the last attention that is wanted.
AttentionProgram outputs_of(const Program& from, const AttentionRange& range, std::uint32_t graph,
                            std::span<const std::uint32_t> ops) {
  auto program = std::make_shared<Program>(from);
  program->graphs.resize(graph + 1);
  std::vector<AttentionOutput> wanted;
  for (std::uint32_t layer = range.layer; layer < range.layer + range.layers; ++layer)
    wanted.push_back({ops[layer], range.head, range.heads});
  AttentionProgram out{nullptr, range, keep_attention_weights(*program, graph, wanted)};
  out.program = std::move(program);
  return out;
}

Result<void> go_on(const Progress& progress, std::size_t done, std::size_t total) {
  if (report(progress, "attention", done, total)) return {};
  return Error{Code::cancelled, "cancelled before the attention weights were there"};
}

Result<std::uint32_t> counted(const char* what, std::uint32_t first, std::uint32_t count, std::uint32_t all) {
  if (first >= all)
    return Error{Code::invalid_argument, std::string(what) + " " + std::to_string(first) +
                                             ": the model has " + std::to_string(all) + ", counted from 0"};
  if (count > all - first)
    return Error{Code::invalid_argument, std::to_string(count) + " " + what + "s from " +
                                             std::to_string(first) + " on: the model has " +
                                             std::to_string(all)};
  return count == 0 ? all - first : count;
}

}  // namespace

Result<AttentionRange> AttentionRange::within(std::uint32_t all_layers, std::uint32_t all_heads) const {
  AttentionRange out = *this;
  TSR_TRY(out.layers, counted("layer", layer, layers, all_layers));
  TSR_TRY(out.heads, counted("head", head, heads, all_heads));
  return out;
}

std::uint32_t attention_chunk(const AttentionRange& range, std::size_t tokens) {
  const std::uint64_t row = std::uint64_t{4} * range.layers * range.heads * tokens;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(kMostPassBytes / row, 1, kMostChunk));
}

Result<AttentionProgram> attention_program(const DecoderProgram& decoder, const AttentionRange& range) {
  TSR_TRY(const AttentionRange r, range.within(decoder.config.layers, decoder.config.heads));
  TSR_CHECK(check_size(r, decoder.context, decoder.context));
  return outputs_of(*decoder.program, r, decoder.prefill, attention_ops(*decoder.program, decoder.prefill));
}

Result<void> run_attention(const AttentionProgram& attention, const DecoderProgram& decoder, Walker& walker,
                           std::span<const TokenId> ids, const Progress& progress,
                           const AttentionSink& sink) {
  Maps maps(attention, ids.size(), decoder.context);
  TSR_CHECK(write_items(walker, decoder.tokens, ids));
  for (std::size_t at = 0; at < ids.size(); at += decoder.chunk) {
    TSR_CHECK(go_on(progress, at, ids.size()));
    const std::size_t rows = std::min<std::size_t>(decoder.chunk, ids.size() - at);
    TSR_CHECK(
        write_state(walker, decoder.state,
                    {.position = static_cast<std::uint32_t>(at), .rows = static_cast<std::uint32_t>(rows)}));
    TSR_CHECK(walker.run(decoder.prefill));
    TSR_CHECK(maps.read(walker, at, rows, decoder.chunk));
  }
  maps.hand_out(sink);
  return {};
}

Result<AttentionProgram> attention_program(const TransformerProgram& transformer, AttentionKind kind,
                                           const AttentionRange& range) {
  const bool encoder = kind == AttentionKind::encoder;
  const TransformerConfig& config = transformer.config;
  TSR_TRY(const AttentionRange r,
          range.within(encoder ? config.encoder_layers : config.decoder_layers, config.heads));
  TSR_CHECK(check_size(r, encoder ? transformer.max_source : transformer.max_target,
                       kind == AttentionKind::decoder ? transformer.max_target : transformer.max_source));
  const std::uint32_t graph = encoder ? transformer.encode : transformer.decode;
  std::vector<std::uint32_t> ops = attention_ops(*transformer.program, graph);
  // A decoder's layer has self-attention, then cross-attention.
  if (!encoder)
    for (std::uint32_t layer = 0; layer < config.decoder_layers; ++layer)
      ops[layer] = ops[2 * layer + (kind == AttentionKind::cross ? 1 : 0)];
  return outputs_of(*transformer.program, r, graph, ops);
}

Result<void> run_attention(const AttentionProgram& attention, const TransformerProgram& transformer,
                           AttentionKind kind, Walker& walker, std::span<const TokenId> source,
                           std::span<const TokenId> target, const Progress& progress,
                           const AttentionSink& sink) {
  const auto rows = static_cast<std::uint32_t>(source.size());
  TSR_CHECK(go_on(progress, 0, target.size()));
  TSR_CHECK(write_items(walker, transformer.source, source));
  TSR_CHECK(write_state(walker, transformer.state, {.position = 0, .rows = rows}));
  TSR_CHECK(walker.run(transformer.encode));
  if (kind == AttentionKind::encoder) {
    Maps maps(attention, source.size(), source.size());
    TSR_CHECK(maps.read(walker, 0, source.size(), source.size()));
    maps.hand_out(sink);
    return {};
  }
  Maps maps(attention, target.size(), kind == AttentionKind::cross ? source.size() : target.size());
  std::vector<std::uint32_t> table(target.size());
  std::iota(table.begin(), table.end(), 0u);  // position j is in block j
  TSR_CHECK(write_items<std::uint32_t>(walker, transformer.table, table));
  if (attention.program->uses(transformer.lengths))  // by cross-attention, which may be cut off
    TSR_CHECK(write_items<std::uint32_t>(walker, transformer.lengths, {{rows}}));
  for (std::uint32_t at = 0; at < target.size(); ++at) {
    TSR_CHECK(go_on(progress, at, target.size()));
    TSR_CHECK(write_items(walker, transformer.target, target.subspan(at, 1)));
    TSR_CHECK(write_state(walker, transformer.state, {.position = at, .rows = 1}));
    TSR_CHECK(walker.run(transformer.decode));
    TSR_CHECK(maps.read(walker, at, 1, 1));
  }
  maps.hand_out(sink);
  return {};
}

}  // namespace tessera
