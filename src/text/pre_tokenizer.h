// Cuts text into the words that byte-level BPE never merges across, by the patterns of each model family.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct pcre2_real_code_8;

namespace tessera {

class PreTokenizer {
 public:
  // By the name that GGUF's tokenizer.ggml.pre uses; unsupported lists the known ones.
  static Result<PreTokenizer> create(const std::string& name);

  // Appends views that cover `text` (valid UTF-8) in order. invalid_argument, naming the place, when a
  // pattern needs more than the limits on work and memory, which no text is known to reach.
  Result<void> split(std::string_view text, std::vector<std::string_view>& words) const;

  bool composes() const { return composes_; }        // the family's text is in normalisation form C
  bool whole_words() const { return whole_words_; }  // a word that is a token is taken without merges

 private:
  using Pattern = std::shared_ptr<const pcre2_real_code_8>;
  static Result<Pattern> compile(const char* pattern);

  std::vector<Pattern> stages_;  // each cuts what the one before it left
  bool composes_ = false;
  bool whole_words_ = false;
};

}  // namespace tessera
