// Text to token ids and back, from a vocabulary as GGUF metadata describes it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/vocab.h"

namespace tessera {

class Tokenizer {
 public:
  // bad_model when the parts do not fit together, unsupported for an unknown model or pre-tokenizer.
  static Result<std::unique_ptr<Tokenizer>> create(VocabSpec spec);
  virtual ~Tokenizer() = default;

  // Any bytes are accepted; invalid UTF-8 is treated as U+FFFD or as raw bytes, as the model's family does.
  // `special`: adds BOS/EOS (CLS/SEP) as the vocabulary says; `parse_special`: control tokens written in the
  // text ("<|im_end|>") become their ids.
  virtual Result<std::vector<TokenId>> encode(std::string_view text, bool special,
                                              bool parse_special) const = 0;
  // Bytes of one token as they appear in the middle of a text (may be part of a UTF-8 character). Control
  // tokens give "" unless `show_special`.
  virtual std::string piece(TokenId id, bool show_special) const = 0;

  const VocabSpec& spec() const { return spec_; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(spec_.tokens.size()); }
  bool is_end(TokenId id) const;  // EOS, end of turn, and the like: generation stops here

 protected:
  VocabSpec spec_;
};

// Token ids to text, one token at a time; holds back bytes that do not yet make whole UTF-8 characters.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool at_start = true, bool show_special = false);
  std::string push(TokenId id);  // the text that became complete, always valid UTF-8 (U+FFFD for bad bytes)
  std::string finish();          // what is left, made valid

 private:
  const Tokenizer* tokenizer_;
  bool at_start_;  // SentencePiece drops the space that it put before the first word
  bool show_special_;
  std::string held_;
};

}  // namespace tessera
