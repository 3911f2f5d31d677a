#include <algorithm>

#include "api/handles.h"
#include "formats/model_folder.h"
#include "graph/fuse.h"
#include "verify/verify.h"

using namespace tessera;
using namespace tessera::api;

namespace {

constexpr std::uint64_t kMaxVocabularyBytes = std::uint64_t{1} << 28;
constexpr std::uint32_t kDefaultTokens = 256;

Result<ModelFolder> open_folder(const tessera_translator_desc& desc) {
  if ((desc.path != nullptr) == (desc.files != nullptr))
    return Error{Code::invalid_argument, "a translator comes from either path or files"};
  if (desc.path != nullptr) return ModelFolder::open(desc.path);
  std::map<std::string, std::shared_ptr<ByteSource>> files;
  for (uint32_t i = 0; i < desc.file_count; ++i) {
    TSR_TRY(const tessera_file file, sized(&desc.files[i], "tessera_file"));
    TSR_CHECK(require(file.name, "a file's name"));
    TSR_CHECK(require(file.memory, "a file's memory"));
    files[file.name] =
        ByteSource::from_memory({static_cast<const std::byte*>(file.memory), file.memory_bytes});
  }
  return ModelFolder::from_files(std::move(files));
}

Result<TokenList> open_vocabulary(const ModelFolder& folder, const std::string& name) {
  TSR_TRY(const auto file, folder.file(name));
  TSR_TRY(const std::string text, read_all(*file, kMaxVocabularyBytes));
  return TokenList::parse(text, name);
}

struct Loaded {
  TokenList source, target;
  std::shared_ptr<const ModelFile> file;
  TransformerProgram transformer;
  Precision precision{};
};

Result<Loaded> load(const tessera_translator_desc& desc) {
  Loaded loaded;
  TSR_TRY(const ModelFolder folder, open_folder(desc));
  TSR_TRY(const auto config_file, folder.file("config.json"));
  TSR_TRY(const TransformerConfig config, read_transformer_config(*config_file));
  TSR_TRY(loaded.source, open_vocabulary(folder, config.source_vocabulary));
  TSR_TRY(loaded.target, open_vocabulary(folder, config.target_vocabulary));
  TSR_TRY(auto weights, folder.only(".safetensors"));
  TSR_TRY(ModelFile file, ModelFile::open(std::move(weights)));
  TransformerOptions options;
  options.beams = desc.beams ? desc.beams : 1;
  options.max_source = desc.max_source ? desc.max_source : kDefaultTokens;
  options.max_target = desc.max_target ? desc.max_target : kDefaultTokens;
  TSR_TRY(options.precision, make_precision(desc.precision));
  loaded.precision = options.precision;
  loaded.file = std::make_shared<const ModelFile>(std::move(file));
  TSR_TRY(loaded.transformer, build_transformer(loaded.file, config, options));
  TSR_CHECK(loaded.source.fit(loaded.transformer.source_vocab));
  TSR_CHECK(loaded.target.fit(loaded.transformer.target_vocab));
  return loaded;
}

void hand_out(const std::vector<Hypothesis>& hypotheses, const TokenList& target,
              const tessera_translate_desc& desc) {
  for (const Hypothesis& h : hypotheses) {
    const std::string text = target.decode(h.ids);
    tessera_hypothesis out{};
    out.size = sizeof(out);
    out.text = text.c_str();
    out.ids = h.ids.data();
    out.id_count = h.ids.size();
    out.score = h.score;
    out.finished = h.finished;
    desc.hypothesis(desc.user, &out);
  }
}

template <typename T>
ScriptPass::Write write_of(ValueId value, std::span<const T> items) {
  const auto bytes = std::as_bytes(items);
  return {value, {bytes.begin(), bytes.end()}};
}

// One text, then decode steps whose beams take over each other's past.
std::vector<ScriptPass> make_script(const TransformerProgram& t, std::span<const TokenId> source) {
  constexpr std::uint32_t kSteps = 5;
  std::vector<ScriptPass> script;
  const auto rows = static_cast<std::uint32_t>(source.size());
  const StepState all{.position = 0, .rows = rows};
  const std::vector<std::uint32_t> lengths(t.beams, rows);
  script.push_back({{write_of(t.source, source), write_of<StepState>(t.state, {{all}}),
                     write_of<std::uint32_t>(t.lengths, lengths)},
                    t.encode,
                    {}});
  std::vector<std::uint32_t> table(std::size_t{t.beams} * t.max_target, 0);
  for (std::uint32_t step = 0; step < std::min(kSteps, t.max_target); ++step) {
    const std::vector<std::uint32_t> before = table;
    std::vector<TokenId> tokens(t.beams);
    for (std::uint32_t b = 0; b < t.beams; ++b) {
      const std::size_t to = std::size_t{b} * t.max_target;
      const std::size_t from = std::size_t{(2 * b + step) % t.beams} * t.max_target;
      std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(from), step,
                  table.begin() + static_cast<std::ptrdiff_t>(to));
      table[to + step] = step * t.beams + b;
      tokens[b] = step == 0 ? t.config.bos : (7 * b + 3 * step) % t.target_vocab;
    }
    const StepState one{.position = step, .rows = 1};
    script.push_back({{write_of<TokenId>(t.target, tokens), write_of<std::uint32_t>(t.table, table),
                       write_of<StepState>(t.state, {{one}})},
                      t.decode,
                      {t.logits}});
  }
  return script;
}

