// Linear attention on the device against the reference and its bounds.
#include <tuple>

#include "interface/linear_attention.h"
#include "kernels/target.h"
#include "schedule/linear_attention_run.h"
#include "support/refusal.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

constexpr UpdateRule kRules[] = {UpdateRule::linear, UpdateRule::gated, UpdateRule::delta,
                                 UpdateRule::gated_delta};

class LinearRules : public LinearAttentionGpu, public testing::WithParamInterface<UpdateRule> {};

// Chunks end before, at and behind the last row; tiles of v likewise.
TEST_P(LinearRules, AwkwardSizes) {
  Sweep sweep;
  std::uint32_t seen = 0;
  for (const std::uint32_t len : {1u, 2u, 15u, 16u, 17u, 33u, 67u})
    for (const auto& [k_dim, v_dim] :
         {std::pair(1u, 1u), {2u, 3u}, {5u, 33u}, {16u, 7u}, {31u, 16u}, {64u, 37u}, {67u, 64u}}) {
      const bool more = ++seen % 2 == 0;
      if (!sweep.next()) continue;
      LinearCase c = of_rule(GetParam(), len, k_dim, v_dim);
      c.attrs.decay_by_dim = more;
      c.attrs.beta_by_head = more;
      c.attrs.kv_heads = more ? 2 : 1;
      c.attrs.heads = more ? 4 : 1;
      c.attrs.batch = more ? 2 : 1;
      c.past = more;
      check(c);
    }
}

TEST_P(LinearRules, HeadsAndBatches) {
  for (const auto& [heads, kv_heads] : {std::pair(1u, 1u), {3u, 3u}, {6u, 2u}, {5u, 1u}})
    for (const std::uint32_t batch : {1u, 3u})
      for (const bool wide : {false, true}) {
        LinearCase c = of_rule(GetParam(), 19, 8, wide ? 8 : 9);
        c.attrs.heads = heads;
        c.attrs.kv_heads = kv_heads;
        c.attrs.batch = batch;
        c.attrs.decay_by_dim = c.attrs.beta_by_head = wide;
        c.past = true;
        check(c);
      }
}

TEST_P(LinearRules, WithAndWithoutStates) {
  for (const bool past : {false, true})
    for (const bool present : {false, true})
      for (const std::uint32_t len : {1u, 20u}) {
        LinearCase c = of_rule(GetParam(), len, 12, 20);
        c.past = past;
        c.present = present;
        check(c);
        c.in_place = past && present;
        if (c.in_place) check(c);
        c.output = false;
        if (present) check(c);
      }
}

TEST_P(LinearRules, HalfTypes) {
  for (const DType type : {DType::f16, DType::bf16})
    for (const std::uint32_t v_dim : {1u, 3u, 6u, 8u, 40u}) {
      LinearCase c = of_rule(GetParam(), 18, v_dim == 8 ? 8 : 7, v_dim);
      c.attrs.heads = c.attrs.kv_heads = 3;
      c.attrs.decay_by_dim = v_dim > 3;
      c.set_types(type);
      c.past = true;
      check(c);
    }
}

TEST_P(LinearRules, LargestHeads) {
  for (const std::uint32_t len : {1u, 18u}) {
    LinearCase c = of_rule(GetParam(), len, kMaxStateRows, 5);
    c.attrs.decay_by_dim = true;
    c.past = true;
    check(c);
    c.attrs.k_dim = 128;
    c.attrs.v_dim = 128;
    check(c);
  }
}

// Dispatch after dispatch, and as little shared memory as a device may have.
TEST_P(LinearRules, LoweredLimits) {
  const auto few_loops = make_device({{"max_loop_iterations", 1024}});
  const auto little_shared = make_device({{"max_shared_bytes", 16384}});
  const auto small =
      make_device({{"max_group_invocations", 128}, {"max_group_count_x", 3}, {"max_group_count_y", 2}});
  ASSERT_TRUE(few_loops && little_shared && small);
  for (Device* device : {few_loops.get(), little_shared.get(), small.get()})
    for (const bool present : {false, true}) {
      LinearCase c = of_rule(GetParam(), 70, 32, 24);
      c.attrs.heads = c.attrs.kv_heads = 2;
      c.attrs.decay_by_dim = present;
      c.present = present;
      check(c, device);
      c.attrs.k_dim = 129;
      c.attrs.len = 21;
      check(c, device);
    }
}

TEST_P(LinearRules, LongSequences) {
  LinearCase c = of_rule(GetParam(), 1500, 8, 4);
  check(c);
  c.present = false;
  check(c);
  // As many rows a dispatch as a driver that ends loops allows.
  c = of_rule(GetParam(), 1100, 96, 8);
  c.attrs.heads = 2;
  c.attrs.decay_by_dim = true;
  check(c);
}

INSTANTIATE_TEST_SUITE_P(Rules, LinearRules, testing::ValuesIn(kRules),
                         [](const auto& i) { return std::string(name(i.param)); });

