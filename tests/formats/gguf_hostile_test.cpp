#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "formats/model_file.h"
#include "support/gguf_builder.h"
#include "support/refusal.h"

namespace tessera {
namespace {

using test::Bytes;
using test::expect_refused;
using test::GgufBuilder;
using test::source_of;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;
const std::vector<float> kRow(32, 1.0f);

Result<ModelFile> open(const GgufBuilder& b) { return ModelFile::open(source_of(b.build())); }
void refuse(const GgufBuilder& b, const std::vector<std::string>& words, Code code = Code::bad_model) {
  expect_refused(open(b), code, words);
}

TEST(GgufHostile, Header) {
  GgufBuilder b;
  b.u32("a", 1).tensor("t", {32}, kRow);
  ASSERT_TRUE(open(b).ok());
  GgufBuilder c = b;
  c.magic = "GGML";
  refuse(c, {"neither a GGUF nor a safetensors", "GGML"});
  c = b;
  c.magic = std::string("\x89PNG", 4);
  refuse(c, {"neither", "\\x89PNG"});
  for (const std::uint32_t version : {0u, 1u, 4u, 65535u, 0x01000001u}) {
    c = b;
    c.version = version;
    refuse(c, {"version " + std::to_string(version)}, Code::unsupported);
  }
  for (const std::uint32_t swapped : {0x02000000u, 0x03000000u}) {
    c = b;
    c.version = swapped;
    refuse(c, {"big-endian"}, Code::unsupported);
  }
  for (const std::int64_t count :
       {std::int64_t{1} << 60, std::numeric_limits<std::int64_t>::max(), std::int64_t{1000}}) {
    c = b;
    c.tensor_count = count;
    refuse(c, {"tensor count " + std::to_string(count)});
    c = b;
    c.kv_count = count;
    refuse(c, {"metadata count " + std::to_string(count)});
  }
  c = b;
  c.tensor_count = 3;
  refuse(c, {"tensor entry"});
  c = b;
  c.kv_count = 0;  // the entry is then read as a tensor
  EXPECT_FALSE(open(c).ok());
}

TEST(GgufHostile, EveryTruncation) {
  GgufBuilder b;
  b.string("general.name", "x").strings("tokens", {"a", "bc"}).f32("f", 1).tensor("t", {32}, kRow);
  const std::vector<std::byte> whole = b.build();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto part = std::span(whole).first(size);
    auto opened = ModelFile::open(ByteSource::from_memory(part));
    ASSERT_FALSE(opened.ok()) << size;
    expect_refused(opened, Code::bad_model, {});
  }
}

TEST(GgufHostile, Keys) {
  GgufBuilder b;
  b.u32("a", 1).u32("a", 2);
  refuse(b, {"metadata \"a\"", "twice"});
  b = {};
  b.u32("bad\xff\nkey", 1);
  refuse(b, {"entry 0", "bad\\xff\\x0akey", "UTF-8"});
  b = {};
  b.u32("", 1);
  refuse(b, {"entry 0", "key of 0 bytes"});
  b = {};
  b.u32(std::string("a\0b", 3), 1);
  refuse(b, {"UTF-8"});
  b = {};
  b.u32(std::string(70000, 'k'), 1);
  refuse(b, {"key of 70000 bytes", "65535"});
}

TEST(GgufHostile, Values) {
  GgufBuilder b;
  b.key("a", 13).put(0);
  refuse(b, {"\"a\"", "value type 13"});
  b = {};
  b.key("a", 0xffffffffu).put(0);
  refuse(b, {"value type 4294967295"});
  b = {};
  b.key("a", 7).put(std::uint8_t{2}).put(0);
  b.kv_count = 1;
  refuse(b, {"\"a\"", "bool of value 2"});
  for (const std::uint64_t size : {kHuge, ~std::uint64_t{0}, std::uint64_t{100}}) {
    b = {};
    b.key("a", 8).put(size).raw("short");
    refuse(b, {"\"a\"", "needs " + std::to_string(size)});
    b = {};
    b.array("a", 8, 1).put(size).raw("short");
    refuse(b, {"\"a\" element 0", "needs " + std::to_string(size)});
  }
  for (std::uint32_t type = 0; type <= 12; ++type) {
    if (type == 9) continue;
    for (const std::uint64_t count : {kHuge, ~std::uint64_t{0}, std::uint64_t{1000}}) {
      b = {};
      b.array("a", type, count).raw("0123456789");
      refuse(b, {"\"a\"", "an array of " + std::to_string(count)});
    }
  }
  b = {};
  b.array("a", 9, 1).put(std::uint32_t{4}).put(std::uint64_t{1}).put(7);
  refuse(b, {"\"a\"", "arrays of arrays"}, Code::unsupported);
  b = {};
  b.array("a", 77, 1).put(7);
  refuse(b, {"\"a\"", "element type 77"});
  b = {};
  b.array("a", 7, 3).put(std::uint8_t{1}).put(std::uint8_t{0}).put(std::uint8_t{9});
  refuse(b, {"\"a\"", "element 2", "bool of value 9"});
}

TEST(GgufHostile, DeeplyNestedArray) {
  GgufBuilder b;
  Bytes& out = b.array("a", 9, 1);
  for (int i = 0; i < 100000; ++i) out.put(std::uint32_t{9}).put(std::uint64_t{1});
  refuse(b, {"arrays of arrays"}, Code::unsupported);
}

TEST(GgufHostile, Alignment) {
  for (const std::uint32_t alignment : {0u, 3u, 33u, 0x80000000u}) {
    GgufBuilder b;
    b.u32("general.alignment", alignment).tensor("t", {32}, kRow);
    refuse(b, {"general.alignment", std::to_string(alignment)});
  }
  GgufBuilder b;
  b.string("general.alignment", "32").tensor("t", {32}, kRow);
  refuse(b, {"general.alignment", "a string"});
  b = {};
  b.alignment = 256;
  b.u32("general.alignment", 256).tensor("t", {32}, kRow).tensor("u", {32}, kRow);
  auto file = open(b);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->find("u")->offset % 256, 0u);
}

