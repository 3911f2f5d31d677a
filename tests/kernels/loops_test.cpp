#include "kernels/loops.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

// A software driver of subgroups of 8 that ends loops.
Target limited(std::uint32_t most = 65535) {
  Target t;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 32768;
  t.limits.max_storage_range = 1u << 30;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 8;
  t.caps.subgroup_arithmetic = t.caps.subgroup_shuffle = t.caps.software = true;
  t.limits.max_loop_iterations = most;
  return t;
}

std::uint64_t most_of(const std::vector<Dispatch>& dispatches) {
  std::uint64_t most = 0;
  for (const Dispatch& d : dispatches) most = std::max(most, loop_iterations(d));
  return most;
}

// The limit of `choose(target)`'s own count, and one below it.
template <typename F>
void expect_another_below(F choose) {
  const auto whole = choose(limited());
  ASSERT_TRUE(whole) << whole.error().message;
  const std::uint64_t count = loop_iterations(*whole);
  ASSERT_GT(count, 1024u);
  EXPECT_EQ(choose(limited(static_cast<std::uint32_t>(count)))->kernel, whole->kernel);
  const auto other = choose(limited(static_cast<std::uint32_t>(count) - 1));
  if (!other) {
    EXPECT_EQ(other.error().code, Code::unsupported);
    EXPECT_NE(other.error().message.find("max_loop_iterations"), std::string::npos) << other.error().message;
    return;
  }
  EXPECT_LT(loop_iterations(*other), count);
  EXPECT_TRUE(other->kernel != whole->kernel || other->spec != whole->spec);
}

// Rows of one tile may lie in documents at both ends of the keys, whatever the window.
TEST(Loops, DocumentsFarApart) {
  AttentionShape s;
  s.attrs = {.q_len = 64, .kv_len = 1000000, .heads = 1, .kv_heads = 1, .head_dim = 4, .v_dim = 4};
  s.attrs.causal = Causal::bottom_right;
  s.attrs.window_left = 16;
  const auto window = choose_attention(s, limited());
  ASSERT_TRUE(window) << window.error().message;
  s.operands.documents = 2;
  const auto documents = choose_attention(s, limited());
  ASSERT_TRUE(documents) << documents.error().message;
  EXPECT_LE(most_of(documents->dispatches), 65535u);
  EXPECT_GT(documents->dispatches[0].grid, window->dispatches[0].grid);  // splits
}

TEST(Loops, EachSideOfTheLimit) {
  expect_another_below(
      [](const Target& t) { return choose_matmul({.rows = 1, .n = 8, .k = 200000, .y_stride = 8}, t); });
  expect_another_below(
      [](const Target& t) { return choose_matmul({.rows = 16, .n = 8, .k = 20000, .y_stride = 8}, t); });
  expect_another_below([](Target t) {
    t.caps.subgroup_shuffle = false;
    return choose_matmul({.rows = 40, .n = 8, .k = 100000, .y_stride = 8}, t);
  });
  expect_another_below([](const Target& t) { return choose_norm({.rows = 1, .dim = 1000000}, t); });
  expect_another_below([](const Target& t) { return choose_softmax({1, 80000, 32}, t); });
  expect_another_below([](const Target& t) { return choose_sample(131072, 4096, t); });
  expect_another_below(
      [](const Target& t) { return choose_embedding({.rows = 1, .dim = 1000000, .count = 2}, t); });
}

TEST(Loops, MatmulTakesLanesAlongK) {
  MatmulShape s{.rows = 1, .n = 8, .k = 3000000, .y_stride = 8};
  EXPECT_EQ(choose_matmul(s, limited())->kernel, KernelId::matvec_subgroup);
  s.k = 300000;
  EXPECT_EQ(choose_matmul(s, limited())->kernel, KernelId::matmul_lanes);
  s.k = 100000000;
  EXPECT_EQ(choose_matmul(s, limited()).error().code, Code::unsupported);
  s.rows = 40;
  s.k = 1000000;
  Target t = limited();
  t.caps.subgroup_shuffle = false;
  EXPECT_EQ(choose_matmul(s, t)->kernel, KernelId::matvec_subgroup);
  t.limits.max_loop_iterations = Limits{}.max_loop_iterations;
  EXPECT_EQ(choose_matmul(s, t)->kernel, KernelId::tile);
}

