#include <gtest/gtest.h>

#include "interface/feed_forward.h"
#include "interface/matmul.h"
#include "interface/mlp.h"
#include "kernels/choose.h"

namespace tessera {
namespace {

Target desktop() {
  Target t;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 49152;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 32;
  t.caps.subgroup_arithmetic = t.caps.subgroup_shuffle = true;
  return t;
}

FeedForwardShape block(std::uint32_t rows, std::uint32_t dim, bool gated = false) {
  FeedForwardShape s{.rows = rows, .k = dim, .hidden = 4 * dim, .n = dim};
  s.gated = gated;
  return s;
}

// Why a block or network is not fused; its products have refusals of their own.
std::string refusal(const Result<FeedForwardChoice>& choice) {
  if (!choice) return choice.error().message;
  for (const Refusal& r : choice->refused)
    if (r.tier == "feed_forward_fused" || r.tier == "mlp_fused") return r.reason;
  return "";
}

bool is_fused(const Result<FeedForwardChoice>& choice) {
  return choice && choice->dispatches[0].kernel != KernelId::tile &&
         choice->dispatches[0].kernel != KernelId::matvec_subgroup;
}

TEST(ChooseFeedForward, FusedWhereItsSumsFitAndManyRowsOccupyTheDevice) {
  EXPECT_TRUE(is_fused(choose_feed_forward(block(4096, 64), desktop())));
  EXPECT_TRUE(is_fused(choose_feed_forward(block(4096, 256), desktop())));
  EXPECT_NE(refusal(choose_feed_forward(block(1, 256), desktop())).find("few rows"), std::string::npos);
  // Few lanes, but the second product has a quarter of them.
  EXPECT_TRUE(is_fused(choose_feed_forward(block(512, 64), desktop())));
  EXPECT_EQ(refusal(choose_feed_forward(block(512, 256), desktop())),
            "it has work for 8192 lanes, products for 4096");
  EXPECT_NE(refusal(choose_feed_forward(block(4096, 2048), desktop())).find("reads all weights"),
            std::string::npos);
  FeedForwardShape s = block(4096, 64);
  s.n = 8192;
  EXPECT_NE(refusal(choose_feed_forward(s, desktop())).find("do not fit on chip"), std::string::npos);
  EXPECT_NE(refusal(choose_feed_forward(block(4096, 8192), desktop())).find("longer than 4096"),
            std::string::npos);
}

TEST(ChooseFeedForward, WhatOnlyProductsCanDo) {
  FeedForwardShape s = block(4096, 256);
  s.down_type = DType::f16;
  EXPECT_EQ(refusal(choose_feed_forward(s, desktop())), "its weights are of two types");
  s = block(4096, 256);
  s.hidden_window = 512;
  const auto choice = choose_feed_forward(s, desktop());
  EXPECT_EQ(refusal(choice), "its weights do not fit one binding each");
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->dispatches.size(), 3u);
  EXPECT_EQ(choice->dispatches[0].operands[1], kFeedForwardOperands);
  EXPECT_EQ(choice->dispatches[1].operands[1], kFeedForwardOperands + 2);
  EXPECT_EQ(choice->scratch, std::vector<std::uint64_t>{4096 * 1024 * 4});
}

TEST(ChooseFeedForward, AFormThatIsAskedFor) {
  Target t = desktop();
  t.form = "feed_forward_fused";
  EXPECT_TRUE(is_fused(choose_feed_forward(block(1, 64), t)));
  EXPECT_FALSE(choose_feed_forward(block(1, 8192), t));
  t.form = "feed_forward_products";
  EXPECT_EQ(refusal(choose_feed_forward(block(4096, 64), t)), "not asked for");
  t.form = "attention_split";  // another op's
  EXPECT_TRUE(is_fused(choose_feed_forward(block(4096, 64), t)));
}

TEST(ChooseFeedForward, StaysWithinTheLimits) {
  using namespace shader;
  for (const std::uint32_t invocations : {64u, 128u, 1024u})
    for (const std::uint32_t shared : {16384u, 49152u})
      for (const std::uint32_t dim : {1u, 64u, 100u, 257u, 1024u, 2000u})
        for (const std::uint32_t rows : {1u, 17u, 512u})
          for (const bool gated : {false, true}) {
            Target t = desktop();
            t.limits.max_group_invocations = invocations;
            t.limits.max_shared_bytes = shared;
            t.form = "feed_forward_fused";
            const auto choice = choose_feed_forward(block(rows, dim, gated), t);
            if (!choice) continue;
            const std::vector<std::uint32_t>& spec = choice->dispatches[0].spec;
            const std::uint32_t group = spec[kFeedForwardSpecGroup], lanes_m = spec[kFeedForwardSpecLanesM];
            const std::uint32_t lane_rows = spec[kFeedForwardSpecLaneRows];
            const std::uint32_t units = group / lanes_m * (gated ? 2 : 4);
            EXPECT_LE(group, invocations);
            EXPECT_LE(spec[kFeedForwardSpecColumns] * lane_rows, 32u);
            EXPECT_GE(spec[kFeedForwardSpecColumns] * (group / lanes_m), dim);
            EXPECT_EQ(units % 32, 0u);
            EXPECT_LE(lanes_m * lane_rows * (spec[kFeedForwardSpecXVec4] + 1 + units / 4 + 1) * 16, shared);
          }
}

// docs/kernels/feed_forward.md has the measurements.
TEST(ChooseFeedForward, SoftwareDrivers) {
  Target t = desktop();
  t.caps.software = true;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 8;
  for (const std::uint32_t rows : {1u, 8u, 16u, 64u, 512u}) {
    EXPECT_EQ(refusal(choose_feed_forward(block(rows, 64), t)), "") << rows;
    EXPECT_EQ(refusal(choose_feed_forward(block(rows, 64, true), t)), "") << rows;
    EXPECT_NE(refusal(choose_feed_forward(block(rows, 256), t)), "") << rows;
  }
  for (const std::uint32_t rows : {1u, 8u}) EXPECT_EQ(refusal(choose_feed_forward(block(rows, 128), t)), "");
  EXPECT_NE(refusal(choose_feed_forward(block(1, 256), t)).find("one core"), std::string::npos);
  EXPECT_NE(refusal(choose_feed_forward(block(16, 128), t)).find("sums of 8 rows"), std::string::npos);
  FeedForwardShape s = block(16, 64);
  s.type = s.down_type = DType::q4_0;
  EXPECT_EQ(refusal(choose_feed_forward(s, t)), "");
  for (const std::uint32_t rows : {1u, 8u, 512u}) {
    s = block(rows, 128);
    s.type = s.down_type = DType::q4_0;
    EXPECT_EQ(refusal(choose_feed_forward(s, t)), "") << rows;
  }
  s.type = s.down_type = DType::q8_0;
  EXPECT_NE(refusal(choose_feed_forward(s, t)).find("serve 16"), std::string::npos);
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 4;
  // Half a block of 32 weights.
  EXPECT_EQ(refusal(choose_feed_forward(s, t)), "blocks of 32 weights need subgroups of 8");
}

// A software driver would fuse this shape, and of few rows its products take the norm with them.
TEST(ChooseFeedForward, ANormIsTheFirstProducts) {
  Target t = desktop();
  t.caps.software = true;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 8;
  FeedForwardShape s = block(8, 64);
  ASSERT_TRUE(is_fused(choose_feed_forward(s, t)));
  s.norm = true;
  s.eps = 1e-5f;
  const auto choice = choose_feed_forward(s, t);
  EXPECT_NE(refusal(choice).find("normalised as it is loaded"), std::string::npos);
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->dispatches.size(), 2u);
  using namespace shader;
  for (const std::size_t i : {0, 1}) {
    const Dispatch& d = choice->dispatches[i];
    EXPECT_EQ(d.operands[kFusedNorm], i == 0 ? kFeedForwardNorm : kNoOperand);
    EXPECT_EQ((d.spec[kMatmulSpecFlags] & kMatmulFlagNorm) != 0, i == 0);
  }
  t.form = "feed_forward_fused";
  EXPECT_FALSE(choose_feed_forward(s, t));
  s.rows = 17;
  t.form.clear();
  EXPECT_FALSE(choose_feed_forward(s, t));
}

