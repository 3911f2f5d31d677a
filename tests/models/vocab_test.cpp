#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "models/decoder.h"
#include "support/gguf_builder.h"
#include "support/models_dir.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

std::vector<std::string> tokens(std::size_t n) {
  std::vector<std::string> list;
  for (std::size_t i = 0; i < n; ++i) list.push_back("t" + std::to_string(i));
  return list;
}

Result<VocabSpec> read(const GgufBuilder& b) {
  TSR_TRY(const ModelFile file, ModelFile::open(source_of(b.build())));
  return read_vocab(file);
}

TEST(Vocab, ReadsEveryField) {
  GgufBuilder b;
  b.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "qwen2");
  b.strings("tokenizer.ggml.tokens", tokens(4)).floats("tokenizer.ggml.scores", {0, -1, -2.5f, 3});
  b.i32s("tokenizer.ggml.token_type", {1, 2, 3, 6}).strings("tokenizer.ggml.merges", {"a b", "c d"});
  b.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
  b.u32("tokenizer.ggml.unknown_token_id", 0).u32("tokenizer.ggml.seperator_token_id", 3);
  b.u32("tokenizer.ggml.padding_token_id", 0xffffffffu).u32("tokenizer.ggml.eot_token_id", 3);
  b.boolean("tokenizer.ggml.add_bos_token", true).boolean("tokenizer.ggml.add_space_prefix", false);
  b.boolean("tokenizer.ggml.remove_extra_whitespaces", true);
  b.array("tokenizer.ggml.precompiled_charsmap", 1, 2).put(std::int8_t{-1}).put(std::int8_t{65});
  const auto v = read(b);
  ASSERT_TRUE(v.ok()) << v.error().message;
  EXPECT_EQ(v->model, "gpt2");
  EXPECT_EQ(v->pre, "qwen2");
  EXPECT_EQ(v->tokens, tokens(4));
  EXPECT_THAT(v->scores, testing::ElementsAre(0, -1, -2.5f, 3));
  EXPECT_THAT(v->types, testing::ElementsAre(1, 2, 3, 6));
  EXPECT_THAT(v->merges, testing::ElementsAre("a b", "c d"));
  EXPECT_EQ(v->bos, 1);
  EXPECT_EQ(v->eos, 2);
  EXPECT_EQ(v->unk, 0);
  EXPECT_EQ(v->sep, 3);
  EXPECT_EQ(v->pad, -1);
  EXPECT_EQ(v->cls, -1);
  EXPECT_EQ(v->eot, 3);
  EXPECT_TRUE(v->add_bos);
  EXPECT_FALSE(v->add_eos);
  EXPECT_FALSE(v->add_space_prefix);
  EXPECT_TRUE(v->remove_extra_whitespaces);
  EXPECT_EQ(v->normalizer_charsmap,
            "\xff"
            "A");
}

TEST(Vocab, DefaultsThatAreNoTokensAreNone) {
  GgufBuilder b;
  b.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", tokens(2));
  const auto v = read(b);
  ASSERT_TRUE(v.ok()) << v.error().message;
  EXPECT_EQ(v->pre, "default");
  EXPECT_EQ(v->unk, 0);
  EXPECT_EQ(v->bos, 1);
  EXPECT_EQ(v->eos, -1);
  EXPECT_TRUE(v->add_bos);
  EXPECT_TRUE(v->scores.empty());
}

TEST(Vocab, BertMayCallItsClsBos) {
  GgufBuilder b;
  b.string("tokenizer.ggml.model", "bert").strings("tokenizer.ggml.tokens", tokens(200));
  EXPECT_EQ(read(b)->cls, 101);
  b.u32("tokenizer.ggml.bos_token_id", 7);
  EXPECT_EQ(read(b)->cls, 7);
}

TEST(Vocab, FaultsAreNamed) {
  struct Fault {
    std::function<void(GgufBuilder&)> plant;
    const char* message;
  };
  const std::vector<Fault> faults{
      {[](GgufBuilder& b) { b.string("tokenizer.ggml.tokens", "a"); }, "tokenizer.ggml.tokens"},
      {[](GgufBuilder&) {}, "tokenizer.ggml.tokens is missing or empty"},
      {[](GgufBuilder& b) { b.strings("tokenizer.ggml.tokens", {}); },
       "tokenizer.ggml.tokens is missing or empty"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(3)).floats("tokenizer.ggml.scores", {1});
       },
       "tokenizer.ggml.scores has 1 entries for 3 tokens"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(1))
             .floats("tokenizer.ggml.scores", {std::numeric_limits<float>::quiet_NaN()});
       },
       "tokenizer.ggml.scores holds a value that is not finite"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(3)).i32s("tokenizer.ggml.token_type", {1, 2, 3, 4});
       },
       "tokenizer.ggml.token_type has 4 entries for 3 tokens"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(1)).i32s("tokenizer.ggml.token_type", {7});
       },
       "tokenizer.ggml.token_type holds 7"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(3)).u32("tokenizer.ggml.eos_token_id", 3);
       },
       "tokenizer.ggml.eos_token_id is 3, but there are 3 tokens"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(3)).u32("tokenizer.ggml.add_bos_token", 1);
       },
       "tokenizer.ggml.add_bos_token"},
      {[](GgufBuilder& b) {
         b.strings("tokenizer.ggml.tokens", tokens(3)).i32s("tokenizer.ggml.precompiled_charsmap", {999});
       },
       "tokenizer.ggml.precompiled_charsmap is not an array of bytes"},
  };
  for (const Fault& fault : faults) {
    GgufBuilder b;
    b.string("tokenizer.ggml.model", "llama");
    fault.plant(b);
    const auto v = read(b);
    ASSERT_FALSE(v.ok()) << fault.message;
    EXPECT_EQ(v.error().code, Code::bad_model);
    EXPECT_THAT(v.error().message, HasSubstr(fault.message));
  }
  GgufBuilder none;
  none.u32("general.quantization_version", 2);
  EXPECT_THAT(read(none).error().message, HasSubstr("tokenizer.ggml.model"));
}

TEST(Vocab, RealFile) {
  TSR_NEED_MODELS();
  auto source = ByteSource::open(models_dir() + "/tinystories-260k/tinyllm.gguf");
  ASSERT_TRUE(source.ok());
  auto file = ModelFile::open(*source);
  ASSERT_TRUE(file.ok());
  const auto v = read_vocab(*file);
  ASSERT_TRUE(v.ok()) << v.error().message;
  EXPECT_EQ(v->model, "llama");
  EXPECT_EQ(v->tokens.size(), 512u);
  EXPECT_EQ(v->bos, 1);
  EXPECT_EQ(v->eos, 2);
  EXPECT_EQ(v->sep, -1);
}

}  // namespace
}  // namespace tessera::test
