#include <gmock/gmock.h>

#include "kernels/attention_run.h"
#include "support/attention_golden.h"

namespace tessera::test {
namespace {

// A pass of a decoder over its caches.
AttentionShape shape_of(std::uint32_t rows, std::uint32_t heads, std::uint32_t kv_heads,
                        std::uint32_t head_dim, std::uint32_t context, DType type = DType::f32) {
  AttentionShape s;
  AttentionAttrs& a = s.attrs;
  a.q_len = rows;
  a.heads = heads;
  a.kv_heads = kv_heads;
  a.head_dim = a.v_dim = head_dim;
  a.kv_len = context;
  a.cache = true;
  a.causal = Causal::bottom_right;
  a.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  s.operands.state = true;
  s.kv_type = type;
  return s;
}

AttentionCase at(const AttentionShape& shape, std::uint32_t position, std::uint32_t rows = 0) {
  return {.shape = shape, .position = position, .rows = rows == 0 ? shape.attrs.q_len : rows};
}

constexpr std::uint32_t kDims[] = {1, 3, 32, 48, 64, 80, 128, 200, 256};
constexpr std::uint32_t kHeads[][2] = {{1, 1}, {4, 2}, {8, 1}, {7, 7}, {6, 2}};

TEST_F(AttentionGpu, HeadDimsFewRows) {
  std::uint32_t i = 0;
  for (std::uint32_t dim : kDims)
    for (DType type : {DType::f32, DType::f16}) {
      const auto& h = kHeads[i++ % std::size(kHeads)];
      check_share(at(shape_of(1, h[0], h[1], dim, 301, type), 299));
      check_share(at(shape_of(2, h[0], h[1], dim, 97, type), 13));
    }
}

TEST_F(AttentionGpu, HeadDimsTiles) {
  std::uint32_t i = 0;
  for (std::uint32_t dim : kDims)
    for (DType type : {DType::f32, DType::f16}) {
      const auto& h = kHeads[i++ % std::size(kHeads)];
      check_share(at(shape_of(37, h[0], h[1], dim, 150, type), 51));
    }
}

TEST_F(AttentionGpu, HeadsRowsAndPositions) {
  for (const auto& h : kHeads)
    for (std::uint32_t rows : {1u, 2u, 7u, 31u, 32u, 33u, 63u, 64u, 65u, 101u})
      for (std::uint32_t position : {0u, 1u, 77u, 300u - rows})
        check_share(at(shape_of(rows, h[0], h[1], 16, 300), position));
}

TEST_F(AttentionGpu, Windows) {
  for (std::uint32_t left : {0u, 4u, 16u, 499u, kNoWindow})
    for (std::uint32_t right : {0u, 3u, 40u, kNoWindow})
      for (std::uint32_t rows : {1u, 7u, 65u}) {
        AttentionCase c = at(shape_of(rows, 4, 2, 20, 300), rows * 3);
        c.shape.attrs.window_left = left;
        c.shape.attrs.window_right = right;
        check_share(c);
        c.shape.attrs.causal = Causal::none;
        check_share(c);
        c.shape.attrs.causal = Causal::top_left;
        check_share(c);
      }
}

TEST_F(AttentionGpu, EveryKeyOfALongCache) {
  for (std::uint32_t position : {0u, 63u, 64u, 127u, 128u, 1000u, 2047u, 4095u})
    check(at(shape_of(1, 4, 2, 8, 4096), position));
  check(at(shape_of(3, 2, 2, 8, 4096), 4090));
  check(at(shape_of(19, 2, 2, 8, 4096), 4077));
}

TEST_F(AttentionGpu, FewerRowsThanTheMost) {
  for (std::uint32_t live : {1u, 5u, 32u, 90u}) check(at(shape_of(90, 4, 2, 12, 200), 33, live));
  check(at(shape_of(8, 4, 2, 12, 200), 33, 3));
}

TEST_F(AttentionGpu, PastTheContextNothingIsReadOrWrittenOutside) {
  for (std::uint32_t rows : {4u, 40u})
    for (std::uint32_t position : {38u, 48u, 50u, 0xffffffffu})
      check(at(shape_of(rows, 2, 1, 8, 50), position));
}

TEST_F(AttentionGpu, LargeScores) {
  for (std::uint32_t rows : {1u, 33u})
    for (float spread : {300.0f, 30000.0f}) {
      AttentionCase c = at(shape_of(rows, 2, 1, 32, 128), 64);
      c.spread = spread;
      check(c);
    }
}

TEST_F(AttentionGpu, EqualScoresGiveTheMean) {
  for (std::uint32_t rows : {1u, 33u}) {
    AttentionCase c = at(shape_of(rows, 2, 1, 32, 128), 64);
    c.spread = 0;
    check(c);
  }
}

TEST_F(AttentionGpu, Slices) {
  check(at(shape_of(130, 2, 2, 16, 150), 7), 3);
  check(at(shape_of(1, 2, 2, 16, 1500), 1400), 3);
}

TEST_F(AttentionGpu, TheFloor) {
  auto floor = make_device({{"max_group_invocations", 128}, {"max_shared_bytes", 16384}});
  ASSERT_TRUE(floor);
  device_ = std::move(floor);
  for (std::uint32_t dim : {3u, 64u, 128u, 200u, 256u})
    for (std::uint32_t rows : {1u, 8u, 40u}) check_share(at(shape_of(rows, 6, 2, dim, 100, DType::f16), 41));
}

// Views of any strides against PyTorch in float64, in every form.
TEST_F(AttentionGpu, StridesAsPyTorch) {
  const std::vector<StridedAttention> goldens = strided_attentions();
  ASSERT_GE(goldens.size(), 12u);
  for (const StridedAttention& golden : goldens)
    for (const bool software : {true, false})
      for (const Precision precision : {Precision::f32, Precision::mixed}) {
        SCOPED_TRACE(golden.name);
        Target target = target_of(*device_);
        target.caps.software = target.caps.software && software;
        AttentionShape s;
        s.attrs = golden.attrs;
        s.attrs.precision = precision;
        s.q_type = golden.q.type;
        s.kv_type = golden.k.type;
        s.y_type = golden.y.type;
        const auto choice = choose_attention(s, target);
        ASSERT_TRUE(choice) << choice.error().message;
        const auto words = [](Bytes bytes) {
          bytes.resize((bytes.size() + 3) / 4 * 4);
          return bytes;
        };
        Bytes q = words(golden.q.bytes), k = words(golden.k.bytes), v = words(golden.v.bytes);
        Bytes y = to_bytes(std::vector<std::uint32_t>((golden.y.bytes.size() + 3) / 4, 0x7fff7fffu));
        std::vector<Bytes*> operands(kAttentionOperands, nullptr);
        operands[shader::kAttentionQ] = &q;
        operands[shader::kAttentionK] = &k;
        operands[shader::kAttentionV] = &v;
        operands[shader::kAttentionOut] = &y;
        ASSERT_TRUE(run_call(*device_, choice->dispatches, choice->scratch, operands, 1));
        const StridedTensor found{golden.y.type, y};
        for (std::uint64_t i = 0; i < golden.y.elems(); ++i) {
          const double wanted = golden.y.at(i), got = found.at(i);
          if (std::isnan(wanted))
            ASSERT_TRUE(std::isnan(got)) << "element " << i << " was touched";
          else
            ASSERT_NEAR(got, wanted, golden.tolerance(wanted, precision == Precision::f32 ? 1e-5 : 1e-2))
                << i;
        }
      }
}

TEST_F(AttentionGpu, SameResultEveryTime) {
  for (std::uint32_t rows : {1u, 40u}) {
    Attention a(at(shape_of(rows, 4, 2, 64, 700), 600));
    ASSERT_TRUE(run(a));
    const Bytes first = a.y;
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(run(a));
      EXPECT_EQ(first, a.y);
    }
  }
}

Target target_with(std::uint32_t shared) {
  Target t;
  t.limits.max_shared_bytes = shared;
  return t;
}

TEST(ChooseAttention, EveryHeadDimFitsTheFloorAndMore) {
  for (std::uint32_t shared : {16384u, 32768u, 49152u, 65536u})
    for (std::uint32_t dim = 1; dim <= kMaxHeadDim; ++dim)
      for (std::uint32_t rows : {1u, 8u, 9u, 100u}) {
        AttentionShape s = shape_of(rows, 8, 2, dim, 1024);
        if (dim % 7 == 0) s.attrs.v_dim = kMaxHeadDim + 1 - dim;
        const auto choice = choose_attention(s, target_with(shared));
        ASSERT_TRUE(choice) << choice.error().message;
        EXPECT_EQ(choice->dispatches.size(), rows <= 8 ? 2 : 1);
      }
}

TEST(ChooseAttention, ScratchGrowsWithTheRowsAlone) {
  AttentionShape s = shape_of(65'536, 4, 4, 64, 65'536);
  s.operands.state = s.attrs.cache = false;
  s.attrs.scores = AttentionScores::weights;
  s.attrs.score_heads = s.attrs.score_rows = 1;
  const auto choice = choose_attention(s, target_with(32768));
  ASSERT_TRUE(choice) << choice.error().message;
  std::uint64_t bytes = 0;
  for (const std::uint64_t b : choice->scratch) bytes += b;
  EXPECT_LE(bytes, 65'536u * 4 * 4);
  EXPECT_EQ(choice->dispatches.size(), 2u);
}

TEST(ChooseAttention, SplitsFillADeviceButNotMore) {
  const auto splits = [](std::uint32_t kv_heads, std::uint32_t context) {
    const auto choice = choose_attention(shape_of(1, kv_heads, kv_heads, 64, context), target_with(32768));
    return choice->dispatches[0].grid[0];
  };
  EXPECT_EQ(splits(8, 128), 1u);
  EXPECT_EQ(splits(8, 129), 2u);
  EXPECT_EQ(splits(8, 4096), 32u);
  EXPECT_EQ(splits(8, 32768), 64u);
  EXPECT_EQ(splits(1, 131072), 256u);
  EXPECT_EQ(splits(512, 512), 1u);
}

TEST(ChooseAttention, Refusals) {
  const auto message = [](const AttentionShape& s) {
    const auto choice = choose_attention(s, target_with(16384));
    return choice ? std::string("chosen") : choice.error().message;
  };
  EXPECT_THAT(message(shape_of(1, 3, 2, 64, 10)), ::testing::HasSubstr("no multiple of KV heads"));
  EXPECT_THAT(message(shape_of(1, 2, 2, 513, 10)), ::testing::HasSubstr("head_dim above 512"));
  EXPECT_THAT(message(shape_of(0, 2, 2, 64, 10)), ::testing::HasSubstr("an empty shape"));
  EXPECT_THAT(message(shape_of(1, 2, 2, 64, 10, DType::q4_0)), ::testing::HasSubstr("Q8_0"));
  EXPECT_THAT(message(shape_of(1, 2, 2, 48, 10, DType::q8_0)), ::testing::HasSubstr("multiples of 32"));
  EXPECT_THAT(message(shape_of(1, 8, 8, 128, 1u << 20)),
              ::testing::HasSubstr("k is larger than this device's"));
  AttentionShape s = shape_of(1, 2, 2, 64, 10);
  s.operands.lengths = true;
  EXPECT_THAT(message(s), ::testing::HasSubstr("no lengths"));
  s = shape_of(1, 2, 2, 64, 10);
  s.attrs.block_size = 3;
  EXPECT_THAT(message(s), ::testing::HasSubstr("a table"));
  s.operands.table = true;
  EXPECT_THAT(message(s), ::testing::HasSubstr("no multiple of the block size"));
  s = shape_of(4, 2, 2, 64, 10);
  s.attrs.ring = true;
  EXPECT_THAT(message(s), ::testing::HasSubstr("needs a window"));
  s.attrs.window_left = 7;
  EXPECT_THAT(message(s), ::testing::HasSubstr("needs a window"));
  s.attrs.window_left = 6;
  EXPECT_EQ(message(s), "chosen");
  s.attrs.scores = AttentionScores::raw;
  EXPECT_THAT(message(s), ::testing::HasSubstr("scores of a ring"));
}

}  // namespace
}  // namespace tessera::test
