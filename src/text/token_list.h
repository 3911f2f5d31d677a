// A vocabulary as a list of tokens, one a line, and text in it. Where every token is one character, a text is
// its characters, and spaces between them are left out (unless the space is a token); else it is the words
// between spaces. Tokens written <like this> are control tokens: no text becomes one or shows one.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/vocab.h"

namespace tessera {

class TokenList {
 public:
  // `name` is the file's, for messages. bad_model: not UTF-8, no tokens, or more than 2^24 of them. Of equal
  // tokens the first one counts. An empty line is a token that no text has.
  static Result<TokenList> parse(std::string_view file, std::string name);

  // Makes it hold the `ids` that a model has: one more than the file's tokens is <unk>, which some programs
  // append to a list without it. bad_model for any other number.
  Result<void> fit(std::uint64_t ids);

  // invalid_argument: text that is not UTF-8, or a character or word that is no token when there is no <unk>.
  Result<std::vector<TokenId>> encode(std::string_view text) const;
  // The same for text that is to be kept as it is: refuses what would become <unk>.
  Result<std::vector<TokenId>> encode_exactly(std::string_view text) const;
  std::string decode(std::span<const TokenId> ids) const;

  const std::string& token(TokenId id) const { return tokens_[id]; }  // as the file spells it; id < size()
  std::uint32_t size() const { return static_cast<std::uint32_t>(tokens_.size()); }
  bool words() const { return words_; }  // tokens are words, not characters
  const std::string& name() const { return name_; }

 private:
  Result<std::vector<TokenId>> encode(std::string_view text, std::int64_t unknown) const;
  Result<TokenId> lookup(std::string_view piece, std::size_t at, std::int64_t unknown) const;
  bool shown(TokenId id) const;

  std::string name_;
  std::vector<std::string> tokens_;
  std::map<std::string, TokenId, std::less<>> ids_;  // of tokens that are no control tokens
  std::int64_t unknown_ = -1;                        // "<unk>"; -1: none
  bool words_ = false;
};

}  // namespace tessera
