#include "formats/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/gguf_builder.h"
#include "support/models_dir.h"
#include "support/random_blocks.h"
#include "support/refusal.h"
#include "support/safetensors_builder.h"
#include "support/temp_dir.h"

namespace tessera {
namespace {

using test::expect_refused;
using test::GgufBuilder;
using test::source_of;
using test::TempDir;
using testing::ElementsAre;

std::vector<float> wave(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = std::sin(static_cast<float>(i));
  return values;
}

GgufBuilder model() {
  GgufBuilder b;
  b.alignment = 64;
  b.string("general.architecture", "llama").u32("general.file_type", 0).u32("general.alignment", 64);
  b.strings("tokens", {"a", "\xff"}).f32("eps", 1e-6f).i32s("types", {1, -1}).floats("empty", {});
  b.key("wide", 12).put(0.1);
  b.tensor("norm", {64}, wave(64))
      .tensor("w", {4, 64}, wave(256))
      .tensor("odd", {3, 33}, wave(99), DType::f16);
  return b;
}

std::vector<std::byte> bytes_of(const ModelFile& file, const char* name) {
  std::vector<std::byte> bytes(file.find(name)->bytes);
  EXPECT_TRUE(file.read(*file.find(name), 0, bytes).ok());
  return bytes;
}

TEST(Convert, EveryType) {
  const TempDir dir;
  auto in = ModelFile::open(source_of(model().build()));
  ASSERT_TRUE(in.ok()) << in.error().message;
  const std::pair<DType, std::uint64_t> types[] = {{DType::f32, 0},  {DType::f16, 1},  {DType::bf16, 32},
                                                   {DType::q8_0, 7}, {DType::q4_0, 2}, {DType::q4_1, 3},
                                                   {DType::q5_0, 8}, {DType::q5_1, 9}};
  for (const auto& [type, file_type] : types) {
    auto report = convert(*in, dir / "out.gguf", type, {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    auto out = ModelFile::open(*ByteSource::open(dir / "out.gguf"));
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(*out->get_uint("general.file_type"), file_type);
    EXPECT_EQ(out->find("norm")->dtype, DType::f32);
    EXPECT_EQ(out->find("w")->dtype, type);
    std::vector<std::byte> expected(file_bytes(256, info(type)));
    encode_row(type, wave(256), expected);
    EXPECT_EQ(bytes_of(*out, "w"), expected);
    const bool blocks = info(type).block_elems > 1;
    EXPECT_EQ(out->find("odd")->dtype, blocks ? DType::f16 : type);
    EXPECT_EQ(report->fallback.size(), blocks ? 1u : 0u);
    EXPECT_EQ(report->converted, blocks ? 1u : 2u);
    EXPECT_EQ(report->kept, 1u);
    EXPECT_EQ(report->bytes_out, out->find("norm")->bytes + out->find("w")->bytes + out->find("odd")->bytes);
    EXPECT_EQ(*out->get_uint("general.quantization_version", 0), blocks ? 2u : 0u);
    for (const auto& [key, value] : in->metadata()) {
      if (key == "general.alignment" || key == "general.file_type") continue;
      ASSERT_TRUE(out->metadata().contains(key)) << key;
      EXPECT_EQ(out->metadata().at(key).value, value.value) << key;
      EXPECT_EQ(out->metadata().at(key).gguf_type, value.gguf_type) << key;
    }
  }
  EXPECT_EQ(dir.files(), 1u);
}

TEST(Convert, OntoItself) {
  const TempDir dir;
  const std::string path = dir.write("m.gguf", model().build());
  auto in = ModelFile::open(*ByteSource::open(path));
  ASSERT_TRUE(convert(*in, path, DType::q8_0, {}).ok());
  auto out = ModelFile::open(*ByteSource::open(path));
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->find("w")->dtype, DType::q8_0);
}

TEST(Convert, Refusals) {
  const TempDir dir;
  const std::string path = dir / "out.gguf";
  auto in = ModelFile::open(source_of(model().build()));
  expect_refused(convert(*in, path, DType::u32, {}), Code::invalid_argument, {"U32"});
  expect_refused(convert(*in, dir.path(), DType::f16, {}), Code::io, {"directory"});
  expect_refused(convert(*in, path, DType::f16, [](auto, auto, auto) { return false; }), Code::cancelled, {});

  test::SafetensorsBuilder safetensors;
  auto other = ModelFile::open(source_of(safetensors.tensor("t", "F32", {2}, 8).build()));
  expect_refused(convert(*other, path, DType::f16, {}), Code::unsupported, {"GGUF files only"});

  GgufBuilder k;
  k.raw_tensor("k", {1, 256}, 11, std::vector<std::byte>(110));
  auto quantised = ModelFile::open(source_of(k.build()));
  expect_refused(convert(*quantised, path, DType::f16, {}), Code::unsupported, {"\"k\"", "Q3_K"});

  const auto with_value = [](float x) {
    std::vector<float> values = wave(64);
    values[33] = x;
    GgufBuilder b;
    b.tensor("w", {2, 32}, values);
    return *ModelFile::open(source_of(b.build()));
  };
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const float x : {std::nanf(""), inf, -inf, 65520.0f}) {
    expect_refused(convert(with_value(x), path, DType::f16, {}), Code::numeric,
                   {"\"w\" row 1 column 1", "F16"});
  }
  EXPECT_TRUE(convert(with_value(65519.0f), path, DType::f16, {}).ok());
  // Around sin(0) .. sin(63): a minimum of -1 or the limit itself.
  const std::pair<DType, float> limits[] = {{DType::q8_0, 65519.0f * 127}, {DType::q4_0, -65519.0f * 8},
                                            {DType::q5_0, 65519.0f * 16},  {DType::q4_1, 65519.0f * 15},
                                            {DType::q4_1, -65519.0f},      {DType::q5_1, 65519.0f * 31},
                                            {DType::q5_1, -65519.0f},      {DType::bf16, 0x1.fefffep127f}};
  for (const auto& [type, limit] : limits) {
    auto report = convert(with_value(limit), path, type, {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    auto out = ModelFile::open(*ByteSource::open(path));
    std::vector<float> row(64);
    decode_row(type, bytes_of(*out, "w"), row);
    for (const float x : row) EXPECT_TRUE(std::isfinite(x));
    expect_refused(convert(with_value(limit * 1.01f), path, type, {}), Code::numeric,
                   {"\"w\" row 1 column 1:", std::string(info(type).name)});
    for (const float x : {std::nanf(""), inf, -inf})
      expect_refused(convert(with_value(x), path, type, {}), Code::numeric, {"\"w\" row 1 column 1:"});
  }
  EXPECT_EQ(dir.files(), 1u);
}

TEST(Convert, KQuantsAreReadAndNotWritten) {
  const TempDir dir;
  const std::string path = dir / "out.gguf";
  for (const DType from : {DType::q4_k, DType::q5_k, DType::q6_k}) {
    const std::vector<std::byte> blocks = test::random_blocks(from, 2, 1);
    GgufBuilder b;
    b.raw_tensor("k", {2, 256}, *gguf::from_dtype(from), blocks);
    auto in = ModelFile::open(source_of(b.build()));
    ASSERT_TRUE(in.ok()) << in.error().message;
    std::vector<float> values(512);
    decode_row(from, blocks, values);
    for (const DType to : {DType::f32, DType::q5_1}) {
      auto report = convert(*in, path, to, {});
      ASSERT_TRUE(report.ok()) << report.error().message;
      std::vector<std::byte> expected(file_bytes(512, info(to)));
      encode_row(to, values, expected);
      EXPECT_EQ(bytes_of(*ModelFile::open(*ByteSource::open(path)), "k"), expected);
    }
    expect_refused(convert(*in, path, from, {}), Code::unsupported,
                   {std::string(info(from).name), "not written"});
  }
}

// A second quantisation of what is quantised would lose more.
TEST(Convert, TheSameTypeIsCopied) {
  const TempDir dir;
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
                           DType::q5_0, DType::q5_1}) {
    std::vector<std::byte> data(file_bytes(128, info(type)));
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 29 % 101);
    GgufBuilder b;
    b.raw_tensor("w", {2, 64}, *gguf::from_dtype(type), data);
    auto report = convert(*ModelFile::open(source_of(b.build())), dir / "out.gguf", type, {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(bytes_of(*ModelFile::open(*ByteSource::open(dir / "out.gguf")), "w"), data) << info(type).name;
    EXPECT_EQ(report->tensors.size(), 1u);
    EXPECT_EQ(report->tensors[0].from, type);
  }
}

// Stopped at any of its reports, it leaves what was there, and nothing beside it.
TEST(Convert, HalfWayNothingIsLost) {
  const TempDir dir;
  const std::vector<float> values = wave(3 << 18);
  GgufBuilder b;
  b.tensor("norm", {64}, wave(64)).tensor("w", {3 << 10, 256}, values);
  const std::string path = dir.write("m.gguf", b.build());
  const auto in = ModelFile::open(*ByteSource::open(path));
  ASSERT_TRUE(in.ok());
  std::vector<std::uint64_t> seen;
  for (std::size_t stop = 0; stop < 4; ++stop) {
    seen.clear();
    const auto progress = [&](std::string_view, std::uint64_t done, std::uint64_t total) {
      EXPECT_LT(done, total);
      seen.push_back(done);
      return seen.size() <= stop;
    };
    expect_refused(convert(*in, path, DType::q5_0, progress), Code::cancelled, {});
    EXPECT_EQ(seen.size(), stop + 1);
    EXPECT_EQ(dir.files(), 1u);
    std::vector<float> now(values.size());
    decode_row(DType::f32, bytes_of(*ModelFile::open(*ByteSource::open(path)), "w"), now);
    EXPECT_EQ(now, values);
  }
  EXPECT_TRUE(std::ranges::is_sorted(seen));
}

TEST(Convert, RealModel) {
  TSR_NEED_MODELS();
  const TempDir dir;
  auto in = ModelFile::open(*ByteSource::open(test::models_dir() + "/tinystories-260k/tinyllm.gguf"));
  ASSERT_TRUE(in.ok());
  for (const DType type : {DType::f16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1}) {
    auto report = convert(*in, dir / "out.gguf", type, {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    auto out = ModelFile::open(*ByteSource::open(dir / "out.gguf"));
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(out->tensors().size(), in->tensors().size());
    EXPECT_EQ(out->find("blk.0.attn_q.weight")->dtype, type);
    // Rows of 172: five blocks and a half.
    EXPECT_EQ(report->fallback.empty(), type == DType::f16);
    if (type != DType::f16) {
      EXPECT_THAT(report->fallback, testing::Contains("blk.0.ffn_down.weight"));
    }
  }
}

}  // namespace
}  // namespace tessera
