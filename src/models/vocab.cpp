#include <array>
#include <cmath>
#include <limits>

#include "models/decoder.h"

namespace tessera {
namespace {

const std::string kPrefix = "tokenizer.ggml.";

Error bad(const std::string& key, const std::string& what) {
  return Error{Code::bad_model, kPrefix + key + " " + what};
}

const MetaValue* find(const ModelFile& file, const std::string& key) {
  auto at = file.metadata().find(kPrefix + key);
  return at == file.metadata().end() ? nullptr : &at->second;
}

// An array of integers of either sign; empty when absent.
Result<std::vector<std::int64_t>> integers(const ModelFile& file, const std::string& key) {
  const MetaValue* meta = find(file, key);
  if (!meta) return std::vector<std::int64_t>{};
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&meta->value)) return *list;
  if (const auto* list = std::get_if<std::vector<std::uint64_t>>(&meta->value))
    return std::vector<std::int64_t>(list->begin(), list->end());
  return bad(key, "is not an array of integers");
}

Result<std::vector<float>> scores(const ModelFile& file, std::size_t tokens) {
  const MetaValue* meta = find(file, "scores");
  if (!meta) return std::vector<float>{};
  const auto* list = std::get_if<std::vector<double>>(&meta->value);
  if (!list) return bad("scores", "is not an array of numbers");
  if (list->size() != tokens)
    return bad("scores",
               "has " + std::to_string(list->size()) + " entries for " + std::to_string(tokens) + " tokens");
  std::vector<float> out;
  for (double x : *list) {
    if (!std::isfinite(x)) return bad("scores", "holds a value that is not finite");
    out.push_back(static_cast<float>(x));
  }
  return out;
}

Result<std::vector<std::uint32_t>> types(const ModelFile& file, std::size_t tokens) {
  TSR_TRY(const std::vector<std::int64_t> list, integers(file, "token_type"));
  if (!list.empty() && list.size() != tokens)
    return bad("token_type",
               "has " + std::to_string(list.size()) + " entries for " + std::to_string(tokens) + " tokens");
  std::vector<std::uint32_t> out;
  for (std::int64_t type : list) {
    if (type < 0 || type > 6) return bad("token_type", "holds " + std::to_string(type) + ", must be 0 to 6");
    out.push_back(static_cast<std::uint32_t>(type));
  }
  return out;
}

// A token's id; `fallback` when absent, -1 for the marker 2^32-1.
Result<std::int64_t> token_id(const ModelFile& file, const std::string& key, std::int64_t fallback,
                              std::size_t tokens) {
  if (!find(file, key)) return fallback < static_cast<std::int64_t>(tokens) ? fallback : std::int64_t{-1};
  TSR_TRY(const std::uint64_t id, file.get_uint(kPrefix + key));
  if (id == std::numeric_limits<std::uint32_t>::max()) return std::int64_t{-1};
  if (id >= tokens)
    return bad(key, "is " + std::to_string(id) + ", but there are " + std::to_string(tokens) + " tokens");
  return static_cast<std::int64_t>(id);
}

// What a file means when it leaves a key out.
struct Defaults {
  std::int64_t bos = -1, eos = -1, unk = -1, sep = -1, cls = -1, pad = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = false;
};

Defaults defaults(const VocabSpec& spec) {
  Defaults d;
  if (spec.model == "llama") {
    d = {1, 2, 0, -1, -1, -1, true, false, true};
  } else if (spec.model == "t5") {
    d = {-1, 1, 2, -1, -1, 0, false, true, true};
  } else if (spec.model == "bert") {
    d = {-1, -1, 100, 102, 101, 0, true, true, false};
  } else {
    d.add_bos = spec.pre == "llama-bpe" || spec.pre == "llama3" || spec.pre == "llama-v3";
  }
  return d;
}

Result<void> read_ids(const ModelFile& file, const Defaults& d, VocabSpec& spec) {
  const std::size_t n = spec.tokens.size();
  TSR_TRY(spec.bos, token_id(file, "bos_token_id", d.bos, n));
  TSR_TRY(spec.eos, token_id(file, "eos_token_id", d.eos, n));
  TSR_TRY(spec.unk, token_id(file, "unknown_token_id", d.unk, n));
  TSR_TRY(spec.sep, token_id(file, "separator_token_id", d.sep, n));
  TSR_TRY(spec.sep, token_id(file, "seperator_token_id", spec.sep, n));  // the spelling most files have
  TSR_TRY(spec.cls, token_id(file, "cls_token_id", d.cls, n));
  TSR_TRY(spec.pad, token_id(file, "padding_token_id", d.pad, n));
  TSR_TRY(spec.eot, token_id(file, "eot_token_id", -1, n));
  return {};
}

Result<std::string> charsmap(const ModelFile& file) {
  TSR_TRY(const std::vector<std::int64_t> bytes, integers(file, "precompiled_charsmap"));
  std::string out;
  for (std::int64_t b : bytes) {
    if (b < -128 || b > 255) return bad("precompiled_charsmap", "is not an array of bytes");
    out.push_back(static_cast<char>(b));
  }
  return out;
}

}  // namespace

Result<VocabSpec> read_vocab(const ModelFile& file) {
  VocabSpec spec;
  TSR_TRY(spec.model, file.get_string(kPrefix + "model"));
  TSR_TRY(spec.pre, file.get_string(kPrefix + "pre", "default"));
  TSR_TRY(const std::vector<std::string>* tokens, file.get_strings(kPrefix + "tokens"));
  if (!tokens || tokens->empty()) return bad("tokens", "is missing or empty");
  if (tokens->size() >= std::numeric_limits<std::int32_t>::max())
    return bad("tokens", "has too many entries");
  spec.tokens = *tokens;
  TSR_TRY(spec.scores, scores(file, tokens->size()));
  TSR_TRY(spec.types, types(file, tokens->size()));
  TSR_TRY(const std::vector<std::string>* merges, file.get_strings(kPrefix + "merges"));
  if (merges) spec.merges = *merges;

  const Defaults d = defaults(spec);
  TSR_CHECK(read_ids(file, d, spec));
  TSR_TRY(spec.add_bos, file.get_bool(kPrefix + "add_bos_token", d.add_bos));
  TSR_TRY(spec.add_eos, file.get_bool(kPrefix + "add_eos_token", d.add_eos));
  TSR_TRY(spec.add_space_prefix, file.get_bool(kPrefix + "add_space_prefix", d.add_space_prefix));
  TSR_TRY(spec.remove_extra_whitespaces, file.get_bool(kPrefix + "remove_extra_whitespaces", false));
  TSR_TRY(spec.normalizer_charsmap, charsmap(file));
  return spec;
}

}  // namespace tessera
