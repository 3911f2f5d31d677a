// Which form of attention is taken, and what is said of the others.
#include <gmock/gmock.h>

#include "kernels/choose.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A GPU with every form for GPUs.
Target gpu() {
  Target t;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 49152;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 32;
  t.caps.coopmat = t.caps.coopmat2 = t.caps.fp16 = true;
  t.caps.subgroup_size_control = t.caps.subgroup_arithmetic = true;
  t.matrices.max_dimension = 512;
  t.matrices.shapes = {{16, 16, 16, MatrixType::f16, MatrixType::f32},
                       {16, 16, 16, MatrixType::f16, MatrixType::f32, MatrixScope::subgroup, true}};
  return t;
}

Target software() {
  Target t = gpu();
  t.caps.software = true;
  t.caps.coopmat = t.caps.coopmat2 = false;
  return t;
}

AttentionShape shape(std::uint32_t rows, Precision precision = Precision::mixed) {
  AttentionShape s;
  s.attrs.q_len = rows;
  s.attrs.kv_len = 512;
  s.attrs.heads = s.attrs.kv_heads = 8;
  s.attrs.head_dim = s.attrs.v_dim = 64;
  s.attrs.precision = precision;
  return s;
}

struct Chosen {
  std::string form;
  std::vector<std::string> refused;  // "form: reason"
};

Chosen choose(const Target& target, const AttentionShape& s) {
  const auto choice = choose_attention(s, target);
  if (!choice) return {choice.error().message, {}};
  Chosen out{std::string(kernel(choice->dispatches[0].kernel).name), {}};
  for (const Refusal& r : choice->refused) out.refused.push_back(r.tier + ": " + r.reason);
  return out;
}

Chosen measured(Target target, std::vector<MeasuredRate> rates, std::uint32_t rows = 512) {
  target.rates.list = std::move(rates);
  return choose(target, shape(rows));
}

TEST(MeasuredForms, WithoutRatesTheOrderHolds) {
  const Chosen c = choose(gpu(), shape(512));
  EXPECT_EQ(c.form, "attention_coopmat2");
  EXPECT_THAT(c.refused, ElementsAre());
  EXPECT_EQ(choose(software(), shape(512)).form, "attention_keys");
}

TEST(MeasuredForms, TheFasterOfTwoEitherWay) {
  Chosen c = measured(gpu(), {{"attention_coopmat2", 12e9}, {"attention_coopmat", 31e9}});
  EXPECT_EQ(c.form, "attention_coopmat");
  EXPECT_THAT(
      c.refused,
      ElementsAre("attention_coopmat2: measured at 12 GFLOP/s on this device, attention_coopmat at 31"));
  c = measured(gpu(), {{"attention_coopmat2", 31e9}, {"attention_coopmat", 12e9}});
  EXPECT_EQ(c.form, "attention_coopmat2");
  EXPECT_THAT(
      c.refused,
      ElementsAre("attention_coopmat: measured at 12 GFLOP/s on this device, attention_coopmat2 at 31"));
  EXPECT_EQ(measured(software(), {{"attention_keys", 2e9}, {"attention", 2.5e9}}).form, "attention");
  EXPECT_EQ(measured(software(), {{"attention_keys", 2.5e9}, {"attention", 2e9}}).form, "attention_keys");
  EXPECT_EQ(measured(software(), {{"attention_keys", 2e9}, {"attention", 2e9}}).form, "attention_keys");
}

TEST(MeasuredForms, TheFastestOfThree) {
  const Chosen c =
      measured(gpu(), {{"attention", 1234e9}, {"attention_coopmat2", 12e9}, {"attention_coopmat", 3.14e9}});
  EXPECT_EQ(c.form, "attention");
  EXPECT_THAT(c.refused,
              ElementsAre("attention_coopmat2: measured at 12 GFLOP/s on this device, attention at 1234",
                          "attention_coopmat: measured at 3.1 GFLOP/s on this device, attention at 1234"));
}

TEST(MeasuredForms, NothingMeasuredDisplacesWhatWasNot) {
  const Chosen c = measured(gpu(), {{"attention", 40e9}, {"attention_coopmat", 31e9}});
  EXPECT_EQ(c.form, "attention_coopmat2");
  EXPECT_THAT(c.refused, ElementsAre());
  EXPECT_EQ(measured(gpu(), {{"attention_coopmat2", 12e9}, {"attention", 0}}).form, "attention_coopmat2");
}

