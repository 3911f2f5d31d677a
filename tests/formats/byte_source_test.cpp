#include "formats/byte_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <vector>

#include "support/refusal.h"
#include "support/temp_dir.h"

namespace tessera {
namespace {

using test::expect_refused;

std::vector<std::byte> counting(std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

void check_reads(const ByteSource& source, const std::vector<std::byte>& expected) {
  ASSERT_EQ(source.size(), expected.size());
  std::vector<std::byte> out(10);
  ASSERT_TRUE(source.read(5, out).ok());
  EXPECT_TRUE(std::equal(out.begin(), out.end(), expected.begin() + 5));
  EXPECT_TRUE(source.read(expected.size(), {}).ok());
  expect_refused(source.read(expected.size() - 9, out), Code::io,
                 {"beyond", std::to_string(expected.size())});
  expect_refused(source.read(~std::uint64_t{0}, out), Code::io, {"beyond"});
}

TEST(ByteSource, FileIsMapped) {
  const test::TempDir dir;
  const auto bytes = counting(100);
  const std::string path = dir.write("a", bytes);
  auto source = ByteSource::open(path);
  ASSERT_TRUE(source.ok());
  check_reads(**source, bytes);
  EXPECT_EQ((*source)->name(), path);
  EXPECT_EQ((*source)->mapped().size(), bytes.size());
}

TEST(ByteSource, MemoryAndReader) {
  const auto bytes = counting(100);
  check_reads(*ByteSource::from_memory(bytes), bytes);
  check_reads(*ByteSource::from_reader(bytes.size(),
                                       [&](std::uint64_t offset, std::span<std::byte> out) {
                                         std::memcpy(out.data(), bytes.data() + offset, out.size());
                                         return true;
                                       }),
              bytes);
}

TEST(ByteSource, FailingReaderIsIo) {
  const auto source = ByteSource::from_reader(100, [](std::uint64_t, std::span<std::byte>) { return false; });
  std::vector<std::byte> out(10);
  expect_refused(source->read(5, out), Code::io, {"reader", "offset 5"});
  expect_refused(ByteSource::from_reader(100, nullptr)->read(5, out), Code::io, {"reader"});
}

TEST(ByteSource, RefusesWhatIsNoFile) {
  const test::TempDir dir;
  expect_refused(ByteSource::open(dir / "absent"), Code::io, {"absent", "No such file"});
  expect_refused(ByteSource::open(dir.path()), Code::io, {dir.path(), "directory"});
  expect_refused(ByteSource::open(dir.write("empty", {})), Code::io, {"empty", "is empty"});
  expect_refused(ByteSource::open("/dev/zero"), Code::io, {"/dev/zero", "regular"});
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);  // opening it for reading would wait for a writer
  expect_refused(ByteSource::open(dir / "fifo"), Code::io, {"fifo", "regular"});
  expect_refused(ByteSource::open(""), Code::io, {});
  expect_refused(ByteSource::open(dir.path() + std::string("/a\0b", 4)), Code::io, {"NUL"});
  expect_refused(ByteSource::open(dir / "new\nline\x1b[2J"), Code::io, {"new\\x0aline"});
}

}  // namespace
}  // namespace tessera
