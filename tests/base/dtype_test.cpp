#include "base/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace tessera {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr DType kAll[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0,
                          DType::u32,  DType::u8,   DType::q4_1, DType::q5_0, DType::q5_1,
                          DType::q4_k, DType::q5_k, DType::q6_k};
constexpr DType kEncodedBlocks[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1};

std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

std::vector<std::byte> encode(DType type, const std::vector<float>& in) {
  std::vector<std::byte> out(file_bytes(in.size(), info(type)));
  encode_row(type, in, out);
  return out;
}

std::vector<float> decode(DType type, const std::vector<std::byte>& in, std::size_t n) {
  std::vector<float> out(n);
  decode_row(type, in, out);
  return out;
}

// The definition: the nearest f16 by search, ties to the even one. Written for clearness, not speed.
float f16_value(std::uint16_t h) {
  const int exponent = h >> 10 & 31;
  const auto mantissa = static_cast<float>(h & 1023);
  const float sign = (h & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa != 0 ? kNaN : sign * kInf;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024.0f + mantissa, exponent - 25);
}

TEST(DType, NamesAndSizes) {
  for (const DType type : kAll) {
    EXPECT_EQ(parse_dtype(info(type).name), type);
    EXPECT_EQ(std::ranges::count(kWeightTypes, type), is_real(type) ? 1 : 0) << info(type).name;
  }
  EXPECT_EQ(parse_dtype("q8_0"), DType::q8_0);
  EXPECT_EQ(parse_dtype("bF16"), DType::bf16);
  for (const char* unknown : {"", "q8", "F32 ", "Q3_K"}) EXPECT_FALSE(parse_dtype(unknown).has_value());
  EXPECT_EQ(file_bytes(64, info(DType::q8_0)), 68u);
  EXPECT_EQ(file_bytes(64, info(DType::q4_0)), 36u);
}

TEST(DType, EveryF16DecodesAndComesBack) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const float expected = f16_value(half), value = f16_to_f32(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << h;
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value)))) << h;
    } else {
      ASSERT_EQ(bits(value), bits(expected)) << h;
      ASSERT_EQ(f32_to_f16(value), half);
    }
  }
}

TEST(DType, F16RoundsToNearestEven) {
  for (std::uint32_t h = 0; h < 0x7bff; ++h) {
    const auto low = static_cast<std::uint16_t>(h), high = static_cast<std::uint16_t>(h + 1);
    const float middle = (f16_value(low) + f16_value(high)) / 2;
    ASSERT_EQ(f32_to_f16(middle), (low & 1) == 0 ? low : high) << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), low) << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(-middle, -kInf)), high | 0x8000) << h;
  }
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(f32_to_f16(kInf), 0x7c00);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(0x7f800001u)))));  // payload in low bits
}

TEST(DType, Bf16) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // ties to even
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_bf16(-kInf), 0xff80);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0xffffffffu)))));
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(h));
    if (!std::isnan(value)) {
      ASSERT_EQ(f32_to_bf16(value), h);
    }
  }
}

struct GoldenCase {
  DType type;
  std::vector<float> in, back;
  std::vector<std::byte> encoded;
};

// tests/data/quants.bin is written by tools/goldens/quants.py with the `gguf` package.
std::vector<GoldenCase> golden_cases() {
  std::ifstream stream(TESSERA_SOURCE_DIR "/tests/data/quants.bin", std::ios::binary);
  const auto word = [&] {
    std::uint32_t value = 0;
    stream.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  };
  const auto fill = [&]<typename T>(std::vector<T>& out, std::size_t n) {
    out.resize(n);
    stream.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(n * sizeof(T)));
  };
  std::vector<GoldenCase> cases(word());
  for (GoldenCase& c : cases) {
    c.type = static_cast<DType>(word());
    const std::uint32_t n = word();
    fill(c.in, word());
    fill(c.encoded, word());
    fill(c.back, n);
  }
  EXPECT_TRUE(stream.good());
  EXPECT_EQ(stream.peek(), std::ifstream::traits_type::eof());
  return cases;
}

// NaN is NaN, whatever its payload.
void expect_same_floats(const std::vector<float>& got, const std::vector<float>& wanted,
                        const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(wanted[i])) {
      EXPECT_TRUE(std::isnan(got[i])) << what << " element " << i;
    } else {
      EXPECT_EQ(bits(got[i]), bits(wanted[i])) << what << " element " << i;
    }
  }
}

