#include <gmock/gmock.h>

#include <thread>

#include "probe.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

using Transfers = ProbeTest;

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>((i * 2654435761u >> 13) + seed);
  return out;
}

TEST_F(Transfers, EveryKindOfMemoryKeepsItsBytes) {
  constexpr std::size_t kBytes = (17u << 20) + 5;  // more than one round of staging
  for (const Memory memory : {Memory::device, Memory::shared, Memory::upload, Memory::readback}) {
    const auto buffer = take(device_->create_buffer(kBytes, memory, "bytes"));
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer->size(), kBytes);
    if (memory != Memory::device) {
      EXPECT_EQ(buffer->mapped().size(), kBytes);
    }
    const auto in = pattern(kBytes - 3, static_cast<unsigned>(memory));
    expect_ok(device_->upload(*buffer, 3, in));
    std::vector<std::byte> out(in.size());
    expect_ok(device_->download(*buffer, 3, out));
    EXPECT_TRUE(in == out) << static_cast<int>(memory);
  }
}

TEST_F(Transfers, ThreadsMayTransferAtOnce) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      const auto buffer = take(device_->create_buffer(1 << 16, Memory::device, "bytes"));
      for (unsigned i = 0; i < 5; ++i) {
        const auto in = pattern(1 << 16, t * 16 + i);
        expect_ok(device_->upload(*buffer, 0, in));
        std::vector<std::byte> out(in.size());
        expect_ok(device_->download(*buffer, 0, out));
        EXPECT_TRUE(in == out);
      }
    });
  for (std::thread& t : threads) t.join();
}

TEST_F(Transfers, MemoryIsCounted) {
  const MemoryUse before = device_->memory_use();
  EXPECT_GE(before.bytes, 2 * kCount * 4);
  const auto buffer = take(device_->create_buffer(1 << 20, Memory::device, "more"));
  EXPECT_GE(device_->memory_use().bytes, before.bytes + (1 << 20));
  EXPECT_GE(device_->memory_use().peak_bytes, device_->memory_use().bytes);
}

TEST_F(Transfers, RangesAreChecked) {
  std::vector<std::byte> bytes(8);
  const auto up = device_->upload(*in_, kCount * 4 - 4, bytes);
  ASSERT_FALSE(up);
  EXPECT_THAT(up.error().message, HasSubstr("upload: offset 3996, 8 bytes leave a buffer of 4000"));
  EXPECT_FALSE(device_->download(*in_, ~std::uint64_t{0}, bytes));
}

TEST_F(Transfers, BuffersTooLargeAreRefused) {
  const auto none = device_->create_buffer(0, Memory::device, "nothing");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::invalid_argument);
  const auto huge = device_->create_buffer(std::uint64_t{1} << 60, Memory::device, "huge");
  ASSERT_FALSE(huge);
  EXPECT_THAT(huge.error().message, HasSubstr("'huge'"));
  const auto low = make_device({{"max_buffer_size", 2u << 20}});
  ASSERT_TRUE(low);
  const auto over = low->create_buffer((2u << 20) + 1, Memory::device, "over");
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().code, Code::unsupported);
  EXPECT_THAT(over.error().message, HasSubstr("at most 2.00 MiB"));
}

}  // namespace
}  // namespace tessera::test
