// Forms of a KV cache: batches, blocks, rings, Q8_0, values of another size than keys.
#include <numeric>

#include "kernels/rope_fixture.h"

namespace tessera::test {
namespace {

class KvCacheGpu : public RopeGpu {
 protected:
  // Blocks in a shuffled order, `spare` more than the table needs.
  static void page(Case& c, std::uint32_t block_size, std::uint32_t spare, std::uint32_t seed) {
    c.shape.block_size = block_size;
    const std::uint32_t entries = c.shape.batch * (c.shape.context / block_size);
    c.shape.blocks = entries + spare;
    c.blocks.resize(c.shape.blocks);
    std::iota(c.blocks.begin(), c.blocks.end(), 0u);
    std::shuffle(c.blocks.begin(), c.blocks.end(), std::mt19937(seed));
    c.blocks.resize(entries);
  }
};

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0};

TEST_F(KvCacheGpu, BatchesAtOnePosition) {
  for (DType type : kTypes)
    for (std::uint32_t dim : {1u, 7u, 31u, 32u, 33u, 64u, 96u}) {
      if (dim % info(type).block_elems != 0) continue;
      Case c{shape_of(3, 4, 2, dim, dim / 2 * 2, dim % 2 == 0, type, 11), 5, 0};
      c.shape.batch = 3;
      check_append(c);
      c.live = 2;
      check_append(c);
      c.position = 9;  // the last row does not fit
      c.live = 0;
      check_append(c);
    }
}

TEST_F(KvCacheGpu, Paged) {
  for (DType type : kTypes)
    for (std::uint32_t block_size : {1u, 3u, 8u})
      for (std::uint32_t batch : {1u, 2u}) {
        const std::uint32_t dim = type == DType::q8_0 ? 32 : 5;
        Case c{shape_of(7, 3, 3, dim, 4, false, type, block_size * 6), 0, 0};
        c.shape.batch = batch;
        page(c, block_size, 3, 7);
        c.shape.table_rows = 60;
        for (std::uint32_t position : {0u, 2u, block_size * 6 - 3}) {
          c.position = position;
          check_append(c);
        }
      }
}

// An entry that names no block leaves its keys out; the others are stored.
TEST_F(KvCacheGpu, BlocksThatAreNotThere) {
  for (DType type : kTypes) {
    Case c{shape_of(12, 2, 2, 64, 64, true, type, 24), 6, 0};
    c.shape.batch = 2;
    page(c, 4, 1, 3);
    c.blocks[2] = c.shape.blocks;
    c.blocks[3] = 0xffffffffu;
    c.blocks[6 + 4] = 0x7fc0beefu;
    check_append(c);
    check_kv_append(c);
  }
}

TEST_F(KvCacheGpu, Rings) {
  for (DType type : kTypes)
    for (std::uint32_t dim : {32u, 3u}) {
      if (dim % info(type).block_elems != 0) continue;
      Case c{shape_of(5, 4, 2, dim, 2, false, type, 8), 0, 0};
      c.shape.ring = true;
      c.shape.batch = 2;
      c.shape.table_rows = 40;
      for (std::uint32_t position : {0u, 5u, 8u, 23u, 37u}) {  // the table ends at 40
        c.position = position;
        check_append(c);
      }
      c.position = 0xfffffff0u;
      check_kv_append(c);
      c.shape.rows = 8;
      c.position = 13;
      check_append(c);
    }
}

TEST_F(KvCacheGpu, ARingOfBlocks) {
  Case c{shape_of(6, 1, 2, 32, 8, true, DType::q8_0, 12), 9, 0};
  c.shape.ring = true;
  c.shape.batch = 2;
  c.shape.table_rows = 100;
  page(c, 3, 2, 5);
  check_append(c);
  c.position = 34;
  check_append(c);
}

TEST_F(KvCacheGpu, ATableShorterThanTheCache) {
  Case c{shape_of(5, 1, 1, 4, 4, true, DType::f16, 40), 7, 0};
  c.shape.table_rows = 10;
  check_append(c);
}

TEST_F(KvCacheGpu, ValuesOfAnotherSize) {
  const std::uint32_t plain[][2] = {{8, 3}, {3, 8}, {1, 7}, {64, 31}, {33, 32}, {2, 130}};
  const std::uint32_t blocks[][2] = {{32, 64}, {96, 32}, {64, 160}};
  for (DType type : kTypes)
    for (const auto& dims : type == DType::q8_0 ? std::span<const std::uint32_t[2]>(blocks)
                                                : std::span<const std::uint32_t[2]>(plain)) {
      Case c{shape_of(4, 5, 3, dims[0], dims[0] / 2 * 2, false, type), 3, 0};
      c.shape.v_dim = dims[1];
      check_append(c);
      c.shape.batch = 2;
      page(c, 5, 1, 9);
      check_append(c);
    }
}

TEST_F(KvCacheGpu, HeadsFirst) {
  for (DType type : kTypes) {
    Case c{shape_of(5, 0, 3, type == DType::q8_0 ? 32 : 7, 0, false, type, 9), 2, 4};
    c.shape.batch = 2;
    check_kv_append(c, {}, true);
  }
}

// Blocks of every magnitude, equal ones, halves, zeros: what encode_row gives, bit by bit.
TEST_F(KvCacheGpu, Q8_0IsBitEqual) {
  constexpr std::uint32_t kDim = 96, kHeads = 5, kRows = 64;
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    std::vector<float> x = random_floats(std::size_t{kRows} * kHeads * kDim, seed + 1);
    std::mt19937 engine(seed);
    for (std::size_t block = 0; block < x.size() / 32; ++block) {
      const std::span<float> b = std::span(x).subspan(block * 32, 32);
      const int exponent = static_cast<int>(engine() % 276) - 149;
      switch (engine() % 6) {
        case 0:  // near halves of a step, and on them
          for (float& v : b) v = static_cast<float>(static_cast<int>(engine() % 255) - 127) / 2;
          b[engine() % 32] = engine() % 2 ? 63.5f : 127.0f;
          break;
        case 1:
          for (float& v : b) v = std::ldexp(v, exponent);
          break;
        case 2:
          for (float& v : b) v = 0;
          if (engine() % 2) b[engine() % 32] = std::ldexp(-1.0f, exponent);
          break;
        case 3:  // bits that no generator of numbers makes
          for (float& v : b) {
            const std::uint32_t bits = static_cast<std::uint32_t>(engine());
            std::memcpy(&v, &bits, 4);
            if (!std::isfinite(v)) v = 1;
          }
          break;
        case 4:
          for (float& v : b) v = std::copysign(std::ldexp(1.5f, exponent), v);
          break;
        default: break;
      }
    }
    check_kv_append({shape_of(kRows, 0, kHeads, kDim, 0, false, DType::q8_0, kRows), 0, 0}, x);
  }
}

