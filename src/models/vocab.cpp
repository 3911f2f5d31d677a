#include <cmath>
#include <limits>

#include "models/decoder.h"
#include "models/tensors.h"

namespace tessera {
namespace {

// tokenizer.ggml.* of one file.
class VocabReader {
 public:
  explicit VocabReader(const ModelFile& file) : file_(file) {}

  Result<VocabSpec> read() {
    TSR_TRY(std::string model, file_.get_string(full("model")));
    TSR_TRY(std::string pre, file_.get_string(full("pre"), "default"));
    spec_ = VocabSpec::with_defaults(std::move(model), std::move(pre));
    TSR_CHECK(read_tokens());
    TSR_CHECK(read_ids());
    TSR_CHECK(read_flags());
    TSR_CHECK(read_charsmap());
    return std::move(spec_);
  }

 private:
  static std::string full(const std::string& key) { return "tokenizer.ggml." + key; }

  Error bad(const std::string& key, const std::string& what) const {
    return model_error(file_, Code::bad_model, full(key) + " " + what);
  }
  bool has(const std::string& key) const { return file_.metadata().contains(full(key)); }

  Result<void> check_count(const std::string& key, std::size_t count) const {
    if (count == spec_.tokens.size()) return {};
    return bad(key, "has " + std::to_string(count) + " entries for " + std::to_string(spec_.tokens.size()) +
                        " tokens");
  }

  Result<void> read_tokens() {
    TSR_TRY(const std::vector<std::string>* tokens, file_.get_strings(full("tokens")));
    if (!tokens || tokens->empty()) return bad("tokens", "is missing or empty");
    if (tokens->size() >= std::numeric_limits<std::int32_t>::max())
      return bad("tokens", "has too many entries");
    spec_.tokens = *tokens;

    TSR_TRY(const std::vector<double>* scores, file_.get_floats(full("scores")));
    if (scores) TSR_CHECK(check_count("scores", scores->size()));
    for (std::size_t i = 0; scores && i < scores->size(); ++i) {
      if (!std::isfinite((*scores)[i])) return bad("scores", "holds a value that is not finite");
      spec_.scores.push_back(static_cast<float>((*scores)[i]));
    }

    TSR_TRY(const std::vector<std::uint64_t> types, file_.get_uints(full("token_type")));
    if (has("token_type")) TSR_CHECK(check_count("token_type", types.size()));
    for (std::uint64_t type : types) {
      if (type > 6) return bad("token_type", "holds " + std::to_string(type) + ", must be 0 to 6");
      spec_.types.push_back(static_cast<std::uint32_t>(type));
    }

    TSR_TRY(const std::vector<std::string>* merges, file_.get_strings(full("merges")));
    if (merges) spec_.merges = *merges;
    return {};
  }

  // Ids that the file gives must be tokens, or 2^32-1 for none; a default that is no token is none.
  Result<void> read_id(const std::string& key, std::int64_t& id) const {
    const std::size_t n = spec_.tokens.size();
    if (!has(key)) {
      if (id >= static_cast<std::int64_t>(n)) id = -1;
      return {};
    }
    TSR_TRY(const std::uint64_t value, file_.get_uint(full(key)));
    const bool none = value == std::numeric_limits<std::uint32_t>::max();
    if (!none && value >= n)
      return bad(key, "is " + std::to_string(value) + ", but there are " + std::to_string(n) + " tokens");
    id = none ? -1 : static_cast<std::int64_t>(value);
    return {};
  }

  Result<void> read_ids() {
    TSR_CHECK(read_id("bos_token_id", spec_.bos));
    if (spec_.model == "bert" && spec_.bos >= 0) spec_.cls = spec_.bos;  // newer files have no other key
    TSR_CHECK(read_id("cls_token_id", spec_.cls));
    TSR_CHECK(read_id("eos_token_id", spec_.eos));
    TSR_CHECK(read_id("unknown_token_id", spec_.unk));
    TSR_CHECK(read_id("separator_token_id", spec_.sep));
    TSR_CHECK(read_id("seperator_token_id", spec_.sep));  // the spelling that most files have
    TSR_CHECK(read_id("padding_token_id", spec_.pad));
    return read_id("eot_token_id", spec_.eot);
  }

  Result<void> read_flags() {
    TSR_TRY(spec_.add_bos, file_.get_bool(full("add_bos_token"), spec_.add_bos));
    TSR_TRY(spec_.add_eos, file_.get_bool(full("add_eos_token"), spec_.add_eos));
    if (spec_.model == "bert") {
      TSR_TRY(spec_.add_eos, file_.get_bool(full("add_sep_token"), spec_.add_eos));
    }
    TSR_TRY(spec_.add_space_prefix, file_.get_bool(full("add_space_prefix"), spec_.add_space_prefix));
    TSR_TRY(spec_.remove_extra_whitespaces,
            file_.get_bool(full("remove_extra_whitespaces"), spec_.remove_extra_whitespaces));
    TSR_TRY(spec_.lowercase, file_.get_bool(full("normalizer.lowercase"), spec_.lowercase));
    return {};
  }

  Result<void> read_charsmap() {
    const auto at = file_.metadata().find(full("precompiled_charsmap"));
    if (at == file_.metadata().end()) return {};
    auto append = [&](const auto& bytes) -> Result<void> {
      for (auto b : bytes) {
        // Written as int8 or uint8: both stand for the byte.
        if (static_cast<std::int64_t>(b) < -128 || static_cast<std::int64_t>(b) > 255)
          return bad("precompiled_charsmap", "is not an array of bytes");
        spec_.normalizer_charsmap.push_back(static_cast<char>(b));
      }
      return {};
    };
    if (const auto* s = std::get_if<std::vector<std::int64_t>>(&at->second.value)) return append(*s);
    if (const auto* u = std::get_if<std::vector<std::uint64_t>>(&at->second.value)) return append(*u);
    return bad("precompiled_charsmap", "is not an array of bytes");
  }

  const ModelFile& file_;
  VocabSpec spec_;
};

}  // namespace

Result<VocabSpec> read_vocab(const ModelFile& file) { return VocabReader(file).read(); }

}  // namespace tessera
