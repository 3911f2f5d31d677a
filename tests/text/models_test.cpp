// Released vocabularies, from the folder that TESSERA_MODELS names.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include "gguf_vocab.h"
#include "golden_file.h"
#include "sentencepiece_file.h"
#include "support/models_dir.h"

namespace tessera::test {
namespace {

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.is_open()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string tokenizers_dir() { return models_dir() + "/tokenizers/"; }

// Texts stand between lines of "__ggml_vocab_test__"; line n of the .out file holds the ids of text n.
std::vector<GoldenCase> read_ggml_cases(const std::string& path) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<GoldenCase> cases;
  std::istringstream ids(slurp(path + ".out"));
  std::string input = slurp(path + ".inp");
  for (std::size_t begin = 0;;) {
    const std::size_t end = std::min(input.find(separator, begin), input.size());
    std::string line;
    if (!std::getline(ids, line)) break;
    GoldenCase golden;
    golden.text = input.substr(begin, end - begin);
    golden.name = "case " + std::to_string(cases.size()) + ", '" + golden.text + "'";
    std::istringstream numbers(line);
    golden.ids.assign(std::istream_iterator<TokenId>(numbers), {});
    cases.push_back(std::move(golden));
    if (end == input.size()) break;
    begin = end + separator.size();
  }
  EXPECT_FALSE(std::getline(ids, input)) << path << ": more ids than texts";
  return cases;
}

class GgmlVocab : public testing::TestWithParam<const char*> {};

TEST_P(GgmlVocab, GivesTheListedIds) {
  TSR_NEED_MODELS();
  const std::string path = tokenizers_dir() + GetParam();
  auto spec = read_gguf_vocab(path);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  const bool lossless = spec->model != "bert";
  const auto tokenizer = make_tokenizer(*std::move(spec));
  ASSERT_NE(tokenizer, nullptr);
  const auto cases = read_ggml_cases(path);
  EXPECT_GT(cases.size(), 40u);
  for (const GoldenCase& golden : cases) {
    expect_case(*tokenizer, golden);
    if (lossless) {
      EXPECT_EQ(decode(*tokenizer, golden.ids), golden.text) << golden.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Text, GgmlVocab,
                         testing::Values("ggml-vocab-gpt-2.gguf", "ggml-vocab-llama-spm.gguf",
                                         "ggml-vocab-phi-3.gguf", "ggml-vocab-bert-bge.gguf"),
                         [](const auto& vocab) {
                           std::string name = std::string(vocab.param).substr(11);
                           name.resize(name.size() - 5);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(SentencePieceModel, GivesTheGoldenIds) {
  TSR_NEED_MODELS();
  const std::string path = tokenizers_dir() + "test_model.model";
  auto spec = read_sentencepiece_model(slurp(path));
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  const auto tokenizer = make_tokenizer(*std::move(spec));
  ASSERT_NE(tokenizer, nullptr);
  const GoldenFile released = read_golden(path + ".golden.json");
  EXPECT_FALSE(released.cases.empty());
  for (const GoldenCase& golden : released.cases) expect_case(*tokenizer, golden);
  const GoldenFile awkward = read_golden(data_path("sentencepiece_test_model.json"));
  EXPECT_FALSE(awkward.cases.empty());
  for (const GoldenCase& golden : awkward.cases) expect_case(*tokenizer, golden);
}

TEST(GgmlVocabEnds, AreFound) {
  TSR_NEED_MODELS();
  auto spec = read_gguf_vocab(tokenizers_dir() + "ggml-vocab-phi-3.gguf");
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  const auto tokenizer = make_tokenizer(*std::move(spec));
  ASSERT_NE(tokenizer, nullptr);
  for (const TokenId id : {2u, 32000u, 32007u})
    EXPECT_TRUE(tokenizer->is_end(id)) << tokenizer->spec().tokens[id];
  EXPECT_FALSE(tokenizer->is_end(32010));  // <|user|>
  EXPECT_EQ(encode(*tokenizer, "<|user|>\nHi<|end|>", true, true),
            (std::vector<TokenId>{1, 32010, 29871, 13, 18567, 32007}));
}

}  // namespace
}  // namespace tessera::test
