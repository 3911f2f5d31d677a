#include "base/cache_row.h"

#include <array>
#include <cassert>
#include <cstring>

namespace tessera {
namespace {

constexpr std::uint64_t kBlock = 32;  // elements of a Q8_0 block
constexpr std::uint64_t kScaleBytes = 2;

// Where a block of a Q8_0 row has its quants and its scale.
struct Block {
  std::uint64_t quants, scale;
};
Block block_at(std::uint64_t dim, std::uint64_t element) {
  const std::uint64_t row = element / dim * cache_row_bytes(DType::q8_0, dim), block = element % dim / kBlock;
  return {row + block * kBlock, row + dim + block * kScaleBytes};
}

}  // namespace

std::uint64_t cache_row_bytes(DType type, std::uint64_t dim) {
  if (type != DType::q8_0) return dim * info(type).block_bytes;
  return (dim + dim / kBlock * kScaleBytes + 15) / 16 * 16;
}

void read_cache(DType type, std::uint64_t dim, std::span<const std::byte> rows, std::uint64_t first,
                std::span<float> out) {
  if (type != DType::q8_0) {
    const std::uint64_t size = info(type).block_bytes;
    return decode_row(type, rows.subspan(first * size, out.size() * size), out);
  }
  float scale = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t element = first + i, within = element % dim % kBlock;
    const Block block = block_at(dim, element);
    if (i == 0 || within == 0) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, &rows[block.scale], sizeof bits);
      scale = f16_to_f32(bits);
    }
    out[i] = scale * static_cast<float>(static_cast<std::int8_t>(rows[block.quants + within]));
  }
}

void write_cache(DType type, std::uint64_t dim, std::span<const float> in, std::uint64_t first,
                 std::span<std::byte> rows) {
  if (type != DType::q8_0) {
    const std::uint64_t size = info(type).block_bytes;
    return encode_row(type, in, rows.subspan(first * size, in.size() * size));
  }
  assert(first % kBlock == 0 && in.size() % kBlock == 0);
  std::array<std::byte, kScaleBytes + kBlock> file{};  // the scale, then the quants
  for (std::size_t i = 0; i < in.size(); i += kBlock) {
    encode_row(type, in.subspan(i, kBlock), file);
    const Block block = block_at(dim, first + i);
    std::memcpy(&rows[block.scale], file.data(), kScaleBytes);
    std::memcpy(&rows[block.quants], file.data() + kScaleBytes, kBlock);
  }
}

}  // namespace tessera
