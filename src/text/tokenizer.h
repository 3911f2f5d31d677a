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

// Immutable; any number of threads may use one.
class Tokenizer {
 public:
  // bad_model when the parts do not fit together, unsupported for an unknown model or pre-tokenizer.
  // Accepted and harmless: duplicate tokens (the first one counts), empty tokens (never produced), merges of
  // strings that are no tokens (what they leave is spelled in bytes).
  static Result<std::unique_ptr<Tokenizer>> create(VocabSpec spec);
  virtual ~Tokenizer() = default;

  // Any bytes are accepted; invalid UTF-8 is treated as U+FFFD ("llama", "t5", "bert") or as raw bytes
  // ("gpt2"). `special`: adds BOS/EOS (CLS/SEP) as the vocabulary says; `parse_special`: control tokens
  // written in the text ("<|im_end|>") become their ids; without it they are plain text, so that a user's
  // text cannot forge them. User-defined tokens always become their ids. The longest token wins at each
  // place. invalid_argument: 2 GiB or more, or a character that the vocabulary cannot spell when it has no
  // unknown token.
  virtual Result<std::vector<TokenId>> encode(std::string_view text, bool special,
                                              bool parse_special) const = 0;
  // Bytes of one token as they appear in the middle of a text (may be part of a UTF-8 character). Control
  // tokens give "" unless `show_special`; so does an id that is out of range, always.
  virtual void append_piece(TokenId id, bool show_special, std::string& out) const = 0;
  std::string piece(TokenId id, bool show_special) const {
    std::string out;
    append_piece(id, show_special, out);
    return out;
  }
  // Whether pieces of words begin with a space that a text must not begin with.
  virtual bool drops_first_space() const = 0;

  const VocabSpec& spec() const { return spec_; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(spec_.tokens.size()); }
  // EOS, end of turn, and the like: generation stops here. These are spec().eos, spec().eot, and every token
  // spelled as one of the usual end marks ("</s>", "<|im_end|>", ...: kEndMarks in tokenizer.cpp), since many
  // files name only one of several.
  bool is_end(TokenId id) const;

 protected:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  VocabSpec spec_;
  std::vector<TokenId> ends_;  // sorted
};

// Token ids to text, one token at a time, with no memory of its own in the long run; holds back bytes that do
// not yet make whole UTF-8 characters. The tokenizer must outlive it.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool at_start = true, bool show_special = false);
  // The text that became complete, always valid UTF-8 (U+FFFD for bad bytes), until the next call.
  std::string_view push(TokenId id);
  std::string finish();  // what is left, made valid; the next push() is in the middle of a text

  bool at_start() const { return at_start_; }
  std::string_view held() const { return held_; }
  // Where another one was: its held(), of which no more than the beginning of a character is taken.
  void go_on(std::string_view held) { held_ = held.substr(0, 3); }

 private:
  const Tokenizer* tokenizer_;
  bool at_start_;  // SentencePiece drops the space that it put before the first word
  bool show_special_;
  std::string held_;  // at most 3 bytes: the beginning of a character
  std::string out_;
};

}  // namespace tessera
