#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
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

// tests/data/package.gguf is written by tools/goldens/files.py with the `gguf` package.
TEST(Gguf, ReadsWhatThePackageWrites) {
  auto source = ByteSource::open(TESSERA_SOURCE_DIR "/tests/data/package.gguf");
  ASSERT_TRUE(source.ok()) << source.error().message;
  auto opened = ModelFile::open(*source);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const ModelFile& file = *opened;
  EXPECT_EQ(*file.get_uint("t.u8"), 200u);
  EXPECT_EQ(*file.get_uint("t.u16"), 60000u);
  EXPECT_EQ(*file.get_uint("t.u32"), 4000000000u);
  EXPECT_EQ(*file.get_uint("t.u64"), (std::uint64_t{1} << 63) + 1);
  EXPECT_EQ(std::get<std::int64_t>(file.metadata().at("t.i8").value), -100);
  EXPECT_EQ(std::get<std::int64_t>(file.metadata().at("t.i16").value), -30000);
  EXPECT_EQ(std::get<std::int64_t>(file.metadata().at("t.i32").value), -2000000000);
  EXPECT_EQ(std::get<std::int64_t>(file.metadata().at("t.i64").value), -(std::int64_t{1} << 62));
  EXPECT_EQ(*file.get_float("t.f32"), static_cast<double>(0.1f));
  EXPECT_EQ(*file.get_float("t.f64"), 0.1);
  EXPECT_TRUE(*file.get_bool("t.bool", false));
  EXPECT_EQ(*file.get_string("t.string"), "h\xc3\xa9llo");
  EXPECT_THAT(std::get<std::vector<std::int64_t>>(file.metadata().at("t.ints").value), ElementsAre(1, -2, 3));
  EXPECT_THAT(**file.get_floats("t.floats"), ElementsAre(0.5, -1.5));
  EXPECT_THAT(**file.get_strings("t.strings"), ElementsAre("a", "", "\xe4\xb8\xad"));
  EXPECT_THAT(std::get<std::vector<bool>>(file.metadata().at("t.bools").value), ElementsAre(true, false));
  EXPECT_THAT(file.find("cube")->shape, ElementsAre(2, 3, 4));
  ASSERT_EQ(file.unsupported_tensors().size(), 1u);
  EXPECT_EQ(file.unsupported_tensors()[0].type, "Q3_K");
  for (const auto& [name, type] :
       {std::pair{"q4_k", DType::q4_k}, {"q5_k", DType::q5_k}, {"q6_k", DType::q6_k}}) {
    const TensorInfo* tensor = file.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->dtype, type);
    EXPECT_THAT(tensor->shape, ElementsAre(3, 256));
    std::vector<std::byte> bytes(3 * info(type).block_bytes);
    ASSERT_TRUE(file.read(*tensor, 0, bytes).ok());
    for (std::size_t i = 0; i < bytes.size(); ++i)
      ASSERT_EQ(bytes[i], static_cast<std::byte>(i & 255)) << name;
  }

  std::vector<float> row(128);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = (static_cast<float>(i) - 60) / 8;
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
                           DType::q5_0, DType::q5_1}) {
    std::string name(info(type).name);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    const TensorInfo* tensor = file.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->dtype, type);
    EXPECT_THAT(tensor->shape, ElementsAre(2, 64));
    std::vector<std::byte> bytes(tensor->bytes), expected(file_bytes(128, info(type)));
    ASSERT_TRUE(file.read(*tensor, 0, bytes).ok());
    encode_row(type, row, expected);
    EXPECT_EQ(bytes, expected) << name;
  }
}

TEST(Gguf, RealVocabularies) {
  TSR_NEED_MODELS();
  for (const char* name : {"llama-spm", "phi-3", "gpt-2", "bert-bge"}) {
    auto source = ByteSource::open(test::models_dir() + "/tokenizers/ggml-vocab-" + name + ".gguf");
    ASSERT_TRUE(source.ok()) << source.error().message;
    auto file = ModelFile::open(*source);
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(file->tensors().size(), 0u);
    EXPECT_GT((*file->get_strings("tokenizer.ggml.tokens"))->size(), 30000u);
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