TEST(GgufHostile, TensorNames) {
  GgufBuilder b;
  b.tensor("t", {32}, kRow).tensor("t", {32}, kRow);
  refuse(b, {"tensor \"t\"", "twice"});
  b = {};
  b.tensor("t", {32}, kRow).raw_tensor("t", {256}, 14, std::vector<std::byte>(210));
  refuse(b, {"tensor \"t\"", "twice"});
  b = {};
  b.tensor("\x1b[31m\xc0", {32}, kRow);
  refuse(b, {"tensor entry 0", "\\x1b[31m\\xc0"});
}

TEST(GgufHostile, Shapes) {
  const auto with_shape = [](std::vector<std::uint64_t> shape, std::uint32_t type = 0) {
    GgufBuilder b;
    b.raw_tensor("t", std::move(shape), type, std::vector<std::byte>(128));
    return b;
  };
  refuse(with_shape({0}), {"\"t\"", "dimension 0 is 0"});
  refuse(with_shape({0, 32}), {"\"t\"", "dimension 1 is 0"});
  refuse(with_shape({1, 1, 1, 1, 32}), {"\"t\"", "5 dimensions"});
  refuse(with_shape({kHuge, 32}), {"\"t\"", "2^63 elements"});
  refuse(with_shape({1u << 31, 1u << 31, 4}), {"\"t\"", "2^63 elements"});  // 2^64 would wrap to 0
  refuse(with_shape({kHuge, 4}), {"\"t\"", "2^63 bytes"});
  refuse(with_shape({33}), {"\"t\"", "132 bytes", "leave the data"});
  refuse(with_shape({2, 33}, 8), {"\"t\"", "33", "Q8_0", "32"});
  refuse(with_shape({64, 1}, 8), {"\"t\"", "Q8_0"});
  GgufBuilder b = with_shape({});
  EXPECT_EQ(open(b)->find("t")->elems(), 1u);
}

TEST(GgufHostile, ManyDimensionsAreNotRead) {
  GgufBuilder b;
  std::vector<std::byte> bytes = b.raw_tensor("t", {32}, 0, std::vector<std::byte>(128)).build();
  const std::size_t at = 4 + 4 + 8 + 8 + 8 + 1;  // n_dims of the first tensor
  const std::uint32_t lie = 0xffffffffu;
  std::memcpy(&bytes[at], &lie, 4);
  expect_refused(ModelFile::open(source_of(bytes)), Code::bad_model, {"\"t\"", "4294967295 dimensions"});
}

TEST(GgufHostile, Offsets) {
  const auto second_at = [](std::uint64_t offset) {
    GgufBuilder b;
    b.tensor("a", {32}, kRow)
        .raw_tensor("b", {32}, 0, std::vector<std::byte>(128), static_cast<std::int64_t>(offset));
    return b;
  };
  ASSERT_TRUE(open(second_at(128)).ok());
  refuse(second_at(0), {"tensor ", "overlap"});
  refuse(second_at(96), {"tensor \"b\"", "overlap tensor \"a\""});
  refuse(second_at(100), {"tensor \"b\"", "100", "alignment 32"});
  refuse(second_at(160), {"tensor \"b\"", "leave the data"});
  refuse(second_at(kHuge), {"tensor \"b\"", std::to_string(kHuge)});
  refuse(second_at(std::uint64_t{0x7fffffffffffffe0}), {"tensor \"b\"", "leaves"});

  GgufBuilder inside;  // one within another, declared first
  inside.raw_tensor("in", {8}, 0, {}, 64).raw_tensor("out", {64}, 0, std::vector<std::byte>(256), 0);
  refuse(inside, {"overlap"});
  GgufBuilder unknown;  // overlaps are seen for known types that Tessera lacks
  unknown.tensor("a", {256}, std::vector<float>(256))
      .raw_tensor("q", {256}, 14, std::vector<std::byte>(210), 0);
  refuse(unknown, {"overlap"});
  GgufBuilder wrap;
  wrap.raw_tensor("a", {32}, 0, std::vector<std::byte>(128), 0);
  wrap.tensors[0].offset = std::numeric_limits<std::int64_t>::max() - 31;
  refuse(wrap, {"tensor \"a\"", "leaves"});
}

