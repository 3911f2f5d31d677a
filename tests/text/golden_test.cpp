// Every family against the reference libraries' ids for awkward texts.
#include <gtest/gtest.h>

#include "golden_file.h"

namespace tessera::test {
namespace {

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, GivesTheReferencesIds) {
  const GoldenFile file = read_golden(data_path(std::string(GetParam()) + ".json"));
  ASSERT_FALSE(file.cases.empty());
  const auto tokenizer = make_tokenizer(file.vocab);
  ASSERT_NE(tokenizer, nullptr);
  for (const GoldenCase& golden : file.cases) expect_case(*tokenizer, golden);
}

INSTANTIATE_TEST_SUITE_P(Text, Golden,
                         testing::Values("spm_bpe_bytes", "spm_bpe_unknown", "unigram", "unigram_bytes",
                                         "byte_bpe_gpt-2", "byte_bpe_llama-bpe", "byte_bpe_qwen2",
                                         "byte_bpe_smollm", "byte_bpe_gpt-4o", "byte_bpe_tekken",
                                         "byte_bpe_default", "wordpiece_uncased", "wordpiece_cased"),
                         [](const auto& vocab) {
                           std::string name = vocab.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace tessera::test
