// A vocabulary as data: what models/ reads from a file and text/ makes a tokenizer of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

using TokenId = std::uint32_t;

// tokenizer.ggml.* of a GGUF file, as models/ reads them.
struct VocabSpec {
  std::string model;  // "llama" (SentencePiece BPE), "t5" (SentencePiece unigram), "gpt2" (byte BPE), "bert"
  std::string pre;    // byte BPE: "gpt-2", "llama-bpe"/"llama3", "qwen2", ... or "default" (also if empty)
  std::vector<std::string> tokens;
  std::vector<float> scores;  // empty or one a token, all finite; "llama" and "t5" need them
  std::vector<std::uint32_t>
      types;  // empty or one a token: 1 normal 2 unknown 3 control 4 user 5 unused 6 byte
  std::vector<std::string> merges;  // byte BPE: "a b", best first
  // Negative or 0xFFFFFFFF: none. `unk` may stay out where a token of type 2 says it.
  std::int64_t bos = -1, eos = -1, unk = -1, sep = -1, cls = -1, pad = -1, eot = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
  bool remove_extra_whitespaces = false;
  bool lowercase = true;  // bert: lower case without accents ("uncased"); false: the text's own case
  std::string normalizer_charsmap;  // SentencePiece precompiled map bytes; may be empty

  // The ids and flags that a GGUF file means when it leaves their keys out; tokens and the like are empty.
  static VocabSpec with_defaults(std::string model, std::string pre);
};

}  // namespace tessera