TEST(DType, BitEqualToGgufPackage) {
  const std::vector<GoldenCase> cases = golden_cases();
  ASSERT_GT(cases.size(), 100u);
  for (std::size_t c = 0; c < cases.size(); ++c) {
    const auto& [type, in, back, encoded] = cases[c];
    const std::string what = "case " + std::to_string(c) + " " + std::string(info(type).name);
    ASSERT_EQ(encoded.size(), file_bytes(back.size(), info(type))) << what;
    if (!in.empty()) {
      EXPECT_EQ(encode(type, in), encoded) << what;
    }
    expect_same_floats(decode(type, encoded, back.size()), back, what);
  }
}

// Bytes that lie at odd addresses, and rows of several blocks, decode as each block alone does.
TEST(DType, BlocksStandAlone) {
  for (const GoldenCase& c : golden_cases()) {
    const DTypeInfo& type = info(c.type);
    for (std::size_t b = 0; b < c.back.size() / type.block_elems; ++b) {
      std::vector<std::byte> block(1 + type.block_bytes);
      std::ranges::copy(std::span(c.encoded).subspan(b * type.block_bytes, type.block_bytes),
                        block.begin() + 1);
      std::vector<float> out(type.block_elems);
      decode_row(c.type, std::span(block).subspan(1), out);
      const auto first = c.back.begin() + static_cast<std::ptrdiff_t>(b * type.block_elems);
      expect_same_floats(out, {first, first + type.block_elems}, std::string(type.name));
    }
  }
}

// How far a value that was encoded may come back: a step (a half, but that the formats with a sign lack the
// highest value), and what f16 loses of the scale d and the minimum m, d up to 127 times.
TEST(DType, WhatComesBackIsNear) {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-30.0f, 12.0f);
  for (const DType type : kEncodedBlocks) {
    const float steps = type == DType::q8_0   ? 127
                        : type == DType::q4_0 ? 8
                        : type == DType::q4_1 ? 15
                        : type == DType::q5_0 ? 16
                                              : 31;
    const bool minimum = type == DType::q4_1 || type == DType::q5_1;
    for (int round = 0; round < 500; ++round) {
      std::vector<float> row(32);
      const float spread = std::exp2(exponent(engine));
      for (float& x : row) x = spread * (normal(engine) + (round % 3 == 0 ? 2.0f : 0.0f));
      const auto [low, high] = std::ranges::minmax(row);
      const float reach = minimum ? high - low : std::max(high, -low);
      const auto lost = [](float x) { return std::max(std::fabs(x) * 0x1p-11f, 0x1p-25f); };
      const float bound = 1.001f * reach / steps + steps * lost(reach / steps) + lost(low);
      const std::vector<float> back = decode(type, encode(type, row), 32);
      for (std::size_t i = 0; i < 32; ++i)
        EXPECT_LE(std::fabs(back[i] - row[i]), bound) << info(type).name << " spread " << spread;
    }
  }
}

TEST(DType, BlocksWithoutFiniteScaleStayNotFinite) {
  for (const DType type : kEncodedBlocks) {
    for (const float bad : {kNaN, kInf, -kInf, 1e30f}) {
      std::vector<float> row(32, 1.0f);
      row[5] = bad;
      const std::vector<float> back = decode(type, encode(type, row), 32);
      EXPECT_FALSE(std::isfinite(back[5])) << info(type).name << " " << bad;
    }
    for (const float tiny : {1e-45f, -1e-45f, 1e-39f}) {
      const std::vector<float> row(32, tiny);
      for (const float x : decode(type, encode(type, row), 32)) EXPECT_EQ(x, 0.0f);
    }
  }
}

TEST(DType, PlainRowsNeedNoAlignment) {
  const std::vector<float> row = {1.5f, -2.0f, 3.25f};
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    std::vector<std::byte> bytes(1 + file_bytes(3, info(type)));
    encode_row(type, row, std::span(bytes).subspan(1));
    std::vector<float> back(3);
    decode_row(type, std::span(bytes).subspan(1), back);
    EXPECT_EQ(back, row);
  }
  EXPECT_EQ(decode(DType::u32, encode(DType::u32, {-1, kNaN, 7.4f, 1e20f}), 4),
            (std::vector<float>{0, 0, 7, 4294967296.0f}));
  decode_row(DType::q8_0, {}, {});
}

}  // namespace
}  // namespace tessera
