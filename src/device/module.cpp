#include "device/module.h"

#include <zlib.h>

#include <cstring>

namespace tessera {
namespace {

constexpr std::size_t kMostBytes = 16 << 20;
constexpr int kGzipWindow = 15 + 16;  // zlib: 32 KiB, gzip header
Error damaged() { return {Code::invalid_argument, "its module is damaged"}; }

std::uint32_t word_at(std::span<const std::uint8_t> bytes, std::size_t i) {
  std::uint32_t word = 0;
  std::memcpy(&word, &bytes[i], 4);
  return word;
}

constexpr std::size_t kGzipLeast = 18;

// gzip ends with the size.
std::size_t inflated_bytes(std::span<const std::uint8_t> from) { return word_at(from, from.size() - 4); }

// Inflates all of `from` into all of `to`.
bool inflate_exactly(std::span<const std::uint8_t> from, std::span<std::byte> to) {
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindow) != Z_OK) return false;
  stream.next_in = const_cast<Bytef*>(from.data());
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
  const int status = inflate(&stream, Z_FINISH);
  const bool whole = status == Z_STREAM_END && stream.avail_in == 0 && stream.avail_out == 0;
  inflateEnd(&stream);
  return whole;
}

}  // namespace

Result<std::vector<std::uint32_t>> module_words(std::span<const std::uint8_t> module) {
  constexpr std::uint32_t kSpirvMagic = 0x07230203;
  constexpr std::size_t kSpirvHeader = 20;
  std::vector<std::uint32_t> words;
  if (module.size() >= kGzipLeast && module[0] == 0x1f && module[1] == 0x8b) {
    const std::size_t bytes = inflated_bytes(module);
    if (bytes % 4 != 0 || bytes < kSpirvHeader || bytes > kMostBytes) return damaged();
    words.resize(bytes / 4);
    if (!inflate_exactly(module, std::as_writable_bytes(std::span(words)))) return damaged();
  } else {
    words.resize(module.size() / 4);
    if (!words.empty()) std::memcpy(words.data(), module.data(), words.size() * 4);
  }
  if (words.size() * 4 < kSpirvHeader || words[0] != kSpirvMagic)
    return Error{Code::invalid_argument, "its module is no SPIR-V"};
  return words;
}

Result<std::string> module_text(std::span<const std::uint8_t> gzip) {
  if (gzip.size() < kGzipLeast || inflated_bytes(gzip) > kMostBytes) return damaged();
  std::string text(inflated_bytes(gzip), '\0');
  if (!inflate_exactly(gzip, std::as_writable_bytes(std::span(text)))) return damaged();
  return text;
}

}  // namespace tessera
