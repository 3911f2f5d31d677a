#include "text/token_list.h"

#include <gmock/gmock.h>

namespace tessera::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<TokenId>;

TokenList parse(const std::string& file) {
  auto list = TokenList::parse(file, "vocabulary.txt");
  EXPECT_TRUE(list.ok()) << list.error().message;
  return list.ok() ? *std::move(list) : TokenList{};
}
Ids encode(const TokenList& list, const std::string& text) {
  const auto ids = list.encode(text);
  EXPECT_TRUE(ids.ok()) << ids.error().message;
  return ids.ok() ? *ids : Ids{};
}
std::string refusal(const TokenList& list, const std::string& text) {
  const auto ids = list.encode(text);
  EXPECT_FALSE(ids.ok());
  return ids.ok() ? "" : ids.error().message;
}

TEST(TokenList, Characters) {
  const TokenList list = parse("<blank>\n<s>\n</s>\na\n\xC3\xA9\nb\n<\n");
  EXPECT_EQ(list.size(), 7u);
  EXPECT_FALSE(list.words());
  EXPECT_THAT(encode(list, "ab\xC3\xA9"), ElementsAre(3, 5, 4));
  EXPECT_THAT(encode(list, " a  b\t\xC3\xA9\n"), ElementsAre(3, 5, 4));
  EXPECT_THAT(encode(list, ""), ElementsAre());
  EXPECT_EQ(list.decode(Ids{1, 3, 4, 0, 5, 2, 99}),
            "a\xC3\xA9"
            "b");
  EXPECT_THAT(refusal(list, "a<s>"), HasSubstr("character \"s\" (U+0073) at byte 2"));
  EXPECT_THAT(refusal(list, "\xC3\xA9\xE4\xB8\xAD"),
              testing::AllOf(HasSubstr("U+4E2D"), HasSubstr("vocabulary.txt")));
  EXPECT_THAT(refusal(list, "a\xff"), HasSubstr("not UTF-8"));
}

TEST(TokenList, ASpaceThatIsAToken) {
  const TokenList list = parse("a\n \nb");
  EXPECT_THAT(encode(list, "a  b"), ElementsAre(0, 1, 1, 2));
  EXPECT_EQ(list.decode(Ids{0, 1, 2}), "a b");
}

TEST(TokenList, Words) {
  const TokenList list = parse("<unk>\r\none\r\ntwo\r\n10\r\n");
  EXPECT_TRUE(list.words());
  EXPECT_THAT(encode(list, "  two 10 one one1"), ElementsAre(2, 3, 1, 0));
  EXPECT_EQ(list.decode(Ids{2, 0, 3}), "two 10");
}

TEST(TokenList, UnknownCharacters) {
  const TokenList list = parse("a\n<unk>\n");
  EXPECT_THAT(encode(list, "xa"), ElementsAre(1, 0));
  EXPECT_THAT(list.encode_exactly("ax").error().message, HasSubstr("\"x\" (U+0078) at byte 1"));
}

TEST(TokenList, AModelMayHaveOneMoreForTheUnknown) {
  TokenList list = parse("a\nb\n");
  ASSERT_TRUE(list.fit(2).ok());
  EXPECT_FALSE(list.encode("ax").ok());
  EXPECT_THAT(list.fit(4).error().message, HasSubstr("\"vocabulary.txt\" has 2 tokens, but"));
  EXPECT_FALSE(list.fit(1).ok());
  ASSERT_TRUE(list.fit(3).ok());
  EXPECT_THAT(encode(list, "ax"), ElementsAre(0, 2));
  EXPECT_EQ(list.decode(Ids{0, 2, 1}), "ab");
  EXPECT_FALSE(list.fit(4).ok());
}

TEST(TokenList, TheFirstOfEqualTokensAndEmptyLines) {
  const TokenList list = parse("a\n\na\nb\n\n");
  EXPECT_EQ(list.size(), 5u);
  EXPECT_THAT(encode(list, "ab"), ElementsAre(0, 3));
  EXPECT_EQ(list.decode(Ids{2, 1, 3}), "ab");
}

TEST(TokenList, BadFiles) {
  EXPECT_THAT(TokenList::parse("", "v").error().message, HasSubstr("no tokens"));
  EXPECT_THAT(TokenList::parse("a\n\xff\n", "v").error().message, HasSubstr("line 2"));
}

}  // namespace
}  // namespace tessera::test
