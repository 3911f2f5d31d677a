#include "kernels/choose.h"

#include <gtest/gtest.h>

#include "interface/matmul.h"

namespace tessera {
namespace {

Target large() {
  Target t;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 49152;
  t.limits.subgroup_size = 32;
  t.caps.subgroup_arithmetic = true;
  return t;
}

MatmulShape product(std::uint32_t rows, std::uint32_t n, std::uint32_t k) {
  MatmulShape s;
  s.rows = rows;
  s.n = n;
  s.k = k;
  s.y_stride = n;
  return s;
}

void expect_within(const Dispatch& d, const Target& t, std::uint64_t groups) {
  std::uint64_t total = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_GE(d.grid[i], 1u);
    EXPECT_LE(d.grid[i], t.limits.max_group_count[i]);
    total *= d.grid[i];
  }
  EXPECT_GE(total, groups);
  EXPECT_LE(d.spec[0], t.limits.max_group_invocations);
  EXPECT_LE(d.spec[0], t.limits.max_group_size[0]);
  EXPECT_EQ(d.push.size() * 4, kernel(d.kernel).push_bytes);
  EXPECT_EQ(d.spec.size(), kernel(d.kernel).spec_count);
}

std::uint32_t tile_shared_bytes(const Dispatch& d) {
  const bool gated = (d.spec[shader::kMatmulSpecFlags] & shader::kMatmulFlagGated) != 0;
  const std::uint32_t row = (d.spec[shader::kTileSpecK] / 4 + 1) * 16;
  return (d.spec[shader::kTileSpecM] + (gated ? 2 : 1) * d.spec[shader::kTileSpecN]) * row;
}

TEST(ChooseMatmul, OneRowIsAMatrixVectorProduct) {
  const auto d = choose_matmul(product(1, 4096, 4096), large());
  ASSERT_TRUE(d);
  EXPECT_EQ(d->kernel, KernelId::matvec_subgroup);
  EXPECT_EQ(d->spec[shader::kMatmulSpecGroup], 64u);  // 1024 workgroups of 64 lanes fill a large device
  expect_within(*d, large(), 4096 / d->spec[shader::kMatvecSpecColumns]);
  EXPECT_EQ(choose_matmul(product(1, 4096, 4096), Target{})->kernel, KernelId::matvec);
}

TEST(ChooseMatmul, ASubgroupIsTheWorkgroupWhereThatIsEnough) {
  EXPECT_EQ(choose_matmul(product(1, 32768, 4096), large())->spec[shader::kMatmulSpecGroup], 32u);
  EXPECT_EQ(choose_matmul(product(1, 1024, 65536), large())->spec[shader::kMatmulSpecGroup], 128u);
  EXPECT_EQ(choose_matmul(product(1, 1024, 256), large())->spec[shader::kMatmulSpecGroup],
            64u);  // k has no more
  Target narrow = large();
  narrow.limits.subgroup_size = 8;
  EXPECT_EQ(choose_matmul(product(1, 1024, 65536), narrow)->spec[shader::kMatmulSpecGroup], 8u);
}

TEST(ChooseMatmul, FewRowsHoldAtMost16Sums) {
  for (std::uint32_t rows = 1; rows <= 16; ++rows)
    for (bool gated : {false, true}) {
      MatmulShape s = product(rows, 4096, 512);
      s.gated = gated;
      const auto d = choose_matmul(s, large());
      ASSERT_TRUE(d);
      EXPECT_EQ(d->kernel, KernelId::matvec_subgroup);
      EXPECT_EQ(d->spec[shader::kMatvecSpecRows], rows <= 8 ? rows : (rows + 1) / 2);
      const std::uint32_t columns = d->spec[shader::kMatvecSpecColumns];
      EXPECT_LE(columns * d->spec[shader::kMatvecSpecRows] * (gated ? 2 : 1), 16u);
      expect_within(*d, large(), std::uint64_t{rows <= 8 ? 1u : 2u} * ((4096 + columns - 1) / columns));
    }
}

TEST(ChooseMatmul, ManyRowsAreTilesWithinEveryLimit) {
  for (std::uint32_t invocations : {4u, 16u, 64u, 128u, 1024u})
    for (std::uint32_t shared : {2048u, 8192u, 16384u, 49152u})
      for (std::uint32_t rows : {17u, 32u, 33u, 512u})
        for (bool gated : {false, true}) {
          Target t = large();
          t.limits.max_group_invocations = invocations;
          t.limits.max_shared_bytes = shared;
          MatmulShape s = product(rows, 1000, 100);
          s.gated = gated;
          const auto d = choose_matmul(s, t);
          ASSERT_TRUE(d) << d.error().message;
          EXPECT_EQ(d->kernel, KernelId::tile);
          EXPECT_LE(tile_shared_bytes(*d), shared);
          const std::uint32_t m = d->spec[shader::kTileSpecM], n = d->spec[shader::kTileSpecN];
          EXPECT_EQ(m / d->spec[shader::kTileSpecLaneM] * (n / d->spec[shader::kTileSpecLaneN]), d->spec[0]);
          expect_within(*d, t, std::uint64_t{(rows + m - 1) / m} * ((1000 + n - 1) / n));
        }
}

TEST(ChooseMatmul, TheSmallestTileIsTooLargeForNothing) {
  Target t;
  t.limits.max_shared_bytes = 64;
  const auto d = choose_matmul(product(17, 8, 8), t);
  ASSERT_FALSE(d);
  EXPECT_EQ(d.error().code, Code::unsupported);
  EXPECT_NE(d.error().message.find("64 bytes of shared memory"), std::string::npos);
}

TEST(ChooseMatmul, SoftwareDriversTakeAColumnALane) {
  Target t = large();
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 8;
  t.caps.software = true;
  EXPECT_EQ(choose_matmul(product(1, 64, 64), t)->kernel, KernelId::matvec_subgroup);  // has no shuffles
  t.caps.subgroup_shuffle = true;
  for (std::uint32_t rows : {1u, 2u, 16u, 17u, 40u, 512u})
    for (bool gated : {false, true}) {
      MatmulShape s = product(rows, 100, 64);
      s.gated = gated;
      const auto d = choose_matmul(s, t);
      ASSERT_TRUE(d) << d.error().message;
      EXPECT_EQ(d->kernel, KernelId::matmul_lanes);
      EXPECT_EQ(d->spec[shader::kMatmulSpecGroup], 8u);
      const std::uint32_t m = d->spec[shader::kMatvecSpecRows], n = d->spec[shader::kMatvecSpecColumns] * 8;
      EXPECT_LE(m, 16u);
      expect_within(*d, t, std::uint64_t{(rows + m - 1) / m} * ((100 + n - 1) / n));
    }
  EXPECT_EQ(choose_matmul(product(17, 100, 64), t)->spec[shader::kMatvecSpecRows], 9u);  // 9 and 8
}

TEST(ChooseMatmul, BatchesAndStrides) {
  MatmulShape s = product(3, 100, 64);
  s.batch = 5;
  s.w_batch = 100;
  s.y_batch = 300;
  s.x_stride = 66;
  auto d = choose_matmul(s, large());
  ASSERT_TRUE(d);
  expect_within(*d, large(), 5 * 100 / d->spec[shader::kMatvecSpecColumns]);
  EXPECT_EQ(d->spec[shader::kMatmulSpecFlags] & shader::kMatmulFlagVec4, 0u);
  s.x_stride = 68;
  EXPECT_NE(choose_matmul(s, large())->spec[shader::kMatmulSpecFlags] & shader::kMatmulFlagVec4, 0u);
  s.x_stride = 63;
  d = choose_matmul(s, large());
  ASSERT_FALSE(d);
  EXPECT_NE(d.error().message.find("63 elements apart"), std::string::npos);
  s.x_stride = 0;
  s.y_type = DType::bf16;
  EXPECT_EQ(choose_matmul(s, large()).error().code, Code::unsupported);
  s.y_type = DType::f32;
  s.y_batch = 299;  // products run into each other
  d = choose_matmul(s, large());
  ASSERT_FALSE(d);
  EXPECT_NE(d.error().message.find("299 elements apart"), std::string::npos);
  s.y_stride = 500;  // side by side
  s.y_batch = 100;
  EXPECT_TRUE(choose_matmul(s, large()));
  s.y_stride = 499;
  EXPECT_FALSE(choose_matmul(s, large()));
  s.y_stride = 100;
  s.y_batch = 300;
  s.batch = (1u << 31) + 1;  // of words: (100 + 2^62) * 4
  s.w_batch = 1u << 31;
  EXPECT_EQ(choose_matmul(s, large()).error().code, Code::unsupported);
  s.batch = 0;
  EXPECT_EQ(choose_matmul(s, large()).error().code, Code::invalid_argument);
}

TEST(ChooseMatmul, GroupsOfProducts) {
  MatmulShape s = product(3, 100, 64);
  s.batch = 6;
  s.inner = 3;
  s.y_batch = 300;
  s.w_batch = 100;  // three matrices of w, two of x
  s.x_outer = 3 * 64;
  auto d = choose_matmul(s, large());
  ASSERT_TRUE(d) << d.error().message;
  EXPECT_EQ(d->flops, 6 * 2.0 * 3 * 100 * 64);
  EXPECT_EQ(d->bytes, 4.0 * (3 * 100 * 64 + 2 * 3 * 64 + 6 * 3 * 100));
  EXPECT_NE(d->spec[shader::kMatmulSpecFlags] & shader::kMatmulFlagVec4, 0u);
  s.x_outer = 3 * 64 + 1;
  EXPECT_EQ(choose_matmul(s, large())->spec[shader::kMatmulSpecFlags] & shader::kMatmulFlagVec4, 0u);
  s.w_outer = 1u << 31;
  EXPECT_EQ(choose_matmul(s, large()).error().code, Code::unsupported);
  s.w_outer = 0;
  s.inner = 4;
  d = choose_matmul(s, large());
  ASSERT_FALSE(d);
  EXPECT_EQ(d.error().code, Code::invalid_argument);
  EXPECT_NE(d.error().message.find("no whole groups of 4"), std::string::npos);
}

TEST(ChooseMatmul, GridsFoldPastTheLimitOfADimension) {
  Target t = large();
  t.limits.max_group_count = {100, 100, 2};
  auto d = choose_matmul(product(1, 40000, 32), t);
  ASSERT_TRUE(d);
  expect_within(*d, t, 10000);
  d = choose_matmul(product(1, 80001, 32), t);
  ASSERT_FALSE(d);
  EXPECT_NE(d.error().message.find("workgroups"), std::string::npos);
  EXPECT_TRUE(choose_matmul(product(1, 300000, 32), Target{}));  // a vocabulary past 65535 * columns
}

TEST(ChooseMatmul, RefusalsNameWhatIsWrong) {
  MatmulShape s = product(1, 4, 33);
  s.type = DType::q8_0;
  EXPECT_EQ(choose_matmul(s, Target{}).error().code, Code::invalid_argument);
  EXPECT_NE(choose_matmul(s, Target{}).error().message.find("Q8_0"), std::string::npos);
  EXPECT_EQ(choose_matmul(product(1, 4, 0), Target{}).error().code, Code::invalid_argument);
  s = product(1, 4, 4);
  s.first = 1;
  EXPECT_EQ(choose_matmul(s, Target{}).error().code, Code::invalid_argument);
  s.type = DType::u32;
  EXPECT_EQ(choose_matmul(s, Target{}).error().code, Code::invalid_argument);
  EXPECT_EQ(choose_matmul(product(1u << 20, 1u << 20, 32), Target{}).error().code, Code::unsupported);
}

TEST(ChooseMatmul, CountsWorkAndTraffic) {
  MatmulShape s = product(1, 100, 64);
  s.type = DType::q8_0;
  auto d = choose_matmul(s, Target{});
  ASSERT_TRUE(d);
  EXPECT_DOUBLE_EQ(d->flops, 2.0 * 100 * 64);
  EXPECT_DOUBLE_EQ(d->bytes, 100.0 * 80 + 4 * (64 + 100));
  s.gated = true;
  d = choose_matmul(s, Target{});
  EXPECT_DOUBLE_EQ(d->flops, 4.0 * 100 * 64);
}

TEST(ChooseNorm, GroupsAndVariants) {
  NormShape s;
  s.rows = 7;
  s.dim = 4096;
  const auto d = choose_norm(s, large());
  ASSERT_TRUE(d);
  EXPECT_EQ(d->kernel, KernelId::norm_subgroup);
  expect_within(*d, large(), 7);
  EXPECT_EQ(choose_norm(s, Target{})->kernel, KernelId::norm);
  s.dim = 0;
  EXPECT_EQ(choose_norm(s, Target{}).error().code, Code::invalid_argument);
}

TEST(ChooseEmbedding, TableTypesAndGrids) {
  EmbeddingShape s{4, 64, DType::q4_0, 0, 100};
  const auto d = choose_embedding(s, Target{});
  ASSERT_TRUE(d);
  expect_within(*d, Target{}, 4);
  s.dim = 65;
  EXPECT_EQ(choose_embedding(s, Target{}).error().code, Code::invalid_argument);
}

TEST(ChooseElementwise, FoldsAndRefuses) {
  const auto d = choose_elementwise({512, 8192, false, Elementwise::glu, 1}, Target{});
  ASSERT_TRUE(d);
  expect_within(*d, Target{}, 512 * 8192 / (4 * 128));
  EXPECT_EQ(choose_elementwise({65536, 65536, false, Elementwise::add, 0}, Target{}).error().code,
            Code::unsupported);
}

}  // namespace
}  // namespace tessera
