// SentencePiece unigram (GGUF "t5"): the segmentation with the highest sum of scores, found by Viterbi.
#include <algorithm>

#include "text/sentencepiece.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr std::uint32_t kUnknownPiece = ~0u;
constexpr float kUnknownPenalty = 10;  // below the worst normal token, as SentencePiece has it

class Unigram final : public SentencePiece {
 public:
  Unigram(VocabSpec spec, SentencePieceNormalizer normalizer)
      : SentencePiece(std::move(spec), std::move(normalizer)) {
    std::vector<ByteTrie::Entry> entries;
    float lowest = 0;
    bool any = false;
    for (TokenId id = 0; id < size(); ++id) {
      if (kind(id) != TokenKind::normal) continue;
      entries.emplace_back(spec_.tokens[id], id);
      lowest = any ? std::min(lowest, spec_.scores[id]) : spec_.scores[id];
      any = true;
    }
    trie_ = ByteTrie(std::move(entries));
    unknown_score_ = lowest - kUnknownPenalty;
  }

 protected:
  Result<void> encode_text(std::string_view text, std::vector<TokenId>& out) const override {
    const std::string normal = normalizer_.normalize(text);
    const std::vector<Arrival> best = viterbi(normal);
    std::vector<std::size_t> ends;  // of the best path's pieces, last first
    for (std::size_t at = normal.size(); at > 0; at = best[at].begin) ends.push_back(at);
    bool after_unknown = false;
    for (std::size_t i = ends.size(); i-- > 0;) {
      const Arrival& piece = best[ends[i]];
      if (piece.token != kUnknownPiece) {
        out.push_back(piece.token);
      } else {
        const auto bytes = std::string_view(normal).substr(piece.begin, ends[i] - piece.begin);
        TSR_CHECK(append_unknown(bytes, after_unknown, out));
      }
      after_unknown = piece.token == kUnknownPiece;
    }
    return {};
  }

 private:
  struct Arrival {  // the best way to have encoded the text up to a place
    float score = 0;
    std::uint32_t begin = 0;  // of the last piece
    std::uint32_t token = kUnknownPiece;
    bool reached = false;
  };

  // One entry a byte of the text and one for its end. Sums are floats and ties go to the longer piece, so
  // that the result is SentencePiece's.
  std::vector<Arrival> viterbi(std::string_view text) const {
    std::vector<Arrival> best(text.size() + 1);
    const auto arrive = [&](std::size_t begin, std::size_t bytes, float score, std::uint32_t token) {
      Arrival& end = best[begin + bytes];
      const float sum = best[begin].score + score;
      if (!end.reached || sum > end.score) end = {sum, static_cast<std::uint32_t>(begin), token, true};
    };
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t bytes = decode_utf8(text, at).bytes;
      bool has_single = false;
      trie_.each(text, at, [&](ByteTrie::Match match) {
        arrive(at, match.bytes, spec_.scores[match.value], match.value);
        has_single |= match.bytes == bytes;
      });
      if (!has_single) arrive(at, bytes, unknown_score_, kUnknownPiece);
      at += bytes;
    }
    return best;
  }

  ByteTrie trie_;
  float unknown_score_ = 0;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> create_unigram(VocabSpec spec) {
  if (spec.scores.empty()) {
    return Error{Code::bad_model, "vocabulary: a unigram vocabulary needs a score for every token"};
  }
  TSR_TRY(SentencePieceNormalizer normalizer, SentencePieceNormalizer::create(spec));
  return std::unique_ptr<Tokenizer>(std::make_unique<Unigram>(std::move(spec), std::move(normalizer)));
}

}  // namespace tessera
