// Vocabularies that do not fit together: bad_model, or accepted without harm; never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "golden_file.h"
#include "tiny_vocab.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void expect_refused(VocabSpec spec, Code code, const std::string& words) {
  const auto made = Tokenizer::create(std::move(spec));
  ASSERT_FALSE(made.ok()) << words;
  EXPECT_EQ(made.error().code, code) << made.error().message;
  EXPECT_THAT(made.error().message, HasSubstr(words));
  EXPECT_THAT(made.error().message, testing::Not(HasSubstr("\n")));
}

TEST(HostileVocabulary, IsRefusedByName) {
  expect_refused({}, Code::bad_model, "no tokens");
  VocabSpec spec = tiny_sentencepiece();
  spec.model = "rwkv\n";
  expect_refused(spec, Code::unsupported, "\"rwkv\\x0a\"");
  spec = tiny_byte_bpe("unheard-of");
  expect_refused(spec, Code::unsupported, "unheard-of");
  spec = tiny_sentencepiece();
  spec.scores.pop_back();
  expect_refused(spec, Code::bad_model, "258 scores for 259 tokens");
  spec = tiny_sentencepiece();
  spec.types.push_back(1);
  expect_refused(spec, Code::bad_model, "260 token types for 259 tokens");
  for (const char* model : {"llama", "t5"}) {
    spec = tiny_sentencepiece(model);
    spec.scores.clear();
    expect_refused(spec, Code::bad_model, "score");
  }
  for (const float score :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    spec = tiny_sentencepiece();
    spec.scores[7] = score;
    expect_refused(spec, Code::bad_model, "score of token 7");
  }
  for (const char* merge : {"", " ", "ab", "a ", " b"}) {
    spec = tiny_byte_bpe();
    spec.merges = {"a b", merge};
    expect_refused(spec, Code::bad_model, "merge 1");
  }
  spec = tiny_sentencepiece();
  spec.normalizer_charsmap = "abc";
  expect_refused(spec, Code::bad_model, "character map");
}

TEST(HostileVocabulary, IdsOutOfRangeAreRefused) {
  const std::pair<const char*, std::int64_t VocabSpec::*> ids[] = {
      {"BOS", &VocabSpec::bos},       {"EOS", &VocabSpec::eos}, {"unknown", &VocabSpec::unk},
      {"separator", &VocabSpec::sep}, {"CLS", &VocabSpec::cls}, {"padding", &VocabSpec::pad},
      {"EOT", &VocabSpec::eot}};
  for (const auto& [name, member] : ids) {
    for (const std::int64_t id : {std::int64_t{259}, std::int64_t{1} << 40}) {
      VocabSpec spec = tiny_sentencepiece();
      spec.*member = id;
      expect_refused(spec, Code::bad_model, std::string(name) + " token id " + std::to_string(id));
    }
    VocabSpec spec = tiny_sentencepiece();
    spec.*member = 0xFFFFFFFF;
    EXPECT_EQ(make_tokenizer(spec)->spec().*member, member == &VocabSpec::unk ? 0 : -1);
  }
}

TEST(HostileVocabulary, OfDuplicatesTheFirstCounts) {
  VocabSpec spec = tiny_byte_bpe();
  add_token(spec, "a");
  add_token(spec, "ab");
  add_token(spec, "ab");
  spec.scores.clear();
  spec.merges = {"a b", "b c", "a b"};
  EXPECT_THAT(encode(*make_tokenizer(spec), "abab"), ElementsAre(257, 257));
  spec = tiny_sentencepiece();
  spec.add_space_prefix = false;
  add_token(spec, "x");
  add_token(spec, "x");
  EXPECT_THAT(encode(*make_tokenizer(spec), "xx"), ElementsAre(259, 259));
}

