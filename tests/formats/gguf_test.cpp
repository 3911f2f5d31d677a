#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "formats/model_file.h"
#include "support/gguf_builder.h"
#include "support/models_dir.h"

namespace tessera {
namespace {

using test::GgufBuilder;
using test::source_of;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), -3.0f);
  return values;
}

GgufBuilder small() {
  GgufBuilder b;
  b.string("general.architecture", "llama").u32("llama.block_count", 2).i32("a.negative", -7);
  b.f32("llama.epsilon", 1e-5f).boolean("tokenizer.ggml.add_bos_token", true);
  b.strings("tokenizer.ggml.tokens", {"<unk>", "a\xff", ""}).floats("tokenizer.ggml.scores", {0, -1.5f, 2});
  b.i32s("tokenizer.ggml.token_type", {2, 1, 6});
  b.tensor("norm.weight", {32}, ramp(32)).tensor("output.weight", {3, 64}, ramp(192), DType::q8_0);
  return b;
}

TEST(Gguf, ReadsMetadataAndTensors) {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufBuilder b = small();
    b.version = version;
    auto opened = ModelFile::open(source_of(b.build()));
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    const ModelFile& file = *opened;
    EXPECT_EQ(file.kind(), FileKind::gguf);
    EXPECT_EQ(file.version(), version);
    EXPECT_EQ(*file.get_string("general.architecture"), "llama");
    EXPECT_EQ(*file.get_uint("llama.block_count"), 2u);
    EXPECT_EQ(*file.get_uint("absent", 5), 5u);
    EXPECT_EQ(*file.get_float("llama.epsilon"), static_cast<double>(1e-5f));
    EXPECT_TRUE(*file.get_bool("tokenizer.ggml.add_bos_token", false));
    EXPECT_THAT(**file.get_strings("tokenizer.ggml.tokens"), ElementsAre("<unk>", "a\xff", ""));
    EXPECT_THAT(**file.get_floats("tokenizer.ggml.scores"), ElementsAre(0, -1.5, 2));
    EXPECT_THAT(*file.get_uints("tokenizer.ggml.token_type"), ElementsAre(2, 1, 6));
    EXPECT_EQ(*file.get_strings("absent"), nullptr);

    ASSERT_EQ(file.tensors().size(), 2u);
    const TensorInfo* matrix = file.find("output.weight");
    ASSERT_NE(matrix, nullptr);
    EXPECT_EQ(matrix->dtype, DType::q8_0);
    EXPECT_THAT(matrix->shape, ElementsAre(3, 64));
    EXPECT_EQ(matrix->elems(), 192u);
    EXPECT_EQ(matrix->bytes, 6 * 34u);
    std::vector<std::byte> bytes(matrix->bytes);
    ASSERT_TRUE(file.read(*matrix, 0, bytes).ok());
    EXPECT_EQ(bytes, b.tensors[1].data);
  }
}

TEST(Gguf, RealModel) {
  TSR_NEED_MODELS();
  auto source = ByteSource::open(test::models_dir() + "/tinystories-260k/tinyllm.gguf");
  ASSERT_TRUE(source.ok()) << source.error().message;
  auto file = ModelFile::open(*source);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(*file->get_string("general.architecture"), "llama");
  EXPECT_EQ((*file->get_strings("tokenizer.ggml.tokens"))->size(), 512u);
  ASSERT_NE(file->find("token_embd.weight"), nullptr);
  EXPECT_THAT(file->find("token_embd.weight")->shape, ElementsAre(512, 64));
}

}  // namespace
}  // namespace tessera