TEST_F(LinearAttentionGpu, FeatureMapsAndNormalisers) {
  for (const FeatureMap map : {FeatureMap::none, FeatureMap::elu_plus_one, FeatureMap::relu, FeatureMap::exp})
    for (const bool normalise : {false, true})
      for (const bool causal : {false, true})
        for (const std::uint32_t len : {1u, 17u, 80u}) {
          LinearCase c = of_rule(UpdateRule::linear, len, 13, 18);
          c.attrs.heads = 4;
          c.attrs.kv_heads = 2;
          c.attrs.map = map;
          c.attrs.normalise = normalise;
          c.attrs.epsilon = 0.25f;
          c.attrs.causal = causal;
          c.past = len != 17;
          check(c);
          c.present = false;
          check(c);
        }
}

TEST_F(LinearAttentionGpu, NormaliserOfADecayedState) {
  for (const bool by_dim : {false, true}) {
    LinearCase c = of_rule(UpdateRule::gated, 40, 9, 34);
    c.attrs.map = FeatureMap::elu_plus_one;
    c.attrs.normalise = c.past = true;
    c.attrs.decay_by_dim = by_dim;
    check(c);
  }
}

// The normaliser goes from dispatch to dispatch, and every tile of columns needs it.
TEST_F(LinearAttentionGpu, NormaliserOverDispatches) {
  const auto few_loops = make_device({{"max_loop_iterations", 1024}});
  ASSERT_TRUE(few_loops);
  for (const bool causal : {false, true})
    for (const bool present : {false, true}) {
      LinearCase c = of_rule(UpdateRule::linear, 90, 24, 70);
      c.attrs.map = FeatureMap::elu_plus_one;
      c.attrs.normalise = true;
      c.attrs.causal = causal;
      c.past = c.present = present;
      check(c, few_loops.get());
    }
}

TEST_F(LinearAttentionGpu, ZeroDenominatorGivesZeros) {
  LinearCase c = of_rule(UpdateRule::linear, 3, 4, 4);
  c.attrs.map = FeatureMap::relu;
  c.attrs.normalise = true;
  const LinearProgram made(c);
  const auto gpu = take(GpuWalker::create(*device_, made.program, {}));
  ASSERT_TRUE(gpu);
  for (const ValueId id : made.given) {
    const std::vector<float> below(made.value(id).elems(), -1.0f);
    expect_ok(gpu->write(id, 0, std::as_bytes(std::span(below))));
  }
  expect_ok(gpu->run(0));
  std::vector<float> y(12, 7.0f);
  expect_ok(gpu->read(made.made[0], 0, std::as_writable_bytes(std::span(y))));
  EXPECT_EQ(y, std::vector<float>(12, 0.0f));
}

// All sequences have the keys of one: the state is a matrix times each of several.
TEST_F(LinearAttentionGpu, SharedKeys) {
  for (const std::uint32_t len : {1u, 16u, 50u}) {
    LinearCase c = of_rule(UpdateRule::linear, len, 21, 10);
    c.attrs.batch = 3;
    c.attrs.shared_keys = true;
    check(c);
    c.output = false;
    check(c);
  }
}

TEST_F(LinearAttentionGpu, ChunksInSharedMemory) {
  const auto program = LinearProgram(of_rule(UpdateRule::gated_delta, 64, 64, 64)).program;
  const LinearAttentionShape shape{.attrs = program->graphs[0].ops[0].attrs.linear, .present = true};
  Target target = target_of(*device_);
  target.caps.software = false;
  target.limits.max_shared_bytes = 48 * 1024;
  target.limits.max_loop_iterations = 0xffffffff;
  const auto choice = choose_linear_attention(shape, target);
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->dispatches[0].spec[shader::kLinearSpecChunk], 16u);
  LinearAttentionShape decode = shape;
  decode.attrs.len = 1;
  const auto one = choose_linear_attention(decode, target);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ(one->dispatches[0].spec[shader::kLinearSpecChunk], 1u);
  EXPECT_GT(one->dispatches[0].spec[shader::kLinearSpecParts], 1u);
  target.limits.max_shared_bytes = 1000;
  expect_refused(choose_linear_attention(shape, target), Code::unsupported, {"too little shared memory"});
}

// More lanes share a column where its rows are too many, or the columns too few.
TEST_F(LinearAttentionGpu, LanesOfSoftwareDrivers) {
  Target target = target_of(*device_);
  target.caps.software = target.caps.subgroup_shuffle = target.caps.subgroup_size_control = true;
  target.limits.subgroup_size = 8;
  target.limits.max_loop_iterations = 0xffffffff;
  for (const auto& [k_dim, v_dim, parts] :
       {std::tuple(64u, 64u, 1u), {64u, 12u, 2u}, {65u, 64u, 2u}, {512u, 64u, 8u}, {3u, 1u, 8u}}) {
    LinearAttentionShape shape;
    shape.attrs = of_rule(UpdateRule::delta, 40, k_dim, v_dim).attrs;
    const auto choice = choose_linear_attention(shape, target);
    ASSERT_TRUE(choice) << choice.error().message;
    EXPECT_EQ(choice->dispatches[0].kernel, KernelId::linear_attention_lanes);
    EXPECT_EQ(choice->dispatches[0].spec[shader::kLinearSpecParts], parts) << k_dim << " by " << v_dim;
    target.limits.subgroup_size = 4;
    EXPECT_EQ(choose_linear_attention(shape, target)->dispatches[0].kernel,
              k_dim == 512 ? KernelId::linear_attention : KernelId::linear_attention_lanes);
    target.limits.subgroup_size = 8;
  }
}

}  // namespace
}  // namespace tessera::test
