#include <algorithm>

#include "api/handles.h"

using namespace tessera;
using namespace tessera::api;

namespace {

Result<std::shared_ptr<ByteSource>> open_source(const tessera_model_desc& desc) {
  const int given = (desc.path != nullptr) + (desc.memory != nullptr) + (desc.read != nullptr);
  if (given != 1)
    return Error{Code::invalid_argument, "a model comes from exactly one of path, memory and read; " +
                                             std::to_string(given) + " were given"};
  if (desc.path != nullptr) return ByteSource::open(desc.path);
  if (desc.memory != nullptr)
    return ByteSource::from_memory({static_cast<const std::byte*>(desc.memory), desc.memory_bytes});
  return ByteSource::from_reader(desc.read_bytes, [read = desc.read, user = desc.read_user](
                                                      std::uint64_t offset, std::span<std::byte> out) {
    return read(user, offset, out.data(), out.size()) == 0;
  });
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const ModelFile& file) {
  TSR_TRY(VocabSpec spec, read_vocab(file));
  return Tokenizer::create(std::move(spec));
}

Result<const Tokenizer*> tokenizer_of(const tessera_model* model) {
  TSR_CHECK(require(model, "model"));
  if (!model->tokenizer.ok()) return model->tokenizer.error();
  return static_cast<const Tokenizer*>(model->tokenizer->get());
}

}  // namespace

extern "C" {

tessera_status tessera_model_load(tessera_context* context, const tessera_model_desc* desc,
                                  tessera_model** model, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(context, "context"));
    TSR_CHECK(require(model, "model"));
    TSR_TRY(const tessera_model_desc d, sized(desc, "tessera_model_desc"));
    TSR_TRY(auto source, open_source(d));
    TSR_TRY(ModelFile parsed, ModelFile::open(std::move(source)));
    auto file = std::make_shared<const ModelFile>(std::move(parsed));
    if (file->kind() != FileKind::gguf)
      return Error{Code::unsupported,
                   file->source().name() + ": models run from GGUF files; this is safetensors"};
    TSR_TRY(std::string architecture, file->get_string("general.architecture"));
    *model = new tessera_model{context, file, open_tokenizer(*file), read_decoder_config(*file),
                               std::move(architecture)};
    return {};
  });
}

void tessera_model_destroy(tessera_model* model) { delete model; }

tessera_status tessera_model_get_info(const tessera_model* model, tessera_model_info* info,
                                      tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(model, "model"));
    tessera_model_info out{};
    out.architecture = model->architecture.c_str();
    if (model->config.ok()) {
      const DecoderConfig& config = *model->config;
      out.vocab = config.vocab;
      out.context = config.context;
      out.layers = config.layers;
      out.dim = config.dim;
    } else if (model->tokenizer.ok()) {
      out.vocab = (*model->tokenizer)->size();
    }
    for (const TensorInfo& tensor : model->file->tensors()) out.parameters += tensor.elems();
    return sized_out(out, info, "tessera_model_info");
  });
}

tessera_status tessera_tokenize(const tessera_model* model, const char* text, size_t bytes, int special,
                                int parse_special, uint32_t* ids, size_t capacity, size_t* count,
                                tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const Tokenizer* tokenizer, tokenizer_of(model));
    TSR_CHECK(require(count, "count"));
    if (bytes != 0) TSR_CHECK(require(text, "text"));
    if (capacity != 0) TSR_CHECK(require(ids, "ids"));
    TSR_TRY(std::vector<TokenId> out,
            tokenizer->encode(std::string_view(text, bytes), special != 0, parse_special != 0));
    const std::int64_t bos = tokenizer->spec().bos;
    if (bytes == 0 && special != 0 && out.empty() && bos >= 0) out.push_back(static_cast<TokenId>(bos));
    *count = out.size();
    std::copy_n(out.begin(), std::min(capacity, out.size()), ids);
    return {};
  });
}

tessera_status tessera_detokenize(const tessera_model* model, const uint32_t* ids, size_t count,
                                  tessera_bytes_fn sink, void* user, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_TRY(const Tokenizer* tokenizer, tokenizer_of(model));
    if (count != 0) TSR_CHECK(require(ids, "ids"));
    Detokenizer detokenizer(*tokenizer);
    std::string text;
    for (size_t i = 0; i < count; ++i) {
      if (ids[i] >= tokenizer->size())
        return Error{Code::invalid_argument, "token id " + std::to_string(ids[i]) +
                                                 " is outside the vocabulary of " +
                                                 std::to_string(tokenizer->size())};
      text += detokenizer.push(ids[i]);
    }
    text += detokenizer.finish();
    if (sink != nullptr) sink(user, text.data(), text.size());
    return {};
  });
}

}  // extern "C"
