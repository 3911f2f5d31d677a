// Special tokens: what is added around a text, what is recognised in it, what ends a generation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_file.h"
#include "tiny_vocab.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;

TEST(Special, BosAndEosAsTheVocabularySays) {
  for (const bool bos : {false, true}) {
    for (const bool eos : {false, true}) {
      VocabSpec spec = tiny_sentencepiece();
      spec.add_bos = bos;
      spec.add_eos = eos;
      const auto tokenizer = make_tokenizer(spec);
      std::vector<TokenId> want;
      if (bos) want.push_back(1);
      if (eos) want.push_back(2);
      EXPECT_EQ(encode(*tokenizer, "", true), want);
      EXPECT_THAT(encode(*tokenizer, ""), ElementsAre());
    }
  }
}

TEST(Special, MissingIdsAreNotAdded) {
  VocabSpec spec = tiny_byte_bpe();
  spec.add_bos = spec.add_eos = true;
  spec.bos = -1;
  spec.eos = 0xFFFFFFFF;  // -1 in an unsigned field
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_THAT(encode(*tokenizer, "a", true), ElementsAre('a'));
}

TEST(Special, BertGetsClsAndSep) {
  const auto tokenizer = make_tokenizer(tiny_wordpiece());
  EXPECT_THAT(encode(*tokenizer, "The SEA, seaside seasick", true), ElementsAre(2, 4, 5, 8, 5, 7, 1, 3));
  EXPECT_THAT(encode(*tokenizer, "[SEP]", false, false), ElementsAre(9, 1, 10));
  EXPECT_THAT(encode(*tokenizer, "sea[SEP]sea", false, true), ElementsAre(5, 3, 5));
}

TEST(Special, ControlTokensOfTheTextNeedParseSpecial) {
  VocabSpec spec = tiny_byte_bpe();
  const TokenId start = add_token(spec, "<|im_start|>", kControl);
  const TokenId end = add_token(spec, "<|im_end|>", kControl);
  spec.scores.clear();
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_THAT(encode(*tokenizer, "<|im_start|>a\n<|im_end|><|im_end|>", false, true),
              ElementsAre(start, 'a', '\n', end, end));
  EXPECT_THAT(encode(*tokenizer, "a<|im_end|", false, true), testing::SizeIs(10));
  const auto plain = encode(*tokenizer, "<|im_end|>");
  EXPECT_THAT(plain, testing::SizeIs(10));
  EXPECT_EQ(decode(*tokenizer, plain), "<|im_end|>");
}

TEST(Special, MergesCannotSpellAControlToken) {
  VocabSpec spec = tiny_sentencepiece();
  for (const char* text : {"\u2581", "<", "s", ">", "/", "<s", "</", "s>", "</s"})
    add_token(spec, text, kNormal, 1);
  const auto tokenizer = make_tokenizer(spec);
  for (const char* text : {"<s>", "</s>", "<unk>", "<0x41>"}) {
    const auto ids = encode(*tokenizer, text);
    EXPECT_THAT(ids, testing::Not(testing::Contains(testing::Lt(3u)))) << text;
    EXPECT_EQ(decode(*tokenizer, ids), text);
  }
  EXPECT_THAT(encode(*tokenizer, "<s>", false, true), ElementsAre(1));

  VocabSpec bytes = tiny_byte_bpe("llama-bpe");  // takes whole words
  const TokenId control = add_token(bytes, "abc", kControl);
  bytes.scores.clear();
  bytes.merges = {"a b", "ab c"};
  EXPECT_THAT(encode(*make_tokenizer(bytes), "abc"), ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(encode(*make_tokenizer(bytes), "abc", false, true), ElementsAre(control));
}

TEST(Special, UserDefinedTokensAlwaysMatchAndTheLongestWins) {
  VocabSpec spec = tiny_byte_bpe();
  const TokenId one = add_token(spec, "\n\n", kUser);
  const TokenId two = add_token(spec, "\n\n\n", kUser);
  const TokenId control = add_token(spec, "\n\n\n\n", kControl);
  spec.scores.clear();
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_THAT(encode(*tokenizer, "a\n\n\n\n\nb"), ElementsAre('a', two, one, 'b'));
  EXPECT_THAT(encode(*tokenizer, "a\n\n\n\n\nb", false, true), ElementsAre('a', control, '\n', 'b'));
  EXPECT_EQ(decode(*tokenizer, {'a', two, one}), "a\n\n\n\n\n");
}

TEST(Special, SentencePieceBeginsAgainAfterASpecialToken) {
  VocabSpec spec = tiny_sentencepiece();
  const TokenId word = add_token(spec, "\u2581a", kNormal, 1);
  add_token(spec, "\u2581");
  const TokenId letter = add_token(spec, "a");
  EXPECT_THAT(encode(*make_tokenizer(spec), "a</s>a", false, true), ElementsAre(word, 2, word));
  spec.add_space_prefix = false;
  EXPECT_THAT(encode(*make_tokenizer(spec), "a</s>a", false, true), ElementsAre(letter, 2, letter));
}

TEST(Special, EndsAreEosEotAndTheUsualMarks) {
  VocabSpec spec = tiny_byte_bpe();
  const TokenId eos = add_token(spec, "stop", kControl);
  const TokenId eot = add_token(spec, "turn", kControl);
  const TokenId start = add_token(spec, "<|im_start|>", kControl);
  spec.eos = eos;
  spec.eot = eot;
  std::vector<TokenId> marks;
  for (const char* mark : {"<|eot_id|>", "<|im_end|>", "<|endoftext|>", "<end_of_turn>", "</s>", "<|end|>"}) {
    marks.push_back(add_token(spec, mark, kControl));
  }
  spec.scores.clear();
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_TRUE(tokenizer->is_end(eos));
  EXPECT_TRUE(tokenizer->is_end(eot));
  for (const TokenId id : marks) EXPECT_TRUE(tokenizer->is_end(id)) << spec.tokens[id];
  EXPECT_FALSE(tokenizer->is_end(start));
  EXPECT_FALSE(tokenizer->is_end('a'));
  EXPECT_FALSE(tokenizer->is_end(1u << 30));
}

TEST(Special, WithoutTypesTheIdsTell) {
  VocabSpec spec = tiny_sentencepiece();
  spec.types.clear();
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->piece(1, false), "");
  EXPECT_EQ(tokenizer->piece(1, true), "<s>");
  EXPECT_EQ(tokenizer->piece(3 + 'A', false), "A");
}

TEST(Special, DefaultsAreGgufs) {
  const VocabSpec llama = VocabSpec::with_defaults("llama", "default");
  EXPECT_TRUE(llama.add_bos && !llama.add_eos && llama.bos == 1 && llama.eos == 2 && llama.unk == 0);
  const VocabSpec t5 = VocabSpec::with_defaults("t5", "");
  EXPECT_TRUE(!t5.add_bos && t5.add_eos && t5.bos == -1 && t5.eos == 1 && t5.unk == 2);
  const VocabSpec bert = VocabSpec::with_defaults("bert", "bert-bge");
  EXPECT_TRUE(bert.add_bos && bert.add_eos && bert.cls == 101 && bert.sep == 102 && bert.lowercase);
  EXPECT_TRUE(VocabSpec::with_defaults("gpt2", "llama-bpe").add_bos);
  EXPECT_FALSE(VocabSpec::with_defaults("gpt2", "qwen2").add_bos);
}

}  // namespace
}  // namespace tessera::test