TEST(MeasuredForms, WhatWasNotMeasuredIsSaid) {
  const Chosen c = measured(gpu(), {{"attention_coopmat2", 12e9}, {"attention", 40e9}});
  EXPECT_EQ(c.form, "attention");
  EXPECT_THAT(c.refused,
              ElementsAre("attention_coopmat2: measured at 12 GFLOP/s on this device, attention at 40",
                          "attention_coopmat: not measured on this device, where attention at 40 GFLOP/s was "
                          "fastest"));
}

TEST(MeasuredForms, RatesOfWhatCannotAreOfNoAccount) {
  Target t = gpu();
  t.rates.list = {{"attention_coopmat2", 100e9}, {"attention_coopmat", 90e9}, {"attention", 1e9}};
  const Chosen c = choose(t, shape(512, Precision::f32));
  EXPECT_EQ(c.form, "attention");
  ASSERT_EQ(c.refused.size(), 2u);
  for (const std::string& r : c.refused) EXPECT_THAT(r, HasSubstr("precision f32"));
  // Nor do lanes of a GPU take a key each.
  EXPECT_EQ(measured(gpu(), {{"attention_coopmat2", 1e9}, {"attention_keys", 9e9}}).form,
            "attention_coopmat2");
}

TEST(MeasuredForms, FewRowsHaveTheirOwn) {
  EXPECT_EQ(measured(software(), {{"attention_keys", 1e9}, {"attention", 9e9}}, 1).form, "attention_keys");
  const Chosen c =
      measured(software(), {{"attention_keys/few_rows", 1e9}, {"attention_split/few_rows", 9e9}}, 1);
  EXPECT_EQ(c.form, "attention_split");
  ASSERT_EQ(c.refused.size(), 3u);
  EXPECT_EQ(c.refused[2], "attention_keys: measured at 1 GFLOP/s on this device, attention_split at 9");
}

// What causality and the window hide is neither arithmetic nor traffic.
TEST(CountedAttention, VisiblePairs) {
  AttentionShape s = shape(512, Precision::f32);
  const auto first = [&] { return choose_attention(s, gpu())->dispatches[0]; };
  const double a_pair = 2 * 8 * (64 + 64), io = 2.0 * 8 * 512 * 64 * 4;
  EXPECT_EQ(first().flops, a_pair * 512 * 512);
  EXPECT_EQ(first().bytes, 2 * io);
  s.attrs.causal = Causal::bottom_right;
  EXPECT_EQ(first().flops, a_pair * 512 * 513 / 2);
  EXPECT_EQ(first().bytes, 2 * io);
  s.attrs.window_left = 31;
  EXPECT_EQ(first().flops, a_pair * (512 * 32 - 31 * 32 / 2));
  s.operands.mask = DType::f16;
  s.operands.mask_strides = {0, 0, 512, 1};
  EXPECT_EQ(first().bytes, 2 * io + 2 * (512 * 32 - 31 * 32 / 2));
  s.operands.mask.reset();
  // The last 16 of 512 positions see 47 keys.
  s.attrs.q_len = 16;
  EXPECT_EQ(first().flops, a_pair * 16 * 32);
  EXPECT_EQ(first().bytes, 2.0 * 8 * 64 * 4 * (16 + 47));
}

TEST(CountedAttention, ScoresOfSomeRows) {
  AttentionShape s = shape(512, Precision::f32);
  s.attrs.causal = Causal::bottom_right;
  s.attrs.score_heads = 2;
  s.attrs.score_row = 100;
  s.attrs.score_rows = 10;
  for (const auto& [kind, pairs] :
       {std::pair(AttentionScores::raw, 5120), std::pair(AttentionScores::weights, 1055)}) {
    s.attrs.scores = kind;
    const Dispatch d = choose_attention(s, gpu())->dispatches.back();
    EXPECT_EQ(d.kernel, KernelId::attention_scores);
    EXPECT_EQ(d.flops, 2.0 * 2 * 64 * pairs);
    EXPECT_EQ(d.bytes, 4.0 * 2 * 5120);
  }
}

TEST(MeasuredForms, OneAlone) {
  for (const std::string_view name : attention_rate_names()) {
    const bool few = name.ends_with(kFewRows);
    Target t = name.starts_with("attention_keys") ? software() : gpu();
    t.form = name.substr(0, name.find('/'));
    EXPECT_EQ(choose(t, shape(few ? 1 : 512)).form, t.form);
  }
  Target t = gpu();
  t.form = "attention_keys";
  EXPECT_THAT(choose(t, shape(512)).form, HasSubstr("software drivers"));
  t.form = "attention_split";
  EXPECT_THAT(choose(t, shape(512)).form, HasSubstr("no form 'attention_split'"));
}

