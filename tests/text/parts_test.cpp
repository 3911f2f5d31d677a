// The parts that the tokenizers are made of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/text.h"
#include "text/byte_trie.h"
#include "text/pre_tokenizer.h"
#include "text/sentencepiece.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    std::string text;
    append_utf8(text, code);
    const Utf8Char c = decode_utf8(text, 0);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    ASSERT_EQ(c.valid, !surrogate) << static_cast<std::uint32_t>(code);
    ASSERT_EQ(valid_utf8(text), c.valid);
    ASSERT_TRUE(!c.valid || (c.code == code && c.bytes == text.size()));
  }
}

TEST(Utf8, ReplacesWhatUnicodeCallsMaximalSubparts) {
  EXPECT_EQ(to_valid_utf8("a\xFF\xFE"
                          "b"),
            "a\uFFFD\uFFFDb");
  EXPECT_EQ(to_valid_utf8("\xF0\x9F\x9A"
                          "x\xE2\x82"),
            "\uFFFDx\uFFFD");
  EXPECT_EQ(to_valid_utf8("\xC0\xAF\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(to_valid_utf8(std::string("\0é", 3)), std::string("\0é", 3));
  EXPECT_TRUE(decode_utf8("\xE2\x82", 0).cut);
  EXPECT_FALSE(decode_utf8("\xE2"
                           "a",
                           0)
                   .cut);
}

TEST(Unicode, ComposesAndDecomposes) {
  EXPECT_EQ(nfc("e\u0301 a\u0323\u0302 \u1100\u1161\u11A8 plain"), "\u00e9 \u1ead \uac01 plain");
  EXPECT_EQ(nfc("\u212b \u0958"), "\u00c5 \u0915\u093c");  // singletons and exclusions
  EXPECT_EQ(nfd(U"\u1ead\uac01"), U"a\u0323\u0302\u1100\u1161\u11a8");
  std::string marks;  // in the wrong order, and many
  for (int i = 0; i < 50000; ++i) marks += "\u0301\u0323";
  std::string ordered = "\u1ea1\u0301";
  for (int i = 1; i < 50000; ++i) ordered.insert(3, "\u0323");
  for (int i = 1; i < 50000; ++i) ordered += "\u0301";
  EXPECT_EQ(nfc("a" + marks), ordered);
}

TEST(ByteTrie, FindsEveryPrefixAndTheLongest) {
  const ByteTrie trie(
      {{"a", 1}, {"abc", 2}, {"", 9}, {"a", 8}, {"b\xFF", 3}, {std::string_view("\0x", 2), 4}});
  std::vector<std::uint32_t> found;
  trie.each("xabcd", 1, [&](ByteTrie::Match match) { found.push_back(match.value); });
  EXPECT_THAT(found, ElementsAre(1, 2));
  EXPECT_EQ(trie.longest("ab", 0)->value, 1u);
  EXPECT_EQ(trie.longest("b\xFF", 0)->bytes, 2u);
  EXPECT_EQ(trie.longest(std::string_view("\0x", 2), 0)->value, 4u);
  EXPECT_FALSE(trie.longest("x", 0));
  EXPECT_FALSE(trie.longest("a", 1));
  EXPECT_TRUE(ByteTrie().empty());
  EXPECT_FALSE(ByteTrie().longest("a", 0));
  const std::string long_entry(ByteTrie::kMaxEntryBytes + 1, 'z');
  EXPECT_TRUE(ByteTrie({{long_entry, 1}}).empty());
}

std::vector<std::string> words_of(const std::string& pre, std::string_view text) {
  auto made = PreTokenizer::create(pre);
  EXPECT_TRUE(made.ok());
  std::vector<std::string_view> words;
  EXPECT_TRUE(made->split(text, words).ok());
  return {words.begin(), words.end()};
}

TEST(PreTokenizer, CutsAsEachFamilyDoes) {
  const std::string text = "I'll  pay 12345!\n\n ok'S";
  EXPECT_THAT(words_of("gpt-2", text),
              ElementsAre("I", "'ll", " ", " pay", " 12345", "!", "\n\n", " ok", "'", "S"));
  EXPECT_THAT(words_of("llama-bpe", text),
              ElementsAre("I", "'ll", " ", " pay", " ", "123", "45", "!\n\n", " ok", "'S"));
  EXPECT_THAT(words_of("qwen2", text),
              ElementsAre("I", "'ll", " ", " pay", " ", "1", "2", "3", "4", "5", "!\n\n", " ok", "'S"));
  EXPECT_THAT(words_of("smollm", "a 12"), ElementsAre("a", " ", "1", "2"));
  EXPECT_THAT(words_of("gpt-4o", "HelloWorld'll/\n"), ElementsAre("Hello", "World'll", "/\n"));
  EXPECT_THAT(words_of("tekken", "HTTPServer12"), ElementsAre("HTTPServer", "1", "2"));
  EXPECT_THAT(words_of("default", "a 12345"), ElementsAre("a", " ", "123", "45"));
  EXPECT_THAT(words_of("gpt-2", ""), ElementsAre());
}

TEST(PreTokenizer, NamesWhatItKnows) {
  const auto made = PreTokenizer::create("nonsense\n");
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, Code::unsupported);
  EXPECT_THAT(made.error().message, HasSubstr("\"nonsense\\x0a\""));
  EXPECT_THAT(made.error().message, HasSubstr("llama-bpe"));
}

std::string u32s(std::initializer_list<std::uint32_t> values) {
  std::string out;
  for (const std::uint32_t value : values) {
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
  }
  return out;
}

TEST(CharsMap, RefusesSizesThatCannotBe) {
  for (const std::string& blob :
       {std::string("\1"), u32s({8}), u32s({3, 0}), u32s({0xFFFFFFFF, 0}), u32s({5, 0, 0})}) {
    const auto map = CharsMap::parse(blob);
    ASSERT_FALSE(map.ok()) << quote(blob);
    EXPECT_EQ(map.error().code, Code::bad_model);
  }
  EXPECT_TRUE(CharsMap::parse("").ok());
  EXPECT_TRUE(CharsMap::parse(u32s({0})).ok());
}

TEST(CharsMap, SurvivesAnyTrie) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const auto units = static_cast<std::uint32_t>(random() % 300);
    std::string blob = u32s({units * 4});
    for (std::uint32_t i = 0; i < units; ++i) {
      // Small offsets, with labels that often fit, lead somewhere.
      const auto unit = static_cast<std::uint32_t>(random());
      blob += u32s({random() % 4 == 0 ? unit : (unit & 0x3FF) << 10 | (unit >> 12 & 0x100) | (i & 0xFF)});
    }
    for (auto i = random() % 20; i > 0; --i) blob += static_cast<char>(random() % 3 == 0 ? 0 : 'x');
    const auto map = CharsMap::parse(blob);
    ASSERT_TRUE(map.ok());
    std::string text(300, ' ');
    for (char& c : text) c = static_cast<char>(random());
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (const auto match = map->longest(text, at)) {
        EXPECT_GT(match->bytes, 0u);
        EXPECT_LE(match->bytes, text.size() - at);
      }
    }
  }
}

TEST(SentencePiece, NormalizesSpaces) {
  VocabSpec spec;
  const auto normalize = [&](std::string_view text) {
    return SentencePieceNormalizer::create(spec)->normalize(text);
  };
  EXPECT_EQ(normalize(" a  b "), "\u2581\u2581a\u2581\u2581b\u2581");
  EXPECT_EQ(normalize("\xFF"
                      "a\xE2\x82"),
            "\u2581\uFFFDa\uFFFD\uFFFD");
  spec.remove_extra_whitespaces = true;
  EXPECT_EQ(normalize("  a  b  "), "\u2581a\u2581b");
  EXPECT_EQ(normalize("   "), "");
  spec.add_space_prefix = false;
  EXPECT_EQ(normalize("  a  b  "), "a\u2581b");
}

}  // namespace
}  // namespace tessera