TEST(ChooseFeedForward, PrecisionMixed) {
  FeedForwardShape s = block(4096, 64);
  s.type = s.down_type = DType::q8_0;
  s.precision = Precision::mixed;
  Target t = desktop();
  EXPECT_TRUE(is_fused(choose_feed_forward(s, t)));
  t.caps.int_dot = t.caps.int_dot_fast = true;
  const auto choice = choose_feed_forward(s, t);
  EXPECT_EQ(refusal(choice), "it computes in F32, and precision mixed has matmul_dot");
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->dispatches.size(), 4u);
  ASSERT_EQ(choice->scratch.size(), 3u);  // h, x and h in blocks
  EXPECT_EQ(choice->scratch[0], 4096u * 256 * 4);
  using namespace shader;
  EXPECT_EQ(choice->dispatches[0].operands.back(), kScratchOperand + 1);
  EXPECT_EQ(choice->dispatches[1].operands[kMatmulX], kScratchOperand + 1);
  EXPECT_EQ(choice->dispatches[1].operands[kMatmulY], kScratchOperand);
  EXPECT_EQ(choice->dispatches[2].operands[0], kScratchOperand);
  EXPECT_EQ(choice->dispatches[2].operands.back(), kScratchOperand + 2);
  EXPECT_EQ(choice->dispatches[3].operands[kMatmulX], kScratchOperand + 2);
  EXPECT_EQ(choice->dispatches[3].operands[kMatmulY], kFeedForwardY);
  s.precision = Precision::f32;
  EXPECT_TRUE(is_fused(choose_feed_forward(s, t)));
  t.form = "matmul_scalar";
  EXPECT_EQ(refusal(choose_feed_forward(s, t)), "not asked for");
}

