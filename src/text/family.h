// What the tokenizer families share: special tokens in the text, BOS/EOS, the vocabulary's index.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "text/byte_trie.h"
#include "text/tokenizer.h"

namespace tessera {

enum class TokenKind : std::uint8_t { normal = 1, unknown, control, user, unused, byte };

inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

class Family : public Tokenizer {
 public:
  Result<std::vector<TokenId>> encode(std::string_view text, bool special, bool parse_special) const final;
  void append_piece(TokenId id, bool show_special, std::string& out) const final;

 protected:
  // `spec` has passed check_spec().
  explicit Family(VocabSpec spec);

  // Appends the ids of text without special tokens in it, never empty. What follows a special token is
  // encoded like the beginning of a text.
  virtual Result<void> encode_text(std::string_view text, std::vector<TokenId>& out) const = 0;
  // The bytes of a token that is neither control nor user-defined.
  virtual void append_text(TokenId id, std::string& out) const = 0;
  virtual std::int64_t first_id() const { return spec_.add_bos ? spec_.bos : -1; }
  virtual std::int64_t last_id() const { return spec_.add_eos ? spec_.eos : -1; }

  TokenKind kind(TokenId id) const { return kinds_[id]; }
  // Tokens that text can become: normal, user-defined, unused. Control tokens cannot be spelled.
  std::optional<TokenId> find(std::string_view text) const;
  std::optional<TokenId> byte_token(unsigned char byte) const;
  // Text that no token covers: its byte tokens, else the unknown token (one for neighbours), else an error.
  Result<void> append_unknown(std::string_view text, bool after_unknown, std::vector<TokenId>& out) const;

 private:
  std::vector<TokenKind> kinds_;
  std::unordered_map<std::string_view, TokenId> index_;  // of views into spec_.tokens
  std::array<std::int64_t, 256> byte_tokens_;            // "<0x41>"; -1: none
  ByteTrie user_tokens_;
  ByteTrie special_tokens_;  // user-defined, control and unknown
};

// The value of "<0xNN>", nothing for any other text.
std::optional<unsigned char> parse_byte_token(std::string_view text);

Result<std::unique_ptr<Tokenizer>> create_sentencepiece_bpe(VocabSpec spec);
Result<std::unique_ptr<Tokenizer>> create_unigram(VocabSpec spec);
Result<std::unique_ptr<Tokenizer>> create_byte_bpe(VocabSpec spec);
Result<std::unique_ptr<Tokenizer>> create_wordpiece(VocabSpec spec);

}  // namespace tessera
