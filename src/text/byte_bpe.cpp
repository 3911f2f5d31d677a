// Byte-level BPE (GGUF "gpt2"): words of bytes merge by the rank of a list of pairs.
#include <array>

#include "text/family.h"
#include "text/merge.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace tessera {
namespace {

// Byte-level vocabularies are written in printable characters: the byte itself where that is a visible
// Latin-1 character, else U+0100 and on, in order of the bytes. See
// https://github.com/openai/gpt-2/blob/master/src/encoder.py
constexpr std::array<char32_t, 256> kByteChars = [] {
  std::array<char32_t, 256> chars{};
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool visible = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    chars[b] = visible ? b : next++;
  }
  return chars;
}();
constexpr char32_t kByteCharEnd = 0x100 + 68;

constexpr std::array<std::int16_t, kByteCharEnd> kCharBytes = [] {
  std::array<std::int16_t, kByteCharEnd> bytes{};
  for (auto& b : bytes) b = -1;
  for (std::size_t b = 0; b < 256; ++b) bytes[kByteChars[b]] = static_cast<std::int16_t>(b);
  return bytes;
}();

class ByteBpe final : public Family {
 public:
  ByteBpe(VocabSpec spec, PreTokenizer words) : Family(std::move(spec)), words_(std::move(words)) {
    for (std::size_t b = 0; b < 256; ++b) {
      std::string text;
      append_utf8(text, kByteChars[b]);
      byte_symbols_[b] = symbol_of(text);
    }
  }

  Result<void> add_merges() {
    merges_.reserve(spec_.merges.size());
    for (std::size_t rank = 0; rank < spec_.merges.size(); ++rank) {
      const std::string& line = spec_.merges[rank];
      const std::size_t space = line.find(' ', 1);
      if (space == std::string::npos || space + 1 == line.size()) {
        return Error{Code::bad_model, "vocabulary: merge " + std::to_string(rank) +
                                          " is not two strings with a space between them"};
      }
      const std::string left = line.substr(0, space);
      const std::string right = line.substr(space + 1);
      const std::uint64_t pair = pair_of(symbol_of(left), symbol_of(right));
      merges_.emplace(pair, Merge{static_cast<double>(rank), symbol_of(left + right)});
    }
    return {};
  }

  bool drops_first_space() const override { return false; }

 protected:
  Result<void> encode_text(std::string_view text, std::vector<TokenId>& out) const override {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t run = valid_utf8_run(text, at);
      TSR_CHECK(encode_valid(text.substr(at, run), out));
      at += run;
      // Bytes that are no UTF-8 are a word of their own.
      std::size_t end = at;
      while (end < text.size() && !decode_utf8(text, end).valid) ++end;
      if (end > at) TSR_CHECK(encode_word(text.substr(at, end - at), out));
      at = end;
    }
    return {};
  }

  void append_text(TokenId id, std::string& out) const override {
    const std::string& token = spec_.tokens[id];
    for (std::size_t at = 0; at < token.size();) {
      const Utf8Char c = decode_utf8(token, at);
      const int byte = c.code < kByteCharEnd ? kCharBytes[c.code] : -1;
      byte >= 0 ? out += static_cast<char>(byte) : out.append(token, at, c.bytes);
      at += c.bytes;
    }
  }

 private:
  static std::uint64_t pair_of(std::uint32_t left, std::uint32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | right;
  }

  // A token's id, or a number past them for a string that is no token.
  std::uint32_t symbol_of(const std::string& text) {
    if (const auto id = find(text)) return *id;
    const auto known = other_symbols_.find(text);
    if (known != other_symbols_.end()) return known->second;
    const auto symbol = static_cast<std::uint32_t>(size() + other_symbols_.size());
    other_symbols_.emplace(text, symbol);
    return symbol;
  }

  Result<void> encode_valid(std::string_view text, std::vector<TokenId>& out) const {
    std::string composed;
    if (words_.composes()) text = composed = nfc(text);
    std::vector<std::string_view> words;
    TSR_CHECK(words_.split(text, words));
    for (const std::string_view word : words) TSR_CHECK(encode_word(word, out));
    return {};
  }

  Result<void> encode_word(std::string_view word, std::vector<TokenId>& out) const {
    if (words_.whole_words()) {
      std::string chars;
      for (const char c : word) append_utf8(chars, kByteChars[static_cast<unsigned char>(c)]);
      if (const auto id = find(chars)) {
        out.push_back(*id);
        return {};
      }
    }
    std::vector<Symbol> symbols(word.size());
    for (std::uint32_t i = 0; i < symbols.size(); ++i) {
      symbols[i] = {.begin = i, .bytes = 1, .value = byte_symbols_[static_cast<unsigned char>(word[i])]};
    }
    merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      const auto found = merges_.find(pair_of(left.value, right.value));
      return found == merges_.end() ? std::nullopt : std::optional(found->second);
    });
    for (const Symbol& symbol : symbols) {
      if (symbol.bytes != 0) TSR_CHECK(append_symbol(symbol, word, out));
    }
    return {};
  }

  Result<void> append_symbol(const Symbol& symbol, std::string_view word, std::vector<TokenId>& out) const {
    if (symbol.value < size()) {
      out.push_back(symbol.value);
      return {};
    }
    for (std::uint32_t i = symbol.begin; i < symbol.begin + symbol.bytes; ++i) {
      const std::uint32_t byte = byte_symbols_[static_cast<unsigned char>(word[i])];
      if (byte < size()) {
        out.push_back(byte);
      } else {
        TSR_CHECK(append_unknown(word.substr(i, 1), false, out));
      }
    }
    return {};
  }

  PreTokenizer words_;
  std::unordered_map<std::string, std::uint32_t> other_symbols_;
  std::array<std::uint32_t, 256> byte_symbols_{};
  std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> create_byte_bpe(VocabSpec spec) {
  TSR_TRY(PreTokenizer words, PreTokenizer::create(spec.pre));
  auto made = std::make_unique<ByteBpe>(std::move(spec), std::move(words));
  TSR_CHECK(made->add_merges());
  return std::unique_ptr<Tokenizer>(std::move(made));
}

}  // namespace tessera