Result<std::vector<TokenId>> verify_ids(const tessera_verify_desc& desc, const TransformerProgram& t) {
  constexpr std::uint32_t kTokens = 37;
  std::vector<TokenId> ids;
  if (desc.ids != nullptr)
    ids.assign(desc.ids, desc.ids + desc.id_count);
  else
    for (std::uint32_t i = 0; i < std::min(kTokens, t.max_source); ++i)
      ids.push_back(static_cast<TokenId>(std::uint64_t{i} * 2654435761u % t.source_vocab));
  if (ids.empty() || ids.size() > t.max_source)
    return Error{Code::invalid_argument, "verification needs 1 to " + std::to_string(t.max_source) +
                                             " tokens, not " + std::to_string(ids.size())};
  for (const TokenId id : ids)
    if (id >= t.source_vocab)
      return Error{Code::invalid_argument, "token id " + std::to_string(id) +
                                               " is outside the vocabulary of " +
                                               std::to_string(t.source_vocab)};
  return ids;
}

}  // namespace

extern "C" {

tessera_status tessera_translator_create(tessera_context* context, const tessera_translator_desc* desc,
                                         tessera_translator** translator, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_CHECK(require(translator, "translator"));
    TSR_TRY(const tessera_translator_desc d, sized(desc, "tessera_translator_desc"));
    TSR_TRY(Loaded loaded, load(d));
    const Progress progress = make_progress(d.progress, d.progress_user);
    TSR_TRY(auto walker, make_walker(*context, loaded.transformer.program, progress));
    auto made = std::make_unique<tessera_translator>();
    made->context = context;
    made->source = std::move(loaded.source);
    made->target = std::move(loaded.target);
    made->file = std::move(loaded.file);
    made->precision = loaded.precision;
    made->session =
        std::make_unique<Seq2SeqSession>(std::move(walker), std::move(loaded.transformer), progress);
    *translator = made.release();
    return {};
  });
}

void tessera_translator_destroy(tessera_translator* translator) { delete translator; }

tessera_status tessera_translate(tessera_translator* translator, const char* text, size_t bytes,
                                 const tessera_translate_desc* desc, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(translator, "translator"));
    TSR_TRY(const tessera_translate_desc d, sized(desc, "tessera_translate_desc"));
    if (bytes != 0) TSR_CHECK(require(text, "text"));
    TSR_TRY(const std::vector<TokenId> source, translator->source.encode({text, bytes}));
    TSR_TRY(const std::vector<TokenId> prefix,
            translator->target.encode_exactly(d.prefix == nullptr ? "" : d.prefix));
    TranslateOptions options;
    options.beams = d.beams ? d.beams : translator->session->transformer().beams;
    options.max_tokens = d.max_tokens;
    options.prefix = prefix;
    TSR_TRY(const std::vector<Hypothesis> found, translator->session->translate(source, options));
    if (d.source != nullptr) d.source(d.user, source.data(), source.size());
    if (d.hypothesis != nullptr) hand_out(found, translator->target, d);
    return {};
  });
}

tessera_status tessera_translator_verify(tessera_translator* translator, const tessera_verify_desc* desc,
                                         tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(translator, "translator"));
    TSR_TRY(const tessera_verify_desc d, sized(desc, "tessera_verify_desc"));
    if (d.context != 0 || d.chunk != 0 || d.kv_type != 0 || d.precision != 0)
      return Error{
          Code::invalid_argument,
          "an encoder-decoder's verification takes no context, chunk, kv_type or precision (it has the "
          "translator's)"};
    const TransformerProgram& t = translator->session->transformer();
    TSR_TRY(const std::vector<TokenId> ids, verify_ids(d, t));
    return run_verify(*translator->context, t.program, make_script(t, ids), d);
  });
}

}  // extern "C"
