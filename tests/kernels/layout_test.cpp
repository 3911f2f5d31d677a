#include "kernels/layout.h"

#include <gtest/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace tessera
