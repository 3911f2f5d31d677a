#include "kernels/layout.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "support/random_blocks.h"

namespace tessera {
namespace {

TEST(Layout, RowsAreMultiplesOf16Bytes) {
  EXPECT_EQ(device_row_bytes(DType::f32, 1), 16u);
  EXPECT_EQ(device_row_bytes(DType::f32, 5), 32u);
  EXPECT_EQ(device_row_bytes(DType::f16, 8), 16u);
  EXPECT_EQ(device_row_bytes(DType::bf16, 9), 32u);
  EXPECT_EQ(device_row_bytes(DType::q8_0, 32), 48u);    // 32 + 2
  EXPECT_EQ(device_row_bytes(DType::q8_0, 256), 272u);  // 256 + 16
  EXPECT_EQ(device_row_bytes(DType::q4_0, 32), 32u);    // 16 + 2
  EXPECT_EQ(device_row_bytes(DType::q4_0, 256), 144u);  // 128 + 16
}

TEST(Layout, BlockTypesNeedWholeBlocks) {
  EXPECT_EQ(device_row_bytes(DType::q8_0, 33), 0u);
  EXPECT_EQ(device_row_bytes(DType::q4_0, 16), 0u);
  EXPECT_EQ(device_row_bytes(DType::q6_k, 128), 0u);
}

std::vector<std::byte> counted(std::size_t count) {
  std::vector<std::byte> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(i * 37 + 11);
  return out;
}

TEST(Layout, PlainRowsAreCopiedAndPadded) {
  const std::vector<std::byte> file = counted(3 * 2);
  std::vector<std::byte> device(16, std::byte{0xff});
  repack_row(DType::f16, 3, file, device);
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(device[i], i < 6 ? file[i] : std::byte{0});
}

TEST(Layout, Q8QuantsThenScales) {
  const std::vector<std::byte> file = counted(3 * 34);
  std::vector<std::byte> device(device_row_bytes(DType::q8_0, 96), std::byte{0xff});
  repack_row(DType::q8_0, 96, file, device);
  for (std::size_t e = 0; e < 96; ++e) EXPECT_EQ(device[e], file[e / 32 * 34 + 2 + e % 32]);
  for (std::size_t b = 0; b < 3; ++b)
    for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(device[96 + 2 * b + i], file[b * 34 + i]);
  for (std::size_t i = 102; i < device.size(); ++i) EXPECT_EQ(device[i], std::byte{0});
}

TEST(Layout, Q4ElementsInOrderThenScales) {
  const std::vector<std::byte> file = counted(2 * 18);
  std::vector<std::byte> device(device_row_bytes(DType::q4_0, 64), std::byte{0xff});
  repack_row(DType::q4_0, 64, file, device);
  for (std::size_t e = 0; e < 64; ++e) {
    const std::size_t in_block = e % 32;
    const std::byte packed = file[e / 32 * 18 + 2 + in_block % 16];
    const std::byte want = in_block < 16 ? packed & std::byte{15} : packed >> 4;
    EXPECT_EQ((device[e / 2] >> (4 * (e % 2))) & std::byte{15}, want) << e;
  }
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(device[32 + 2 * b + i], file[b * 18 + i]);
}

// An element of a row as kernels/layout.h describes it.
class DeviceRow {
 public:
  DeviceRow(DType type, std::uint64_t k, std::vector<std::byte> bytes)
      : type_(type), k_(k), bytes_(std::move(bytes)) {}

  float element(std::uint64_t i) const {
    const bool fifth = type_ == DType::q5_0 || type_ == DType::q5_1 || type_ == DType::q5_k;
    std::uint64_t at = k_ / 2;
    unsigned q = bits(0, 4 * i, 4);
    if (fifth) q |= bits(at, i, 1) << 4;
    if (type_ == DType::q6_k) q |= bits(at, 2 * i, 2) << 4;
    at += fifth ? k_ / 8 : type_ == DType::q6_k ? k_ / 4 : 0;
    const auto number = static_cast<float>(q);
    switch (type_) {
      case DType::q4_0: return half(at + i / 32 * 2) * (number - 8);
      case DType::q5_0: return half(at + i / 32 * 2) * (number - 16);
      case DType::q4_1:
      case DType::q5_1: return half(at + i / 32 * 4) * number + half(at + i / 32 * 4 + 2);
      case DType::q6_k: {
        const auto scale = static_cast<std::int8_t>(bits(at, i / 16 * 8, 8));
        return half(at + k_ / 16 + i / 256 * 2) * static_cast<float>(scale) * (number - 32);
      }
      default: break;
    }
    const std::uint64_t header = at + i / 256 * 16, j = i % 256 / 32;
    const unsigned scale = bits(header + 4, 4 * j, 4) | bits(header + 12, 2 * j, 2) << 4;
    const unsigned minimum = bits(header + 8, 4 * j, 4) | bits(header + 14, 2 * j, 2) << 4;
    return half(header) * static_cast<float>(scale) * number - half(header + 2) * static_cast<float>(minimum);
  }

 private:
  unsigned bits(std::uint64_t byte, std::uint64_t bit, unsigned count) const {
    return std::to_integer<unsigned>(bytes_[byte + bit / 8]) >> bit % 8 & ((1u << count) - 1);
  }
  float half(std::uint64_t byte) const {
    std::uint16_t value;
    std::memcpy(&value, &bytes_[byte], sizeof value);
    return f16_to_f32(value);
  }
  DType type_;
  std::uint64_t k_;
  std::vector<std::byte> bytes_;
};

TEST(Layout, BlocksReadBackAsDecoded) {
  for (DType type :
       {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k}) {
    const std::uint64_t k = 3 * std::uint64_t{info(type).block_elems};
    const std::vector<std::byte> file = test::random_blocks(type, 3, 5);
    std::vector<float> values(k);
    decode_row(type, file, values);
    std::vector<std::byte> device(device_row_bytes(type, k), std::byte{0xff});
    EXPECT_EQ(device.size(), (file.size() + 15) / 16 * 16) << info(type).name;
    repack_row(type, k, file, device);
    const DeviceRow row(type, k, device);
    for (std::uint64_t i = 0; i < k; ++i) ASSERT_EQ(row.element(i), values[i]) << info(type).name << " " << i;
    for (std::size_t i = file.size(); i < device.size(); ++i) EXPECT_EQ(device[i], std::byte{0});
  }
}

}  // namespace
}  // namespace tessera
