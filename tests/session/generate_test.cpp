#include "session/generate.h"

#include "session/fake_walker.h"
#include "support/refusal.h"
#include "text/tiny_vocab.h"

namespace tessera::test {
namespace {

constexpr TokenId kBos = 1, kEos = 2, kFirstByte = 3;

// The byte tokens of a text.
std::vector<TokenId> spell(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(kFirstByte + static_cast<unsigned char>(c));
  return ids;
}

struct Outcome {
  Stop stop{};
  std::string text;
  std::vector<std::string> pieces;
  std::vector<TokenId> ids;
};

class Generate : public testing::Test {
 protected:
  void SetUp() override {
    auto made = Tokenizer::create(tiny_sentencepiece());
    ASSERT_TRUE(made.ok()) << made.error().message;
    tokenizer_ = *std::move(made);
  }
  Result<Stop> try_run(FakeSession& f, Outcome& out, GenerateOptions options) {
    if (!options.on_text)
      options.on_text = [&out](std::string_view text) {
        EXPECT_TRUE(valid_utf8(text)) << quote(text);
        out.pieces.emplace_back(text);
        out.text += text;
        return false;
      };
    options.on_token = [&out](TokenId id) {
      out.ids.push_back(id);
      return false;
    };
    return Generator(f.session, *tokenizer_).run(options);
  }
  // After BOS, in a context of 12.
  Outcome run(const std::vector<TokenId>& script, GenerateOptions options = {}) {
    FakeSession f(script);
    EXPECT_TRUE(f.session.append(std::vector<TokenId>{kBos}).ok());
    Outcome out;
    const auto stop = try_run(f, out, std::move(options));
    EXPECT_TRUE(stop.ok()) << stop.error().message;
    if (stop.ok()) out.stop = *stop;
    return out;
  }
  static GenerateOptions most(std::uint32_t n, std::vector<std::string> stops = {}) {
    GenerateOptions options;
    options.max_tokens = n;
    options.stop_texts = std::move(stops);
    return options;
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(Generate, StopsAtTheLength) {
  const Outcome out = run(spell("abcdef"), most(3));
  EXPECT_EQ(out.stop, Stop::length);
  EXPECT_EQ(out.text, "abc");
  EXPECT_EQ(out.pieces.size(), 3u);  // as it comes
  EXPECT_EQ(out.ids, spell("abc"));
}

TEST_F(Generate, NoTokensAtAll) {
  const Outcome out = run(spell("abc"), most(0));
  EXPECT_EQ(out.stop, Stop::length);
  EXPECT_TRUE(out.ids.empty());
}

TEST_F(Generate, StopsAtAnEndToken) {
  std::vector<TokenId> script = spell("ab");
  script.push_back(kEos);
  script.push_back(spell("c")[0]);
  const Outcome out = run(script, most(10));
  EXPECT_EQ(out.stop, Stop::eos);
  EXPECT_EQ(out.text, "ab");
  EXPECT_EQ(out.ids.back(), kEos);
}

TEST_F(Generate, GoesPastAnEndTokenWhenTold) {
  std::vector<TokenId> script = spell("ab");
  script.push_back(kEos);
  script.push_back(spell("c")[0]);
  GenerateOptions options = most(4);
  options.ignore_eos = true;
  const Outcome out = run(script, options);
  EXPECT_EQ(out.stop, Stop::length);
  EXPECT_EQ(out.text, "abc");
}

TEST_F(Generate, StopsAtATextAcrossTokens) {
  const Outcome out = run(spell("one\n\ntwo"), most(11, {"\n\n"}));
  EXPECT_EQ(out.stop, Stop::text);
  EXPECT_EQ(out.text, "one");
  EXPECT_EQ(out.ids.size(), 5u);  // and no token more is made
}

TEST_F(Generate, TextThatWasHeldBackComesAtTheEnd) {
  const Outcome out = run(spell("one\n"), most(4, {"\n\n"}));
  EXPECT_EQ(out.stop, Stop::length);
  EXPECT_EQ(out.text, "one\n");
}

TEST_F(Generate, NoHalfCharacters) {
  const Outcome out = run(spell("a\u20ac\u00e9"), most(6));
  EXPECT_EQ(out.text, "a\u20ac\u00e9");
  EXPECT_EQ(out.pieces, (std::vector<std::string>{"a", "\u20ac", "\u00e9"}));
}

TEST_F(Generate, AStopOfCharactersThatComeInBytes) {
  const Outcome out = run(spell("a\u20ac\u20acb"), most(8, {"\u20ac\u20ac"}));
  EXPECT_EQ(out.stop, Stop::text);
  EXPECT_EQ(out.text, "a");
}

// A character that is split between two calls is held, and comes whole with the second.
TEST_F(Generate, AnEndInsideACharacter) {
  const Outcome plain = run(spell("a\xe2\x82"), most(3));
  EXPECT_EQ(plain.stop, Stop::length);
  EXPECT_EQ(plain.text, "a");
  FakeSession f(spell("a\u20acb"));
  ASSERT_TRUE(f.session.append(std::vector<TokenId>{kBos}).ok());
  Generator generator(f.session, *tokenizer_);
  std::string text;
  GenerateOptions options = most(2);
  options.on_text = [&text](std::string_view more) {
    text += more;
    return false;
  };
  for (const char* wanted : {"a", "a\u20ac"}) {
    ASSERT_TRUE(generator.run(options).ok());
    EXPECT_EQ(text, wanted);
  }
}

TEST_F(Generate, StopsWhenTheContextIsFull) {
  const Outcome out = run(spell("abcdefghijklmnop"), most(100));
  EXPECT_EQ(out.stop, Stop::context);
  EXPECT_EQ(out.text, "abcdefghijkl");  // one for each of the 12 places
}

TEST_F(Generate, StopsWhenTheCallbackSaysSo) {
  GenerateOptions options = most(10);
  std::string text;
  options.on_text = [&](std::string_view piece) {
    text += piece;
    return text == "ab";
  };
  const Outcome out = run(spell("abcdef"), options);
  EXPECT_EQ(out.stop, Stop::callback);
  EXPECT_EQ(text, "ab");
  EXPECT_EQ(out.ids.size(), 2u);
}

TEST_F(Generate, WithoutCallbacks) {
  FakeSession f(spell("abc"));
  ASSERT_TRUE(f.session.append(std::vector<TokenId>{kBos}).ok());
  GenerateOptions options;
  options.max_tokens = 3;
  const auto stop = Generator(f.session, *tokenizer_).run(options);
  ASSERT_TRUE(stop.ok());
  EXPECT_EQ(*stop, Stop::length);
}

TEST_F(Generate, ASecondCallGoesOn) {
  FakeSession f(spell("abcd"));
  ASSERT_TRUE(f.session.append(std::vector<TokenId>{kBos}).ok());
  Outcome first, second;
  ASSERT_TRUE(try_run(f, first, most(2)).ok());
  ASSERT_TRUE(try_run(f, second, most(2)).ok());
  EXPECT_EQ(first.text + second.text, "abcd");
}

TEST_F(Generate, ErrorsComeThrough) {
  FakeSession f({spell("a")[0], FakeWalker::kNaN});
  Outcome out;
  expect_refused(try_run(f, out, most(4)), Code::invalid_argument, {"append"});
  ASSERT_TRUE(f.session.append(std::vector<TokenId>{kBos}).ok());
  expect_refused(try_run(f, out, most(4)), Code::numeric, {"NaN"});
  EXPECT_EQ(out.text, "a");
}

}  // namespace
}  // namespace tessera::test
