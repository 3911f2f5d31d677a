// Greedy and beam search on the reference, against a search that recomputes everything in torch.
#include "session/seq2seq_session.h"

#include <gmock/gmock.h>

#include <cmath>

#include "graph/fuse.h"
#include "reference/reference.h"
#include "support/models_dir.h"
#include "support/transformer_folder.h"

namespace tessera::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using Ids = std::vector<TokenId>;

Seq2SeqSession session_of(TransformerFiles files, const TransformerOptions& options, Progress progress = {}) {
  TransformerProgram t = must(files.build(options));
  auto walker = must(ReferenceWalker::create(std::make_shared<const Program>(fuse(*t.program))));
  return Seq2SeqSession(std::move(walker), std::move(t), std::move(progress));
}

void expect_found(const std::vector<Hypothesis>& found, const json& golden, const std::string& what) {
  ASSERT_EQ(found.size(), golden.size()) << what;
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].ids, golden[i]["ids"].get<Ids>()) << what << " hypothesis " << i;
    EXPECT_NEAR(found[i].score, golden[i]["score"].get<double>(), 2e-4) << what << " hypothesis " << i;
    EXPECT_EQ(found[i].finished, golden[i]["finished"].get<bool>()) << what << " hypothesis " << i;
  }
}

class GoldenSearch : public testing::TestWithParam<const char*> {};

TEST_P(GoldenSearch, FindsWhatTorchFinds) {
  const std::string dir = transformer_dir(GetParam());
  const json golden = read_json(dir + "/golden.json");
  const auto most = golden["max_tokens"].get<std::uint32_t>();
  Seq2SeqSession session =
      session_of(transformer_files(dir), {.beams = 4, .max_source = 12, .max_target = most});
  for (const json& c : golden["cases"]) {
    const Ids source = c["source"], prefix = c["prefix"];
    for (const auto& [key, beams, forced] :
         {std::tuple("greedy", 1u, false), std::tuple("beam_4", 4u, false),
          std::tuple("prefix_greedy", 1u, true), std::tuple("prefix_beam_4", 4u, true)}) {
      TranslateOptions options{.beams = beams};
      if (forced) options.prefix = prefix;
      const auto found = session.translate(source, options);
      ASSERT_TRUE(found.ok()) << found.error().message;
      expect_found(*found, c[key], c["text"].get<std::string>() + " " + key);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenSearch, testing::Values("pre", "post"));

TEST(Seq2Seq, RefusesWhatDoesNotFit) {
  Seq2SeqSession session =
      session_of(transformer_files(transformer_dir("pre")), {.beams = 2, .max_source = 4, .max_target = 3});
  const auto refusal = [&](const Ids& source, const TranslateOptions& options = {}) {
    const auto found = session.translate(source, options);
    EXPECT_FALSE(found.ok());
    EXPECT_EQ(found.error().code, Code::invalid_argument);
    return found.error().message;
  };
  EXPECT_THAT(refusal({}), HasSubstr("no tokens"));
  EXPECT_THAT(refusal({3, 3, 3, 3, 3}), HasSubstr("5 tokens; at most 4"));
  EXPECT_THAT(refusal({99}), HasSubstr("source id 99"));
  EXPECT_THAT(refusal({3}, {.beams = 3}), HasSubstr("made for 1 to 2"));
  EXPECT_THAT(refusal({3}, {.beams = 0}), HasSubstr("0 beams"));
  EXPECT_THAT(refusal({3}, {.max_tokens = 4}), HasSubstr("at most 3"));
  const Ids four{3, 3, 3, 3}, outside{50};
  EXPECT_THAT(refusal({3}, {.prefix = four}), HasSubstr("4 tokens, more than the 3"));
  EXPECT_THAT(refusal({3}, {.prefix = outside}), HasSubstr("prefix id 50"));
}

TEST(Seq2Seq, LengthsAndPrefixesUpToTheEnd) {
  Seq2SeqSession session =
      session_of(transformer_files(transformer_dir("post")), {.beams = 2, .max_source = 4, .max_target = 3});
  const Ids three{4, 5, 6};
  const auto forced = session.translate(Ids{3, 4}, {.beams = 2, .prefix = three});
  ASSERT_TRUE(forced.ok());
  ASSERT_EQ(forced->size(), 1u);
  EXPECT_EQ((*forced)[0].ids, three);
  EXPECT_FALSE((*forced)[0].finished);
  const auto one = session.translate(Ids{3, 4}, {.max_tokens = 1});
  ASSERT_TRUE(one.ok());
  EXPECT_LE((*one)[0].ids.size(), 1u);
}

TEST(Seq2Seq, ProgressCancels) {
  int calls = 0;
  Seq2SeqSession session = session_of(transformer_files(transformer_dir("post")), {.beams = 1},
                                      [&](std::string_view stage, std::uint64_t, std::uint64_t) {
                                        EXPECT_EQ(stage, "translate");
                                        return ++calls < 3;
                                      });
  EXPECT_EQ(session.translate(Ids{3, 4}, {}).error().code, Code::cancelled);
}

// The words that the authors' own tests assert, greedy and with four beams.
TEST(Seq2Seq, TransliteratesAsItsAuthorsSay) {
  TSR_NEED_MODELS();
  const std::string dir = models_dir() + "/aren-transliteration";
  const TransformerFiles folder = transformer_files(dir);
  Seq2SeqSession session = session_of(folder, {.beams = 4, .max_source = 16, .max_target = 24});
  const json golden = read_json(dir + "/golden.json");
  for (const json& c : golden["numpy_float64"]) {
    std::string text, forced;
    for (const auto& piece : c["src"]) text += piece.get<std::string>();
    if (c.contains("forced_prefix"))
      for (const auto& piece : c["forced_prefix"]) forced += piece.get<std::string>() + " ";
    const Ids source = must(folder.source.encode(text)), prefix = must(folder.target.encode(forced));
    if (c.contains("src_ids")) {
      EXPECT_EQ(source, c["src_ids"].get<Ids>());
    }
    for (const std::uint32_t beams : {1u, 4u}) {
      const auto found = must(session.translate(source, {.beams = beams, .prefix = prefix}));
      ASSERT_FALSE(found.empty());
      EXPECT_TRUE(found[0].finished);
      const double sum = c["sum_logprob"];
      if (beams == 1) {
        EXPECT_EQ(folder.target.decode(found[0].ids), c["greedy"].get<std::string>());
        EXPECT_NEAR(found[0].score, sum, 1e-4);
      } else {
        EXPECT_GE(found[0].score, sum - 1e-4);
      }
    }
  }
  const auto best = [&](const std::string& text, const std::string& forced) {
    const Ids source = must(folder.source.encode(text)), prefix = must(folder.target.encode(forced));
    return folder.target.decode(must(session.translate(source, {.beams = 4, .prefix = prefix})).at(0).ids);
  };
  const json asserted = read_json(dir + "/golden.json")["asserted_by_ctranslate2_tests"];
  for (const auto& [text, word] : asserted.items()) {
    if (text.starts_with("prefix")) continue;
    EXPECT_EQ(best(text, ""), word.get<std::string>());
  }
  EXPECT_EQ(best("\u0622\u062a\u0632\u0645\u0648\u0646", "a t s"), "atsumon");
}

}  // namespace
}  // namespace tessera::test