TEST(HostileVocabulary, MergesOfAbsentTokensLeaveBytes) {
  VocabSpec spec = tiny_byte_bpe();
  spec.merges = {"a b", "ab c", "q\u0120 z", "abc d"};
  const TokenId whole = add_token(spec, "abcd");
  spec.scores.clear();
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_THAT(encode(*tokenizer, "abc"), ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(encode(*tokenizer, "abcd"), ElementsAre(whole));
}

TEST(HostileVocabulary, WithoutBytesNeedsAnUnknownToken) {
  VocabSpec spec;
  spec.model = "gpt2";
  spec.tokens = {"a", "<unk>"};
  auto refused = make_tokenizer(spec)->encode("ab", false, false);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::invalid_argument);
  EXPECT_THAT(refused.error().message, HasSubstr("0x62"));
  spec.unk = 1;
  EXPECT_THAT(encode(*make_tokenizer(spec), "abca"), ElementsAre(0, 1, 1, 0));
  for (const char* model : {"llama", "t5", "bert"}) {
    spec.model = model;
    spec.scores = {-1, 0};
    spec.add_space_prefix = false;
    spec.unk = -1;
    EXPECT_FALSE(make_tokenizer(spec)->encode("ab", false, false).ok()) << model;
    spec.unk = 1;
    EXPECT_EQ(encode(*make_tokenizer(spec), "zzz"), (std::vector<TokenId>{1})) << model;
  }
}

TEST(HostileVocabulary, EmptyAndOddTokensAreHarmless) {
  for (const char* model : {"llama", "t5", "gpt2", "bert"}) {
    VocabSpec spec = tiny_sentencepiece(model);
    add_token(spec, "");
    add_token(spec, "", kControl);
    add_token(spec, "", kUser);
    add_token(spec, "not a byte", kByte);
    add_token(spec, "\xFF\xE2\x96", kNormal);
    add_token(spec, std::string("\0", 1), kUser);
    add_token(spec, std::string(100000, 'a'), kUser);
    add_token(spec, "odd type", 77);
    const auto tokenizer = make_tokenizer(spec);
    ASSERT_NE(tokenizer, nullptr) << model;
    EXPECT_TRUE(tokenizer->encode(std::string(3000, 'a') + std::string("\0\xFF", 2), true, true).ok())
        << model;
    for (TokenId id = 0; id < tokenizer->size() + 2; ++id) tokenizer->piece(id, true);
  }
}

// Damages a good vocabulary at random; whatever is accepted must encode and decode without harm.
TEST(HostileVocabulary, RandomDamage) {
  std::mt19937 random(5);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const auto junk = [&] {
    std::string text(below(6), ' ');
    for (char& c : text) c = "ab \xE2\x96\x81#<>\xC4\xA0\0\xFF"[below(14)];
    return text;
  };
  int accepted = 0;
  for (const char* name : {"spm_bpe_unknown", "unigram", "byte_bpe_llama-bpe", "wordpiece_cased"}) {
    const VocabSpec good = read_golden(data_path(std::string(name) + ".json")).vocab;
    for (int round = 0; round < 60; ++round) {
      VocabSpec spec = good;
      for (std::size_t i = below(60); i > 0; --i) spec.tokens[below(spec.tokens.size())] = junk();
      for (std::size_t i = below(20); i > 0 && !spec.types.empty(); --i)
        spec.types[below(spec.types.size())] = static_cast<std::uint32_t>(below(9));
      for (std::size_t i = below(20); i > 0 && !spec.scores.empty(); --i)
        spec.scores[below(spec.scores.size())] = static_cast<float>(below(2000)) * 1e36f;
      for (std::size_t i = below(20); i > 0 && !spec.merges.empty(); --i)
        spec.merges[below(spec.merges.size())] = "a" + junk() + " b" + junk();
      for (std::size_t i = below(20); i > 0 && spec.normalizer_charsmap.size() > 4; --i) {
        spec.normalizer_charsmap[4 + below(spec.normalizer_charsmap.size() - 4)] =
            static_cast<char>(random());
      }
      if (below(3) == 0) spec.unk = static_cast<std::int64_t>(below(spec.tokens.size()));
      if (below(5) == 0) spec.tokens.resize(1 + below(spec.tokens.size()));
      const auto made = Tokenizer::create(std::move(spec));
      if (!made.ok()) continue;
      ++accepted;
      for (int i = 0; i < 8; ++i) {
        std::string text;
        while (text.size() < 60) text += junk() + "the sea";
        const auto ids = (*made)->encode(text, true, i % 2 == 0);
        if (!ids.ok()) continue;
        for (const TokenId id : *ids) ASSERT_LT(id, (*made)->size());
        decode(**made, *ids, true);
      }
    }
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace tessera::test