TEST(GgufHostile, TypesThatTesseraLacks) {
  GgufBuilder b;
  b.tensor("good", {32}, kRow).raw_tensor("k", {2, 256}, 11, std::vector<std::byte>(220));
  b.raw_tensor("odd", {7, 3}, 99, std::vector<std::byte>(64));
  auto file = open(b);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_NE(file->find("good"), nullptr);
  EXPECT_TRUE(file->require("good").ok());
  ASSERT_EQ(file->unsupported_tensors().size(), 2u);
  EXPECT_EQ(file->unsupported_tensors()[0].type, "Q3_K");
  EXPECT_EQ(file->unsupported_tensors()[1].type, "type 99");
  EXPECT_EQ(file->find("k"), nullptr);
  expect_refused(file->require("k"), Code::unsupported, {"\"k\"", "Q3_K"});
  expect_refused(file->require("odd"), Code::unsupported, {"\"odd\"", "type 99"});
  expect_refused(file->require("none"), Code::bad_model, {"no tensor \"none\""});

  b = {};
  b.raw_tensor("k", {2, 256}, 11, std::vector<std::byte>(219));
  refuse(b, {"\"k\"", "220 bytes"});
  b = {};
  b.raw_tensor("odd", {7, 3}, 99, {}, std::int64_t{1} << 40);
  refuse(b, {"\"odd\"", "leaves"});
}

TEST(GgufHostile, WrongKindsAreNamed) {
  GgufBuilder b;
  b.string("s", "text").i32("n", -1).i32s("ns", {1, -2}).f32("f", 1).boolean("b", true).strings("ss", {"a"});
  auto file = open(b);
  ASSERT_TRUE(file.ok());
  expect_refused(file->get_uint("s"), Code::bad_model, {"\"s\" is a string, not an integer"});
  expect_refused(file->get_uint("s", 3), Code::bad_model, {"a string"});
  expect_refused(file->get_uint("f"), Code::bad_model, {"a float"});
  expect_refused(file->get_uint("n"), Code::bad_model, {"\"n\"", "negative: -1"});
  expect_refused(file->get_uint("none"), Code::bad_model, {"\"none\" is missing"});
  expect_refused(file->get_uints("ns"), Code::bad_model, {"\"ns\" element 1", "-2"});
  expect_refused(file->get_uints("ss"), Code::bad_model, {"a string array"});
  expect_refused(file->get_float("b"), Code::bad_model, {"a bool"});
  expect_refused(file->get_bool("f", true), Code::bad_model, {"a float"});
  expect_refused(file->get_string("b"), Code::bad_model, {"a bool"});
  expect_refused(file->get_strings("s"), Code::bad_model, {"not a string array"});
  expect_refused(file->get_floats("ss"), Code::bad_model, {"not a float array"});
  EXPECT_EQ(*file->get_float("n"), -1.0);
}

TEST(GgufHostile, ReadsStayInTheTensor) {
  GgufBuilder b;
  b.tensor("t", {32}, kRow).tensor("u", {32}, kRow);
  auto file = open(b);
  ASSERT_TRUE(file.ok());
  std::vector<std::byte> out(16);
  EXPECT_TRUE(file->read(*file->find("t"), 112, out).ok());
  expect_refused(file->read(*file->find("t"), 113, out), Code::invalid_argument, {"\"t\"", "128"});
  expect_refused(file->read(*file->find("t"), ~std::uint64_t{0}, out), Code::invalid_argument, {"\"t\""});
}

TEST(GgufHostile, ReaderThatFailsOrLiesAboutItsSize) {
  GgufBuilder b;
  b.strings("tokens", std::vector<std::string>(20000, "some token")).tensor("t", {32}, kRow);
  const std::vector<std::byte> bytes = b.build();
  std::size_t calls = 0;
  const auto read = [&](std::uint64_t offset, std::span<std::byte> out) {
    ++calls;
    if (offset > bytes.size() || out.size() > bytes.size() - offset) return false;
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return true;
  };
  auto file = ModelFile::open(ByteSource::from_reader(bytes.size(), read));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ((*file->get_strings("tokens"))->size(), 20000u);
  EXPECT_LT(calls, 10u);  // metadata arrive in large pieces
  expect_refused(ModelFile::open(ByteSource::from_reader(kHuge, read)), Code::io, {"reader failed"});

  GgufBuilder liar;
  liar.key("a", 8).put(std::uint64_t{1} << 59).raw("short");
  const std::vector<std::byte> start = liar.build();
  const auto endless = [&](std::uint64_t offset, std::span<std::byte> out) {
    if (offset > 0 && offset != 16) return false;
    std::memcpy(out.data(), start.data() + offset, std::min(out.size(), start.size() - offset));
    return true;
  };
  expect_refused(ModelFile::open(ByteSource::from_reader(kHuge, endless)), Code::io, {"reader failed"});
}

}  // namespace
}  // namespace tessera
