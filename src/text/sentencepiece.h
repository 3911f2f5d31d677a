// SentencePiece's text normalisation, shared by its BPE and its unigram models.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/family.h"

namespace tessera {

// A precompiled character map: a double-array trie (as Darts-clone lays it out) from byte sequences to
// offsets into a pool of NUL-terminated replacements. The blob is a u32 size of the trie in bytes, the trie's
// u32 units, the pool; all little-endian. An empty blob maps nothing. See
// https://github.com/google/sentencepiece/blob/master/src/normalizer.cc and
// https://github.com/s-yata/darts-clone.
class CharsMap {
 public:
  struct Match {
    std::string_view replacement;
    std::size_t bytes;  // of the text that it replaces
  };

  static Result<CharsMap> parse(std::string_view blob);
  std::optional<Match> longest(std::string_view text, std::size_t at) const;

 private:
  // NFKC's longest key and replacement are 33 bytes; the limits bound what a hostile map can cost.
  static constexpr std::size_t kMaxKeyBytes = 256;
  static constexpr std::size_t kMaxReplacementBytes = 256;

  std::vector<std::uint32_t> units_;
  std::string pool_;
};

class SentencePieceNormalizer {
 public:
  static Result<SentencePieceNormalizer> create(const VocabSpec& spec);
  // Valid UTF-8 with U+2581 for spaces. Bad bytes become U+FFFD.
  std::string normalize(std::string_view text) const;

 private:
  CharsMap map_;
  bool add_prefix_ = true;
  bool remove_extra_ = false;
};

// What its two kinds of vocabulary share.
class SentencePiece : public Family {
 public:
  SentencePiece(VocabSpec spec, SentencePieceNormalizer normalizer)
      : Family(std::move(spec)), normalizer_(std::move(normalizer)) {}
  bool drops_first_space() const override { return spec_.add_space_prefix; }

 protected:
  void append_text(TokenId id, std::string& out) const override;

  SentencePieceNormalizer normalizer_;
};

// What SentencePiece writes for the unknown token.
inline constexpr std::string_view kUnknownSurface = " \xE2\x81\x87 ";

}  // namespace tessera