// Sums over parts, and the hidden activation of the products, are one binding each.
TEST(ChooseFeedForward, WhatABindingHolds) {
  Target t = desktop();
  t.limits.max_storage_range = 1u << 20;
  FeedForwardShape s{.rows = 256, .k = 64, .hidden = 4096, .n = 256};
  s.type = s.down_type = DType::q4_0;
  for (const char* form : {"", "feed_forward_fused"}) {
    t.form = form;
    const auto choice = choose_feed_forward(s, t);
    ASSERT_TRUE(choice) << choice.error().message;
    for (const std::uint64_t bytes : choice->scratch) EXPECT_LE(bytes, t.limits.max_storage_range);
  }
  t.form.clear();
  s = {.rows = 2048, .k = 128, .hidden = 512, .n = 128};
  EXPECT_EQ(refusal(choose_feed_forward(s, t)), "");
  t.form = "feed_forward_products";
  EXPECT_NE(refusal(choose_feed_forward(s, t)).find("does not fit one binding"), std::string::npos);
  t.form.clear();
  s = {.rows = 2048, .k = 2048, .hidden = 4096, .n = 8192};  // neither
  EXPECT_NE(refusal(choose_feed_forward(s, t)).find("do not fit on chip"), std::string::npos);
  EXPECT_NE(refusal(choose_feed_forward(s, t)).find("does not fit one binding"), std::string::npos);
}

TEST(ChooseFeedForward, AsManyWindowsAsThereAre) {
  FeedForwardShape s = block(64, 512);
  s.gated = true;
  s.type = s.down_type = DType::q8_0;
  s.hidden_window = 8;
  s.n_window = 4;
  Target t = desktop();
  for (const bool dot : {false, true}) {  // which has scratch of each dispatch's own
    t.caps.int_dot = t.caps.int_dot_fast = dot;
    s.precision = dot ? Precision::mixed : Precision::f32;
    const auto choice = choose_feed_forward(s, t);
    ASSERT_TRUE(choice) << choice.error().message;
    ASSERT_EQ(choice->dispatches.size(), dot ? 768u : 384u);
    EXPECT_EQ(choice->scratch.size(), dot ? 385u : 1u);
    EXPECT_EQ(choice->dispatches.back().operands[shader::kMatmulW], kFeedForwardOperands + 2 * 256 + 127);
    EXPECT_EQ(choice->dispatches.back().operands[shader::kMatmulX], kScratchOperand + (dot ? 384 : 0));
  }
}

