#include "text/family.h"

#include <cstdio>

namespace tessera {
namespace {

// Without types, the ids of the specification and the spelling of byte tokens tell them.
TokenKind guess_kind(const VocabSpec& spec, std::size_t id) {
  const auto is = [&](std::int64_t named) { return named == static_cast<std::int64_t>(id); };
  if (is(spec.unk)) return TokenKind::unknown;
  if (is(spec.bos) || is(spec.eos) || is(spec.sep) || is(spec.cls) || is(spec.pad) || is(spec.eot)) {
    return TokenKind::control;
  }
  const bool has_bytes = spec.model == "llama" || spec.model == "t5";
  return has_bytes && parse_byte_token(spec.tokens[id]) ? TokenKind::byte : TokenKind::normal;
}

TokenKind kind_of(const VocabSpec& spec, std::size_t id) {
  if (spec.types.empty()) return guess_kind(spec, id);
  const auto kind =
      spec.types[id] >= 1 && spec.types[id] <= 6 ? static_cast<TokenKind>(spec.types[id]) : TokenKind::normal;
  // A byte token whose text names no byte can only be text.
  return kind == TokenKind::byte && !parse_byte_token(spec.tokens[id]) ? TokenKind::normal : kind;
}

}  // namespace

std::optional<unsigned char> parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(digit);
  }
  return static_cast<unsigned char>(value);
}

Family::Family(VocabSpec spec) {
  spec_ = std::move(spec);
  byte_tokens_.fill(-1);
  std::vector<ByteTrie::Entry> user;
  std::vector<ByteTrie::Entry> specials;
  kinds_.reserve(spec_.tokens.size());
  index_.reserve(spec_.tokens.size());
  for (std::size_t i = 0; i < spec_.tokens.size(); ++i) {
    const std::string& text = spec_.tokens[i];
    const auto id = static_cast<TokenId>(i);
    kinds_.push_back(kind_of(spec_, i));
    switch (kinds_.back()) {
      case TokenKind::user: user.emplace_back(text, id); [[fallthrough]];
      case TokenKind::normal:
      case TokenKind::unused:
        if (!text.empty()) index_.emplace(text, id);
        break;
      case TokenKind::byte:
        if (auto& slot = byte_tokens_[*parse_byte_token(text)]; slot < 0) slot = id;
        break;
      case TokenKind::unknown:
        if (spec_.unk < 0) spec_.unk = id;
        [[fallthrough]];
      case TokenKind::control: specials.emplace_back(text, id); break;
    }
  }
  specials.insert(specials.begin(), user.begin(), user.end());
  user_tokens_ = ByteTrie(std::move(user));
  special_tokens_ = ByteTrie(std::move(specials));
}

std::optional<TokenId> Family::find(std::string_view text) const {
  const auto found = index_.find(text);
  return found == index_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<TokenId> Family::byte_token(unsigned char byte) const {
  return byte_tokens_[byte] < 0 ? std::nullopt : std::optional(static_cast<TokenId>(byte_tokens_[byte]));
}

Result<void> Family::append_unknown(std::string_view text, bool after_unknown,
                                    std::vector<TokenId>& out) const {
  const std::size_t before = out.size();
  for (const char c : text) {
    const auto id = byte_token(static_cast<unsigned char>(c));
    if (!id) break;
    out.push_back(*id);
  }
  if (out.size() - before == text.size()) return {};
  out.resize(before);
  if (spec_.unk < 0) {
    char byte[8];
    std::snprintf(byte, sizeof byte, "0x%02X", static_cast<unsigned>(static_cast<unsigned char>(text[0])));
    return Error{Code::invalid_argument, std::string("text: the vocabulary has neither a token for byte ") +
                                             byte + " nor an unknown token"};
  }
  const bool joins = after_unknown && !out.empty() && out.back() == static_cast<TokenId>(spec_.unk);
  if (!joins) out.push_back(static_cast<TokenId>(spec_.unk));
  return {};
}

Result<std::vector<TokenId>> Family::encode(std::string_view text, bool special, bool parse_special) const {
  if (text.size() >= (std::size_t{1} << 31)) {
    return Error{Code::invalid_argument,
                 "text: " + std::to_string(text.size()) + " bytes, the limit is 2147483647"};
  }
  std::vector<TokenId> out;
  const auto add = [&](std::int64_t id) {
    if (special && id >= 0) out.push_back(static_cast<TokenId>(id));
  };
  add(first_id());
  const ByteTrie& parsed = parse_special ? special_tokens_ : user_tokens_;
  std::size_t begin = 0;  // of the text that is not yet encoded
  for (std::size_t at = 0; !parsed.empty() && at < text.size();) {
    const auto match = parsed.longest(text, at);
    if (!match) {
      ++at;
      continue;
    }
    if (at > begin) TSR_CHECK(encode_text(text.substr(begin, at - begin), out));
    out.push_back(match->value);
    begin = at += match->bytes;
  }
  if (begin < text.size()) TSR_CHECK(encode_text(text.substr(begin), out));
  add(last_id());
  return out;
}

void Family::append_piece(TokenId id, bool show_special, std::string& out) const {
  if (id >= size()) return;
  const bool control = kind(id) == TokenKind::control;
  if (control || kind(id) == TokenKind::user) {
    if (!control || show_special) out += spec_.tokens[id];
    return;
  }
  append_text(id, out);
}

}  // namespace tessera