// d is subnormal, or its inverse is near the end of f32.
TEST_F(KvCacheGpu, Q8_0AtTheEndsOfF32) {
  std::vector<float> x;
  for (int e = -149; e <= 127; ++e)
    for (float m : {1.0f, 1.9999999f, 1.9921875f, 1.984375f})
      for (std::uint32_t i = 0; i < 32; ++i)
        x.push_back(std::ldexp(m, e) * static_cast<float>(i % 2 ? -1 : 1) *
                    (i == 5 ? 1.0f : static_cast<float>(i) / 32.0f));
  const auto rows = static_cast<std::uint32_t>(x.size() / 32);
  check_kv_append({shape_of(rows, 0, 1, 32, 0, false, DType::q8_0, rows), 0, 0}, x);
}

// A block that is not finite reads as not finite, and its neighbours as they are.
TEST_F(KvCacheGpu, Q8_0BlocksThatAreNotFinite) {
  const RopeAppendShape s = shape_of(1, 0, 1, 96, 0, false, DType::q8_0, 1);
  const auto dispatch = choose_kv_append(s, target_of(*device_));
  ASSERT_TRUE(dispatch) << dispatch.error().message;
  std::vector<float> x = random_floats(96, 2);
  x[7] = -INFINITY;
  x[40] = NAN;
  Bytes in = to_bytes(x), state = state_bytes(0, 1), blocks = poisoned(1),
        cache = poisoned(device_row_bytes(DType::q8_0, 96) / 4);
  ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&in, &state, &cache, &blocks}));
  const auto scale = [&](std::uint32_t block) {
    return f16_to_f32(from_bytes_at<std::uint16_t>(cache, 48 + block));
  };
  EXPECT_TRUE(std::isinf(scale(0)));
  EXPECT_TRUE(std::isnan(scale(1)));
  EXPECT_TRUE(std::isfinite(scale(2)));
  EXPECT_EQ(cache[7], std::byte{0});
}

}  // namespace
}  // namespace tessera::test