TEST(Loops, LinearAttentionGoesOnInAnotherDispatch) {
  LinearAttentionShape s{.present = true};
  s.attrs = {
      .len = 1000, .heads = 2, .kv_heads = 1, .k_dim = 64, .v_dim = 16, .rule = UpdateRule::gated_delta};
  const auto whole = choose_linear_attention(s, limited());
  ASSERT_TRUE(whole) << whole.error().message;
  const std::uint64_t count = most_of(whole->dispatches);
  EXPECT_LE(count, 65535u);
  const auto more = choose_linear_attention(s, limited(static_cast<std::uint32_t>(count) - 1));
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_GT(more->dispatches.size(), whole->dispatches.size());
  EXPECT_LT(most_of(more->dispatches), count);
  s.attrs.k_dim = kMaxStateRows;
  s.attrs.heads = 64;
  const auto none = choose_linear_attention(s, limited(1024));
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("max_loop_iterations"), std::string::npos) << none.error().message;
}

TEST(Loops, FeedForwardIsSplit) {
  FeedForwardShape s{.rows = 32, .k = 1024, .hidden = 4096, .n = 64};
  const auto whole = choose_feed_forward(s, limited());
  ASSERT_TRUE(whole && whole->dispatches.size() == 1);
  const std::uint64_t count = most_of(whole->dispatches);
  EXPECT_LE(count, 65535u);
  Target t = limited(static_cast<std::uint32_t>(count) - 1);
  t.form = "feed_forward_fused";
  const auto split = choose_feed_forward(s, t);
  ASSERT_TRUE(split) << split.error().message;
  EXPECT_EQ(split->dispatches.size(), 2u);
  EXPECT_LT(most_of(split->dispatches), count);
  t.limits.max_loop_iterations = 1024;  // not one tile of hidden units
  s.k = 8192;
  const auto none = choose_feed_forward(s, t);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("max_loop_iterations"), std::string::npos);
}

TEST(Loops, MlpIsProducts) {
  MlpShape s{.rows = 4, .k = 1016, .weight_bytes = 1 << 24};
  s.layers.assign(3, {.n = 1016});
  Target t = limited();
  t.form = "mlp_fused";
  const auto whole = choose_mlp(s, t);
  ASSERT_TRUE(whole);
  t.limits.max_loop_iterations = static_cast<std::uint32_t>(most_of(whole->dispatches)) - 1;
  EXPECT_FALSE(choose_mlp(s, t));
  t.form.clear();
  const auto products = choose_mlp(s, t);
  ASSERT_TRUE(products);
  EXPECT_EQ(products->dispatches.size(), 3u);
}

TEST(Loops, AttentionSplitsTheKeys) {
  for (const bool shuffle : {false, true})
    for (const std::uint32_t rows : {1u, 64u})
      for (const std::uint32_t keys : {4096u, 131072u, 4000000u}) {
        AttentionShape s;
        s.attrs.batch = 1;
        s.attrs.q_len = rows;
        s.attrs.kv_len = keys;
        s.attrs.heads = 4;
        s.attrs.kv_heads = 1;
        s.attrs.head_dim = s.attrs.v_dim = 128;
        Target t = limited();
        t.caps.software = shuffle;
        const auto choice = choose_attention(s, t);
        if (!choice) {
          EXPECT_EQ(choice.error().code, Code::unsupported);
          EXPECT_EQ(keys, 4000000u) << choice.error().message;
          continue;
        }
        EXPECT_LE(most_of(choice->dispatches), 65535u);
      }
}

}  // namespace
}  // namespace tessera
