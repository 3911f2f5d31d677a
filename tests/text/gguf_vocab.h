// tokenizer.ggml.* of a GGUF file as a VocabSpec.
#pragma once

#include <string>

#include "base/result.h"
#include "text/tokenizer.h"

namespace tessera::test {

Result<VocabSpec> read_gguf_vocab(const std::string& path);

}  // namespace tessera::test
