// Attention weights of a text: the program of a model, built for that text alone, with outputs for them.
#include "session/attention_maps.h"

#include "api/handles.h"
#include "tessera/tessera_tools.h"

using namespace tessera;
using namespace tessera::api;

namespace {

// Tokens as the C callback takes them.
struct Tokens {
  std::vector<TokenId> ids;
  std::vector<std::string> texts;
  std::vector<const char*> pointers;

  template <typename Text>
  Tokens(std::vector<TokenId> from, const Text& text) : ids(std::move(from)) {
    for (const TokenId id : ids) texts.emplace_back(text(id));
    for (const std::string& t : texts) pointers.push_back(t.c_str());
  }
};

AttentionSink sink_of(const tessera_attention_desc& desc, const Tokens& rows, const Tokens& keys) {
  return [&](const AttentionMap& map) {
    if (desc.map == nullptr) return;
    tessera_attention_map out{};
    out.size = sizeof(out);
    out.layer = map.layer;
    out.head = map.head;
    out.rows = map.rows;
    out.keys = map.keys;
    out.weights = map.weights.data();
    out.row_ids = rows.ids.data();
    out.row_texts = rows.pointers.data();
    out.key_ids = keys.ids.data();
    out.key_texts = keys.pointers.data();
    desc.map(desc.user, &out);
  };
}

AttentionRange range_of(const tessera_attention_desc& d) { return {d.layer, d.layers, d.head, d.heads}; }

Result<void> of_model(const tessera_model& model, std::span<const TokenId> ids,
                      const tessera_attention_desc& d) {
  if (d.kind != TESSERA_ATTENTION_DECODER || d.target != nullptr)
    return Error{Code::invalid_argument,
                 "a decoder-only model has the attention of its decoder, and no target"};
  if (!model.config.ok()) return model.config.error();
  if (ids.empty()) return Error{Code::invalid_argument, "there are no tokens to attend to"};
  for (const TokenId id : ids)
    if (id >= model.config->vocab)
      return Error{Code::invalid_argument, "token id " + std::to_string(id) +
                                               " is outside the vocabulary of " +
                                               std::to_string(model.config->vocab)};
  TSR_TRY(const AttentionRange range, range_of(d).within(model.config->layers, model.config->heads));
  TSR_TRY(DecoderOptions options,
          make_options(static_cast<uint32_t>(std::min<std::size_t>(ids.size(), ~0u)),
                       attention_chunk(range, ids.size()), TESSERA_KV_DEFAULT, d.precision));
  TSR_TRY(const DecoderProgram decoder, build_decoder(model.file, options));
  TSR_TRY(const AttentionProgram attention, attention_program(decoder, range));
  const Progress progress = make_progress(d.progress, d.progress_user);
  TSR_TRY(const auto walker, make_walker(*model.context, attention.program, progress));
  const Tokens tokens({ids.begin(), ids.end()}, [&](TokenId id) {
    return model.tokenizer.ok() ? (*model.tokenizer)->piece(id, true) : std::string();
  });
  return run_attention(attention, decoder, *walker, ids, progress, sink_of(d, tokens, tokens));
}

// What the decoder reads, BOS first, and what it chooses from each of these.
struct Target {
  std::vector<TokenId> read, chosen;
};

Result<Target> target_of(tessera_translator& translator, std::span<const TokenId> source,
                         const tessera_attention_desc& d) {
  const TransformerConfig& config = translator.session->transformer().config;
  Hypothesis best;
  best.finished = true;
  if (d.target != nullptr) {
    TSR_TRY(best.ids, translator.target.encode_exactly(d.target));
  } else {
    const TranslateOptions options{.beams = translator.session->transformer().beams};
    TSR_TRY(std::vector<Hypothesis> found, translator.session->translate(source, options));
    best = std::move(found[0]);
  }
  Target out{{config.bos}, best.ids};
  out.read.insert(out.read.end(), best.ids.begin(), best.ids.end());
  if (best.finished)
    out.chosen.push_back(config.eos);
  else
    out.read.pop_back();
  return out;
}

Result<void> of_translator(tessera_translator& translator, std::string_view text,
                           const tessera_attention_desc& d) {
  const TransformerProgram& own = translator.session->transformer();
  TSR_TRY(const Precision precision, make_precision(d.precision));
  if (precision != Precision::f32)
    return Error{Code::invalid_argument, "a translator's attention has the translator's precision"};
  if (d.kind < TESSERA_ATTENTION_DECODER || d.kind > TESSERA_ATTENTION_CROSS)
    return Error{Code::invalid_argument,
                 "kind " + std::to_string(static_cast<int>(d.kind)) + " is not a tessera_attention_kind"};
  const auto kind = static_cast<AttentionKind>(d.kind);
  TSR_TRY(const std::vector<TokenId> source, translator.source.encode(text));
  if (source.empty()) return Error{Code::invalid_argument, "the source has no tokens"};
  Target target{{own.config.bos}, {}};
  if (kind != AttentionKind::encoder) {
    TSR_TRY(target, target_of(translator, source, d));
  }
  TransformerOptions options;
  options.max_source = static_cast<uint32_t>(std::min<std::size_t>(source.size(), ~0u));
  options.max_target = static_cast<uint32_t>(std::min<std::size_t>(target.read.size(), ~0u));
  options.precision = translator.precision;
  TSR_TRY(const TransformerProgram transformer, build_transformer(translator.file, own.config, options));
  TSR_TRY(const AttentionProgram attention, attention_program(transformer, kind, range_of(d)));
  const Progress progress = make_progress(d.progress, d.progress_user);
  TSR_TRY(const auto walker, make_walker(*translator.context, attention.program, progress));
  const auto text_of = [](const TokenList& list) { return [&](TokenId id) { return list.token(id); }; };
  const Tokens sources(source, text_of(translator.source)), read(target.read, text_of(translator.target)),
      chosen(target.chosen, text_of(translator.target));
  const bool encoder = kind == AttentionKind::encoder, cross = kind == AttentionKind::cross;
  return run_attention(attention, transformer, kind, *walker, source, target.read, progress,
                       sink_of(d,
                               encoder ? sources
                               : cross ? chosen
                                       : read,
                               kind == AttentionKind::decoder ? read : sources));
}

}  // namespace

static_assert(static_cast<int>(AttentionKind::decoder) == TESSERA_ATTENTION_DECODER &&
              static_cast<int>(AttentionKind::encoder) == TESSERA_ATTENTION_ENCODER &&
              static_cast<int>(AttentionKind::cross) == TESSERA_ATTENTION_CROSS);

extern "C" {

tessera_status tessera_model_attention(tessera_model* model, const uint32_t* ids, size_t count,
                                       const tessera_attention_desc* desc, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(model, "model"));
    if (count != 0) TSR_CHECK(require(ids, "ids"));
    TSR_TRY(const tessera_attention_desc d, sized(desc, "tessera_attention_desc"));
    return of_model(*model, {ids, count}, d);
  });
}

tessera_status tessera_translator_attention(tessera_translator* translator, const char* text, size_t bytes,
                                            const tessera_attention_desc* desc, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(translator, "translator"));
    if (bytes != 0) TSR_CHECK(require(text, "text"));
    TSR_TRY(const tessera_attention_desc d, sized(desc, "tessera_attention_desc"));
    return of_translator(*translator, {text, bytes}, d);
  });
}

}  // extern "C"
