#include "text/token_list.h"

#include <cstdio>

#include "base/text.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr std::size_t kMaxTokens = std::size_t{1} << 24;

bool is_control(std::string_view token) {
  return token.size() > 2 && token.front() == '<' && token.back() == '>';
}
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

Result<TokenList> TokenList::parse(std::string_view file, std::string name) {
  TokenList list;
  list.name_ = std::move(name);
  const auto fail = [&](const std::string& what) {
    return Error{Code::bad_model, quote(list.name_, kMaxQuotedPath) + ": " + what};
  };
  for (std::size_t begin = 0; begin < file.size();) {
    const std::size_t end = std::min(file.find('\n', begin), file.size());
    std::string_view token = file.substr(begin, end - begin);
    if (token.ends_with('\r')) token.remove_suffix(1);
    const std::string line = "line " + std::to_string(list.tokens_.size() + 1);
    if (!valid_utf8(token)) return fail(line + ", " + quote(token, 40) + ", is not UTF-8");
    if (list.tokens_.size() == kMaxTokens) return fail("more than " + std::to_string(kMaxTokens) + " tokens");
    const auto id = static_cast<TokenId>(list.tokens_.size());
    if (token == "<unk>" && list.unknown_ < 0) list.unknown_ = id;
    if (!token.empty() && !is_control(token)) {
      list.ids_.emplace(token, id);
      if (decode_utf8(token, 0).bytes != token.size()) list.words_ = true;
    }
    list.tokens_.emplace_back(token);
    begin = end + 1;
  }
  if (list.tokens_.empty()) return fail("no tokens");
  return list;
}

Result<void> TokenList::fit(std::uint64_t ids) {
  if (ids == tokens_.size()) return {};
  if (unknown_ < 0 && ids == tokens_.size() + 1 && tokens_.size() < kMaxTokens) {
    unknown_ = static_cast<std::int64_t>(tokens_.size());
    tokens_.emplace_back("<unk>");
    return {};
  }
  return Error{Code::bad_model, quote(name_, kMaxQuotedPath) + " has " + std::to_string(tokens_.size()) +
                                    " tokens, but the model's embedding " + std::to_string(ids) + " rows"};
}

Result<TokenId> TokenList::lookup(std::string_view piece, std::size_t at, std::int64_t unknown) const {
  if (const auto found = ids_.find(piece); found != ids_.end()) return found->second;
  if (unknown >= 0) return static_cast<TokenId>(unknown);
  std::string what = (words_ ? "word " : "character ") + quote(piece, 40);
  if (!words_) {
    char code[16];
    std::snprintf(code, sizeof code, " (U+%04X)", static_cast<unsigned>(decode_utf8(piece, 0).code));
    what += code;
  }
  return Error{Code::invalid_argument, what + " at byte " + std::to_string(at) + " of the text is not in " +
                                           quote(name_, kMaxQuotedPath)};
}

Result<std::vector<TokenId>> TokenList::encode(std::string_view text) const { return encode(text, unknown_); }
Result<std::vector<TokenId>> TokenList::encode_exactly(std::string_view text) const {
  return encode(text, -1);
}

Result<std::vector<TokenId>> TokenList::encode(std::string_view text, std::int64_t unknown) const {
  std::vector<TokenId> ids;
  if (!valid_utf8(text)) return Error{Code::invalid_argument, "the text is not UTF-8: " + quote(text, 40)};
  const bool spaces = !words_ && ids_.contains(" ");
  for (std::size_t at = 0; at < text.size();) {
    if (is_space(text[at]) && !(spaces && text[at] == ' ')) {
      ++at;
      continue;
    }
    std::size_t size = decode_utf8(text, at).bytes;
    if (words_)
      while (at + size < text.size() && !is_space(text[at + size])) ++size;
    TSR_TRY(const TokenId id, lookup(text.substr(at, size), at, unknown));
    ids.push_back(id);
    at += size;
  }
  return ids;
}

bool TokenList::shown(TokenId id) const { return id < tokens_.size() && !is_control(tokens_[id]); }

std::string TokenList::decode(std::span<const TokenId> ids) const {
  std::string text;
  for (const TokenId id : ids) {
    if (!shown(id)) continue;
    if (words_ && !text.empty()) text += ' ';
    text += tokens_[id];
  }
  return text;
}

}  // namespace tessera
