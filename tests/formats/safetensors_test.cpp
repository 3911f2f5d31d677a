#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "formats/model_file.h"
#include "support/allocations.h"
#include "support/models_dir.h"
#include "support/refusal.h"
#include "support/safetensors_builder.h"

namespace tessera {
namespace {

using test::expect_refused;
using test::SafetensorsBuilder;
using test::source_of;
using testing::ElementsAre;

void refuse(const std::vector<std::byte>& bytes, const std::vector<std::string>& words,
            Code code = Code::bad_model) {
  expect_refused(ModelFile::open(source_of(bytes)), code, words);
}
void refuse_header(const std::string& header, const std::vector<std::string>& words, std::size_t data = 8) {
  refuse(SafetensorsBuilder::with_header(header, data), words);
}
// A header of the one tensor "t" with these fields.
void refuse_tensor(const std::string& fields, const std::vector<std::string>& words,
                   Code code = Code::bad_model) {
  std::vector<std::string> all = words;
  all.push_back("tensor \"t\"");
  refuse(SafetensorsBuilder::with_header(R"({"t":{)" + fields + "}}", 8), all, code);
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  SafetensorsBuilder b;
  b.tensor("w", "F32", {2, 3}, 24)
      .tensor("h", "BF16", {4}, 8)
      .tensor("n", "I64", {1}, 8)
      .tensor("e", "F32", {0, 4}, 0);
  b.tensor("s", "U32", {}, 4).tensor("z", "F4", {2}, 1);
  b.metadata = R"({"format":"pt"})";
  auto file = ModelFile::open(source_of(b.build()));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->kind(), FileKind::safetensors);
  EXPECT_EQ(file->version(), 0u);
  EXPECT_EQ(*file->get_string("format"), "pt");
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_THAT(file->find("w")->shape, ElementsAre(2, 3));
  EXPECT_EQ(file->find("h")->dtype, DType::bf16);
  EXPECT_EQ(file->find("s")->elems(), 1u);
  std::vector<std::byte> out(8);
  ASSERT_TRUE(file->read(*file->find("h"), 0, out).ok());
  EXPECT_EQ(out[0], std::byte{24});
  ASSERT_EQ(file->unsupported_tensors().size(), 3u);
  EXPECT_EQ(file->unsupported_tensors()[0].type, "I64");
  expect_refused(file->require("e"), Code::unsupported, {"\"e\"", "F32 without elements"});
  expect_refused(file->require("z"), Code::unsupported, {"\"z\"", "type \"F4\""});
}

TEST(Safetensors, EmptyAndPaddedHeaders) {
  EXPECT_TRUE(ModelFile::open(source_of(SafetensorsBuilder::with_header("{}"))).ok());
  EXPECT_TRUE(ModelFile::open(source_of(SafetensorsBuilder::with_header("{}      "))).ok());
}

TEST(Safetensors, HeaderLength) {
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
    test::Bytes bytes;
    refuse(bytes.put(length).raw("{}").take(), {"header of " + std::to_string(length)});
  }
  test::Bytes bytes;
  refuse(bytes.put(std::uint64_t{1}).raw("{}").take(), {"not valid JSON"});
  test::Bytes only_length;
  refuse(only_length.put(std::uint64_t{0}).take(), {"neither"});
}

TEST(Safetensors, HeaderThatIsNoObject) {
  refuse_header("{]", {"not valid JSON at byte 10"});
  refuse_header("{}x", {"not valid JSON"});
  refuse_header("{\"t\":", {"not valid JSON"});
  refuse_header("{\"\xff\":1}", {"not valid JSON"});
  refuse_header(R"({"\ud800":1})", {"not valid JSON"});
  refuse_header(R"({"t":1e999999})", {"not valid JSON"});
  refuse_header("[1]", {"neither"});
  refuse_header(R"({"t":1})", {"\"t\"", "a number instead of an object"});
  refuse_header(R"({"t":null})", {"\"t\"", "null instead"});
  refuse_header(R"({"t":[]})", {"\"t\"", "an array instead"});
  refuse_header(R"({"t\u0000u":{}})", {"NUL"});
  refuse_header(R"({"t\n":{}})", {"t\\x0a"});
}