TEST(ChooseFeedForward, RefusesZeros) {
  EXPECT_FALSE(choose_feed_forward(block(0, 64), desktop()));
  EXPECT_FALSE(choose_feed_forward(block(1, 0), desktop()));
}

TEST(ChooseMlp, OneDispatchWhereRowsFitSharedMemory) {
  MlpShape s{.rows = 100, .k = 64, .weight_bytes = 4096};
  s.layers.assign(3, {.n = 64});
  for (const std::uint32_t shared : {16384u, 49152u})
    for (const std::uint32_t width : {1u, 64u, 256u, 500u, 3000u}) {
      Target t = desktop();
      t.limits.max_shared_bytes = shared;
      s.layers[1].n = width;
      t.form = "mlp_fused";
      const auto choice = choose_mlp(s, t);
      if (!choice) {
        EXPECT_EQ(width, 3000u);
        t.form.clear();
        EXPECT_EQ(choose_mlp(s, t)->dispatches.size(), 3u);
        continue;
      }
      ASSERT_EQ(choice->dispatches.size(), 1u);
      const std::vector<std::uint32_t>& spec = choice->dispatches[0].spec;
      EXPECT_LE(2 * spec[shader::kMlpSpecLanesM] * spec[shader::kMlpSpecLaneRows] *
                    (spec[shader::kMlpSpecVec4] + 1) * 16,
                shared);
      EXPECT_EQ(choice->dispatches[0].params.size(), 3 * shader::kMlpLayerWords);
    }
}

TEST(ChooseMlp, WeightsInSeveralBuffersAreProducts) {
  MlpShape s{.rows = 4, .k = 8};
  s.layers.assign(2, {.n = 8});
  const auto choice = choose_mlp(s, desktop());
  ASSERT_TRUE(choice);
  EXPECT_EQ(refusal(choice), "its weights do not lie in one buffer");
  EXPECT_EQ(choice->dispatches.size(), 2u);
  s.layers.assign(16, {.n = 8});
  EXPECT_FALSE(choose_mlp(s, desktop()));
}

TEST(ChooseMlp, ProductsWhereWorkgroupsWouldReadMuchEach) {
  MlpShape s{.rows = 64, .k = 64, .weight_bytes = 1 << 24};
  s.layers.assign(4, {.n = 64});
  EXPECT_EQ(refusal(choose_mlp(s, desktop())), "");
  Target t = desktop();
  t.form = "matmul_scalar";
  EXPECT_EQ(refusal(choose_mlp(s, t)), "not asked for");
  s.k = 1000;
  s.layers.assign(4, {.n = 1000});
  for (const std::uint32_t rows : {1u, 64u}) {
    s.rows = rows;
    EXPECT_NE(refusal(choose_mlp(s, desktop())).find("reads all weights"), std::string::npos);
  }
  t = desktop();
  t.caps.software = true;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 8;
  s.rows = 4;
  EXPECT_EQ(refusal(choose_mlp(s, t)), "it would leave all but one core idle");
  s.k = 0xffffffff;  // rows longer than 32 bits count
  EXPECT_FALSE(choose_mlp(s, t));
}

TEST(ChooseMlp, Windows) {
  MlpShape s{.rows = 4, .k = 8};
  s.layers.assign(3, {.n = 10});
  s.layers[0].window = 4;
  s.layers[2].window = 6;
  const auto choice = choose_mlp(s, desktop());
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->dispatches.size(), 6u);
  const std::uint32_t w[] = {10, 11, 12, 6, 13, 14}, first[] = {0, 4, 8, 0, 0, 6};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(choice->dispatches[i].operands[shader::kMatmulW], w[i]) << i;
    EXPECT_EQ(choice->dispatches[i].push[offsetof(shader::MatmulPush, first) / 4], first[i]) << i;
  }
}

}  // namespace
}  // namespace tessera
