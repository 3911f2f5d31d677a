// WordPiece (GGUF "bert"): words at spaces and punctuation, then the longest token that fits, again and
// again.
#include "text/family.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr std::size_t kMaxWordChars = 100;  // BERT makes longer words unknown
constexpr std::string_view kContinues = "##";

// GGUF marks the beginnings of words with U+2581, vocab.txt their continuations with "##".
bool marks_beginnings(const std::vector<std::string>& tokens) {
  std::size_t begins = 0, continues = 0;
  for (const std::string& token : tokens) {
    begins += token.size() > kSpaceMark.size() && token.starts_with(kSpaceMark);
    continues += token.size() > kContinues.size() && token.starts_with(kContinues);
  }
  return begins > continues;
}

class WordPiece final : public Family {
 public:
  explicit WordPiece(VocabSpec spec)
      : Family(std::move(spec)), marks_beginnings_(marks_beginnings(spec_.tokens)) {
    std::vector<ByteTrie::Entry> first, later;
    for (TokenId id = 0; id < size(); ++id) {
      if (kind(id) == TokenKind::control || kind(id) == TokenKind::unknown) continue;
      (begins_word(id) ? first : later).emplace_back(unmarked(id), id);
    }
    first_ = ByteTrie(std::move(first));
    later_ = ByteTrie(std::move(later));
  }
  bool drops_first_space() const override { return true; }

 protected:
  std::int64_t first_id() const override { return spec_.cls >= 0 ? spec_.cls : spec_.bos; }
  std::int64_t last_id() const override { return spec_.sep >= 0 ? spec_.sep : spec_.eos; }

  Result<void> encode_text(std::string_view text, std::vector<TokenId>& out) const override {
    CodePoints word;
    const CodePoints codes = cleaned(text);
    for (std::size_t i = 0; i <= codes.size(); ++i) {
      const char32_t code = i < codes.size() ? codes[i] : U' ';
      const bool alone = is_bert_punctuation(code) || is_cjk_ideograph(code);
      if (!alone && !is_bert_space(code)) {
        word += code;
        continue;
      }
      TSR_CHECK(encode_word(word, out));
      word.clear();
      if (alone) TSR_CHECK(encode_word(CodePoints(1, code), out));
    }
    return {};
  }

  void append_text(TokenId id, std::string& out) const override {
    if (begins_word(id)) out += ' ';
    out += unmarked(id);
  }

 private:
  bool begins_word(TokenId id) const {
    const std::string_view text = spec_.tokens[id];
    if (kind(id) == TokenKind::unknown) return true;
    return marks_beginnings_ ? text.starts_with(kSpaceMark)
                             : text.size() <= kContinues.size() || !text.starts_with(kContinues);
  }
  std::string_view unmarked(TokenId id) const {
    const std::string_view text = spec_.tokens[id];
    if (marks_beginnings_) return text.substr(text.starts_with(kSpaceMark) ? kSpaceMark.size() : 0);
    return text.substr(begins_word(id) ? 0 : kContinues.size());
  }

  CodePoints cleaned(std::string_view text) const {
    CodePoints codes;
    for (const char32_t code : to_code_points(text)) {
      if (code != kReplacement && !is_bert_control(code)) codes += code;
    }
    if (!spec_.lowercase) return codes;
    codes = nfd(codes);
    std::erase_if(codes, is_nonspacing_mark);
    for (char32_t& code : codes) code = to_lower(code);
    return codes;
  }

  Result<void> encode_word(const CodePoints& word, std::vector<TokenId>& out) const {
    if (word.empty()) return {};
    std::string text;
    for (const char32_t code : word) append_utf8(text, code);
    const std::size_t before = out.size();
    std::size_t at = word.size() > kMaxWordChars ? text.size() + 1 : 0;
    while (at < text.size()) {
      const auto match = (at == 0 ? first_ : later_).longest(text, at);
      if (!match) break;
      out.push_back(match->value);
      at += match->bytes;
    }
    if (at == text.size()) return {};
    out.resize(before);
    return append_unknown(text, false, out);
  }

  bool marks_beginnings_;
  ByteTrie first_, later_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> create_wordpiece(VocabSpec spec) {
  return std::unique_ptr<Tokenizer>(std::make_unique<WordPiece>(std::move(spec)));
}

}  // namespace tessera
