#include "base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace tessera {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr DType kAll[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0,
                          DType::u32,  DType::u8,   DType::q4_1, DType::q5_0, DType::q5_1,
                          DType::q4_k, DType::q5_k, DType::q6_k};

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

// tests/data/quants.bin is written by tools/goldens/quants.py with the `gguf` package.
TEST(DType, BitEqualToGgufPackage) {
  std::ifstream stream(TESSERA_SOURCE_DIR "/tests/data/quants.bin", std::ios::binary);
  const std::vector<char> data{std::istreambuf_iterator<char>(stream), {}};
  std::size_t at = 0;
  const auto take = [&](void* out, std::size_t n) {
    ASSERT_LE(at + n, data.size());
    std::memcpy(out, data.data() + at, n);
    at += n;
  };
  std::uint32_t cases = 0;
  take(&cases, 4);
  ASSERT_GT(cases, 10u);
  for (std::uint32_t c = 0; c < cases; ++c) {
    std::uint32_t type = 0, n = 0, size = 0;
    take(&type, 4);
    take(&n, 4);
    std::vector<float> in(n), back(n);
    take(in.data(), 4 * n);
    take(&size, 4);
    std::vector<std::byte> expected(size);
    take(expected.data(), size);
    take(back.data(), 4 * n);
    const auto dtype = static_cast<DType>(type);
    ASSERT_EQ(size, file_bytes(n, info(dtype)));
    const std::vector<std::byte> encoded = encode(dtype, in);
    EXPECT_EQ(encoded, expected) << "case " << c << " " << info(dtype).name;
    const std::vector<float> decoded = decode(dtype, expected, n);
    for (std::uint32_t i = 0; i < n; ++i) {
      if (std::isnan(back[i])) {
        EXPECT_TRUE(std::isnan(decoded[i]));
      } else {
        EXPECT_EQ(bits(decoded[i]), bits(back[i])) << "case " << c << " element " << i;
      }
    }
  }
  EXPECT_EQ(at, data.size());
}

TEST(DType, BlocksWithoutFiniteScaleStayNotFinite) {
  for (const DType type : {DType::q8_0, DType::q4_0}) {
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
