// Vocabularies small enough to read.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace tessera::test {

inline constexpr std::uint32_t kNormal = 1, kUnknown = 2, kControl = 3, kUser = 4, kUnused = 5, kByte = 6;

inline TokenId add_token(VocabSpec& spec, std::string text, std::uint32_t type = kNormal, float score = 0) {
  spec.tokens.push_back(std::move(text));
  spec.types.push_back(type);
  spec.scores.push_back(score);
  return static_cast<TokenId>(spec.tokens.size() - 1);
}

// <unk> <s> </s>, then all 256 byte tokens: byte b is token 3 + b.
inline VocabSpec tiny_sentencepiece(std::string model = "llama") {
  VocabSpec spec;
  spec.model = std::move(model);
  spec.unk = add_token(spec, "<unk>", kUnknown);
  spec.bos = add_token(spec, "<s>", kControl);
  spec.eos = add_token(spec, "</s>", kControl);
  for (int b = 0; b < 256; ++b) {
    const char* digits = "0123456789ABCDEF";
    add_token(spec, std::string("<0x") + digits[b / 16] + digits[b % 16] + ">", kByte);
  }
  return spec;
}

// The 256 bytes as byte-level BPE writes them: byte b is token b.
inline VocabSpec tiny_byte_bpe(std::string pre = "gpt-2") {
  VocabSpec spec;
  spec.model = "gpt2";
  spec.pre = std::move(pre);
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool visible = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
    std::string text;
    append_utf8(text, visible ? b : next++);
    add_token(spec, text);
  }
  spec.scores.clear();
  return spec;
}

inline VocabSpec tiny_wordpiece() {
  VocabSpec spec;
  spec.model = "bert";
  spec.pad = add_token(spec, "[PAD]", kControl);
  spec.unk = add_token(spec, "[UNK]", kUnknown);
  spec.cls = add_token(spec, "[CLS]", kControl);
  spec.sep = add_token(spec, "[SEP]", kControl);
  for (const char* text : {"the", "sea", "##s", "##side", ",", "[", "]"}) add_token(spec, text);
  spec.scores.clear();
  spec.add_bos = spec.add_eos = true;
  return spec;
}

}  // namespace tessera::test
