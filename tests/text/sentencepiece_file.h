// SentencePiece's own .model file (a protocol-buffer message) as a VocabSpec.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace tessera::test {

// Unigram and BPE models; only what a VocabSpec holds.
Result<VocabSpec> read_sentencepiece_model(std::string_view bytes);

}  // namespace tessera::test