AttentionShape listed(std::uint32_t q_block, std::uint32_t k_block, std::uint64_t entries) {
  AttentionShape s = shape(512);
  s.attrs.q_block = q_block;
  s.attrs.k_block = k_block;
  s.operands.list_words = list_firsts(s.attrs) + entries;
  return s;
}

TEST(BlockLists, BlocksOfFewRowsAreFewRows) {
  EXPECT_EQ(choose(gpu(), listed(1, 1, 100)).form, "attention_split");
  EXPECT_EQ(choose(gpu(), listed(8, 64, 100)).form, "attention_split");
  EXPECT_EQ(choose(gpu(), listed(9, 64, 100)).form, "attention_coopmat2");
  EXPECT_EQ(choose(software(), listed(1, 1, 100)).form, "attention_keys");
}

// 16 blocks of 32 rows and 8 of 64 keys, 8 heads.
TEST(BlockLists, TilesFollowTheEntries) {
  Target t;
  for (const std::uint64_t entries : {0u, 1u, 13u, 128u}) {
    const AttentionShape s = listed(32, 64, entries);
    const auto choice = choose_attention(s, t);
    ASSERT_TRUE(choice) << choice.error().message;
    const AttentionTiles tiles = count_tiles(s, choice->dispatches[0]);
    EXPECT_EQ(tiles.computed / tiles.all, static_cast<double>(entries) / 128);
    EXPECT_DOUBLE_EQ(choice->dispatches[0].flops, 8.0 * 4 * 64 * static_cast<double>(entries) * 32 * 64);
  }
}

TEST(BlockLists, Refused) {
  const auto message = [](AttentionShape s) {
    const auto choice = choose_attention(s, gpu());
    return choice ? std::string("chosen") : choice.error().message;
  };
  AttentionShape s = listed(32, 64, 5);
  EXPECT_EQ(message(s), "chosen");
  s.operands.list_words = 3;
  EXPECT_THAT(message(s), HasSubstr("lists of fewer words than first entries"));
  s.operands.list_words = 0;
  EXPECT_THAT(message(s), HasSubstr("lists and the sizes of their blocks need each other"));
}

TEST(AdditiveScores, AreNoProductOfMatrices) {
  AttentionShape s = shape(512);
  s.attrs.score = AttentionScore::additive;
  const Chosen c = choose(gpu(), s);
  EXPECT_EQ(c.form, "attention");
  EXPECT_THAT(c.refused, ElementsAre("attention_coopmat2: additive scores are no product of matrices",
                                     "attention_coopmat: additive scores are no product of matrices"));
}

TEST(AdditiveScores, TakeALaneAKeyOfShortHeadsAlone) {
  AttentionShape s = shape(512);
  s.attrs.score = AttentionScore::additive;
  for (const auto& [dim, form] : {std::pair(16u, "attention_keys"), std::pair(32u, "attention")}) {
    s.attrs.head_dim = s.attrs.v_dim = dim;
    EXPECT_EQ(choose(software(), s).form, form);
  }
}

// A list's last tile may be half full; two lists share none.
TEST(BlockLists, TilesOfEachList) {
  AttentionShape s = listed(256, 16, 4);
  const auto choice = choose_attention(s, Target{});
  ASSERT_TRUE(choice) << choice.error().message;
  const Dispatch& d = choice->dispatches[0];
  ASSERT_EQ(d.tile_keys, 32);
  const std::vector<std::uint32_t> lists{0, 1, 4, 7, 0, 2, 5};
  EXPECT_EQ(count_tiles(s, d, lists).computed, 8.0 * (1 + 2) * 256 / d.tile_rows);
  EXPECT_EQ(count_tiles(s, d).computed, 8.0 * 2 * 256 / d.tile_rows);
}

TEST(TopK, ScoresAndBitsComeFirst) {
  AttentionShape s = shape(512);
  s.attrs.top_k = 5;
  const auto choice = choose_attention(s, gpu());
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->dispatches[0].kernel, KernelId::attention_scores);
  EXPECT_EQ(choice->dispatches[1].kernel, KernelId::attention_keep);
  EXPECT_THAT(choice->scratch, ElementsAre(8u * 512 * 512 * 4, 8u * 512 * 512 / 8));
  s.attrs.top_k = 512;  // all of them
  EXPECT_THAT(choose_attention(s, gpu())->scratch, ElementsAre());
}

}  // namespace
}  // namespace tessera