TEST(Safetensors, DeepNesting) {
  const std::string deep(1'000'000, '[');
  test::reset_peak();
  refuse_header(R"({"t":)" + deep, {"an array instead"});
  refuse_header(R"({"t":{"shape":[)" + deep, {"an array in field \"shape\""});
  refuse_header(R"({"__metadata__":{"a":)" + deep, {"an array in field \"a\""});
  std::string objects;
  for (int i = 0; i < 200'000; ++i) objects += R"({"a":)";
  refuse_header(objects, {"field \"a\" does not exist"});
  EXPECT_LE(test::peak_bytes(), 8'000'000u);
}

TEST(Safetensors, Fields) {
  refuse_tensor(R"("shape":[2],"data_offsets":[0,8])", {"\"dtype\" is missing"});
  refuse_tensor(R"("dtype":"F32","data_offsets":[0,8])", {"\"shape\" is missing"});
  refuse_tensor(R"("dtype":"F32","shape":[2])", {"\"data_offsets\" is missing"});
  refuse_tensor(R"("dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8])",
                {"\"dtype\" is there twice"});
  refuse_tensor(R"("other":1)", {"\"other\" does not exist"});
  refuse_tensor(R"("dtype":32)", {"a number in field \"dtype\""});
  refuse_tensor(R"("dtype":["F32"])", {"an array in field \"dtype\""});
  refuse_tensor(R"("shape":"2")", {"a string in field \"shape\""});
  refuse_tensor(R"("shape":[-2])", {"a negative number in field \"shape\""});
  refuse_tensor(R"("shape":[2.0])", {"no integer"});
  refuse_tensor(R"("shape":[18446744073709551616])", {"no integer"});
  refuse_tensor(R"("shape":[1,1,1,1,1,1,1,1,2])", {"more than 8 dimensions"}, Code::unsupported);
  refuse_tensor(R"("data_offsets":[0,8,9])", {"more than two"});
  refuse_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])", {"must be two"});
  refuse_header(R"({"__metadata__":{"a":1}})", {"\"a\""});
  refuse_header(R"({"__metadata__":{"a":"b","a":"c"}})", {"metadata \"a\"", "twice"});
}

TEST(Safetensors, TypesShapesOffsets) {
  refuse_tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])",
                {"F32 of shape (3,) takes 12 bytes", "has 8"});
  refuse_tensor(R"("dtype":"F16","shape":[],"data_offsets":[0,8])", {"F16 of shape () takes 2 bytes"});
  refuse_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,9])", {"[0, 9]", "8 bytes of data"});
  refuse_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])", {"[8, 0]"});
  refuse_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615])",
                {"18446744073709551608"});
  refuse_tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])", {"2^63 elements"});
  refuse_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,0])", {"takes 8 bytes", "has 0"});
  refuse_tensor(R"("dtype":"I64","shape":[2],"data_offsets":[0,8])", {"I64", "takes 16 bytes"});
}

TEST(Safetensors, OverlapsHolesAndDuplicates) {
  const std::string f32x1 = R"(":{"dtype":"F32","shape":[1],"data_offsets":)";
  const auto pair = [&](const std::string& first, const std::string& a, const std::string& second,
                        const std::string& b) {
    return "{\"" + first + f32x1 + a + "},\"" + second + f32x1 + b + "}}";
  };
  ASSERT_TRUE(
      ModelFile::open(source_of(SafetensorsBuilder::with_header(pair("a", "[4,8]", "b", "[0,4]"), 8))).ok());
  refuse_header(pair("a", "[0,4]", "b", "[2,6]"), {"\"b\"", "overlap tensor \"a\""});
  refuse_header(pair("a", "[0,4]", "b", "[0,4]"), {"overlap"});
  refuse_header(pair("a", "[0,4]", "a", "[4,8]"), {"\"a\"", "twice"});
  refuse_header(pair("a", "[0,4]", "b", "[4,8]"), {"1 of 9 bytes", "no tensor"}, 9);
  refuse_header(pair("a", "[0,4]", "b", "[8,12]"), {"4 of 12 bytes", "no tensor"}, 12);
}

// tests/data/package.safetensors is written by tools/goldens/files.py with the `safetensors` package.
TEST(Safetensors, ReadsWhatThePackageWrites) {
  auto source = ByteSource::open(TESSERA_SOURCE_DIR "/tests/data/package.safetensors");
  ASSERT_TRUE(source.ok()) << source.error().message;
  auto file = ModelFile::open(*source);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(*file->get_string("note"), "h\xc3\xa9llo");
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_THAT(file->find("w")->shape, ElementsAre(2, 3));
  EXPECT_EQ(file->find("half")->dtype, DType::f16);
  EXPECT_EQ(file->find("ids")->dtype, DType::u32);
  EXPECT_TRUE(file->find("scalar")->shape.empty());
  std::vector<std::byte> bytes(24);
  std::vector<float> values(6);
  ASSERT_TRUE(file->read(*file->find("w"), 0, bytes).ok());
  decode_row(DType::f32, bytes, values);
  EXPECT_THAT(values, ElementsAre(0, 1, 2, 3, 4, 5));
  ASSERT_EQ(file->unsupported_tensors().size(), 1u);
  EXPECT_EQ(file->unsupported_tensors()[0].type, "I64");
}

TEST(Safetensors, RealFiles) {
  TSR_NEED_MODELS();
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(test::models_dir())) {
    if (entry.path().extension() != ".safetensors") continue;
    auto source = ByteSource::open(entry.path().string());
    ASSERT_TRUE(source.ok()) << source.error().message;
    auto file = ModelFile::open(*source);
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(file->kind(), FileKind::safetensors);
    EXPECT_GT(file->tensors().size(), 0u);
    ++files;
  }
  EXPECT_GE(files, 9u);
}

}  // namespace
}  // namespace tessera
