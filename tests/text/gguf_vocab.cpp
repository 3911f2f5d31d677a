#include "gguf_vocab.h"

#include "formats/model_file.h"

namespace tessera::test {

Result<VocabSpec> read_gguf_vocab(const std::string& path) {
  TSR_TRY(const auto source, ByteSource::open(path));
  TSR_TRY(const ModelFile file, ModelFile::open(source));
  const std::string ggml = "tokenizer.ggml.";
  TSR_TRY(const std::string model, file.get_string(ggml + "model"));
  TSR_TRY(const std::string pre, file.get_string(ggml + "pre", ""));
  VocabSpec spec = VocabSpec::with_defaults(model, pre);

  TSR_TRY(const auto* tokens, file.get_strings(ggml + "tokens"));
  if (tokens) spec.tokens = *tokens;
  TSR_TRY(const auto* merges, file.get_strings(ggml + "merges"));
  if (merges) spec.merges = *merges;
  TSR_TRY(const auto* scores, file.get_floats(ggml + "scores"));
  if (scores) spec.scores.assign(scores->begin(), scores->end());
  TSR_TRY(const auto types, file.get_uints(ggml + "token_type"));
  spec.types.assign(types.begin(), types.end());

  const auto read_id = [&](const char* key, std::int64_t& id) -> Result<void> {
    TSR_TRY(const std::uint64_t value, file.get_uint(ggml + key, static_cast<std::uint64_t>(id)));
    id = static_cast<std::int64_t>(value);
    return {};
  };
  TSR_CHECK(read_id("bos_token_id", spec.bos));
  TSR_CHECK(read_id("eos_token_id", spec.eos));
  TSR_CHECK(read_id("unknown_token_id", spec.unk));
  TSR_CHECK(read_id("seperator_token_id", spec.sep));  // as GGUF spells it
  TSR_CHECK(read_id("cls_token_id", spec.cls));
  TSR_CHECK(read_id("padding_token_id", spec.pad));
  TSR_TRY(spec.add_bos, file.get_bool(ggml + "add_bos_token", spec.add_bos));
  TSR_TRY(spec.add_eos, file.get_bool(ggml + "add_eos_token", spec.add_eos));
  return spec;
}

}  // namespace tessera::test
