// SentencePiece BPE (GGUF "llama"): characters merge to the token of the best score.
#include <algorithm>

#include "text/merge.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr std::uint32_t kNoToken = ~0u;

class SentencePieceBpe final : public SentencePiece {
 public:
  SentencePieceBpe(VocabSpec spec, SentencePieceNormalizer normalizer)
      : SentencePiece(std::move(spec), std::move(normalizer)) {
    for (const std::string& token : spec_.tokens) longest_ = std::max(longest_, token.size());
  }

 protected:
  Result<void> encode_text(std::string_view text, std::vector<TokenId>& out) const override {
    const std::string normal = normalizer_.normalize(text);
    std::vector<Symbol> symbols;
    symbols.reserve(normal.size());
    for (std::size_t at = 0; at < normal.size();) {
      const std::uint32_t bytes = decode_utf8(normal, at).bytes;
      const auto id = find(std::string_view(normal).substr(at, bytes));
      symbols.push_back(
          {.begin = static_cast<std::uint32_t>(at), .bytes = bytes, .value = id.value_or(kNoToken)});
      at += bytes;
    }
    merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      const std::size_t bytes = std::size_t{left.bytes} + right.bytes;
      if (bytes > longest_) return std::nullopt;
      const auto id = find(std::string_view(normal).substr(left.begin, bytes));
      if (!id) return std::nullopt;
      return Merge{-static_cast<double>(spec_.scores[*id]), *id};
    });
    bool after_unknown = false;
    for (const Symbol& symbol : symbols) {
      if (symbol.bytes == 0) continue;
      if (symbol.value != kNoToken) {
        out.push_back(symbol.value);
      } else {
        TSR_CHECK(
            append_unknown(std::string_view(normal).substr(symbol.begin, symbol.bytes), after_unknown, out));
      }
      after_unknown = symbol.value == kNoToken;
    }
    return {};
  }

 private:
  std::size_t longest_ = 0;  // bytes of a token
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> create_sentencepiece_bpe(VocabSpec spec) {
  if (spec.scores.empty()) {
    return Error{Code::bad_model, "vocabulary: a SentencePiece BPE vocabulary needs a score for every token"};
  }
  TSR_TRY(SentencePieceNormalizer normalizer, SentencePieceNormalizer::create(spec));
  return std::unique_ptr<Tokenizer>(
      std::make_unique<SentencePieceBpe>(std::move(spec), std::move(normalizer)));
}

}  // namespace tessera
