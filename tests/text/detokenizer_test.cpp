#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/text.h"
#include "golden_file.h"
#include "tiny_vocab.h"

namespace tessera::test {
namespace {

TokenId byte_id(unsigned char byte) { return 3u + byte; }  // of tiny_sentencepiece()

TEST(Detokenizer, HoldsBackHalfCharacters) {
  const auto tokenizer = make_tokenizer(tiny_sentencepiece());
  Detokenizer out(*tokenizer);
  EXPECT_EQ(out.push(byte_id(0xF0)), "");
  EXPECT_EQ(out.push(byte_id(0x9F)), "");
  EXPECT_EQ(out.push(byte_id(0x9A)), "");
  EXPECT_EQ(out.push(byte_id(0x80)), "🚀");
  EXPECT_EQ(out.push(byte_id('!')), "!");
  EXPECT_EQ(out.finish(), "");
}

TEST(Detokenizer, MakesBadBytesReplacements) {
  const auto tokenizer = make_tokenizer(tiny_sentencepiece());
  Detokenizer out(*tokenizer);
  EXPECT_EQ(out.push(byte_id(0x80)), "\uFFFD");
  EXPECT_EQ(out.push(byte_id(0xE2)), "");
  EXPECT_EQ(out.push(byte_id('a')), "\uFFFDa");
  EXPECT_EQ(out.push(byte_id(0xF0)), "");
  EXPECT_EQ(out.push(byte_id(0x9F)), "");
  EXPECT_EQ(out.finish(), "\uFFFD");
  EXPECT_EQ(out.push(byte_id('b')), "b");
}

TEST(Detokenizer, DropsTheFirstSpaceOnce) {
  VocabSpec spec = tiny_sentencepiece();
  const TokenId word = add_token(spec, "\u2581a\u2581b");
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->piece(word, false), " a b");
  EXPECT_EQ(decode(*tokenizer, {1, word, word}), "a b a b");
  EXPECT_EQ(decode(*tokenizer, {1, word, 2}, true), "<s> a b</s>");
  EXPECT_EQ(decode(*tokenizer, {0, word}), " ⁇  a b");
  Detokenizer middle(*tokenizer, false);
  EXPECT_EQ(middle.push(word), " a b");
  spec.add_space_prefix = false;
  EXPECT_EQ(decode(*make_tokenizer(spec), {word}), " a b");
}

TEST(Detokenizer, IgnoresIdsThatDoNotExist) {
  const auto tokenizer = make_tokenizer(tiny_byte_bpe());
  EXPECT_EQ(decode(*tokenizer, {'a', 1u << 31, 0xFFFFFFFF, 'b'}, true), "ab");
}

TEST(Detokenizer, WordPieceJoinsContinuations) {
  const auto tokenizer = make_tokenizer(tiny_wordpiece());
  EXPECT_EQ(decode(*tokenizer, {2, 4, 5, 7, 8, 3}), "the seaside ,");
}

TEST(Detokenizer, ByteLevelPiecesAreTheTextsBytes) {
  std::mt19937 random(7);
  for (const char* pre : {"gpt-2", "llama-bpe", "smollm", "default", "gpt-4o", "tekken"}) {
    VocabSpec spec =
        read_golden(
            data_path("byte_bpe_" + std::string(pre == std::string("smollm") ? "smollm" : "gpt-2") + ".json"))
            .vocab;
    spec.pre = pre;
    const auto tokenizer = make_tokenizer(spec);
    for (int i = 0; i < 200; ++i) {
      std::string text(random() % 40, ' ');
      for (char& c : text)
        c = static_cast<char>(random() % 3 == 0 ? random() % 256 : "a '\n\xC3\xA9"[random() % 6]);
      std::string back;
      for (const TokenId id : encode(*tokenizer, text)) back += tokenizer->piece(id, false);
      EXPECT_EQ(back, text) << pre << " " << quote(text);
    }
  }
}

TEST(Detokenizer, AlwaysGivesValidUtf8) {
  std::mt19937 random(11);
  for (const char* name : {"spm_bpe_bytes", "unigram_bytes", "byte_bpe_qwen2", "wordpiece_uncased"}) {
    const auto tokenizer = make_tokenizer(read_golden(data_path(std::string(name) + ".json")).vocab);
    Detokenizer out(*tokenizer, true, true);
    std::string all;
    for (int i = 0; i < 3000; ++i) {
      const std::string_view text = out.push(static_cast<TokenId>(random() % (tokenizer->size() + 1)));
      EXPECT_TRUE(valid_utf8(text)) << quote(text);
      all += text;
    }
    EXPECT_TRUE(valid_utf8(out.finish()));
    EXPECT_GT(all.size(), 3000u);
  }
}

}  // namespace
}  // namespace tessera::test
