// Every option of linear attention with every other: random descriptors, and relations between results that
// hold whatever the numbers are.
#include <functional>
#include <limits>

#include "schedule/linear_attention_run.h"
#include "support/draw.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

// Sizes around vectors, tiles, chunks and dispatches; the reference's work stays small, and a tensor within
// the bindings of a small device.
void draw_sizes(Draw& draw, LinearAttentionAttrs& a) {
  constexpr double kMostWork = 5e5, kMostElements = 2.5e5;
  a.kv_heads = draw.of({1u, 1u, 2u, 3u});
  a.heads = a.kv_heads * draw.of({1u, 1u, 2u, 3u, 5u});
  a.batch = draw.of({1u, 1u, 2u, 3u});
  a.len = draw.chance(12)
              ? draw.of({509u, 1023u, 1024u, 1025u, 1040u, 2049u})
              : draw.of({1u, 1u, 2u, 3u, 7u, 8u, 9u, 15u, 16u, 17u, 31u, 32u, 33u, 61u, 127u, 130u});
  do {
    a.k_dim = draw.of({1u, 2u, 3u, 4u, 5u, 7u, 8u, 15u, 16u, 17u, 31u, 32u, 33u, 64u, 65u, 128u, 129u, 512u});
    a.v_dim = draw.of({1u, 2u, 3u, 4u, 5u, 7u, 8u, 15u, 16u, 17u, 24u, 31u, 33u, 36u, 64u, 65u, 128u, 300u});
  } while (double(a.batch) * a.len * a.heads * a.k_dim * a.v_dim > kMostWork ||
           double(a.batch) * a.len * a.heads * std::max(a.k_dim, a.v_dim) > kMostElements);
}

LinearCase random_case(std::uint32_t seed) {
  Draw draw(seed);
  LinearCase c;
  c.seed = seed;
  LinearAttentionAttrs& a = c.attrs;
  a.rule = draw.of({UpdateRule::linear, UpdateRule::gated, UpdateRule::delta, UpdateRule::gated_delta});
  draw_sizes(draw, a);
  a.scale = draw.of({1.0f, 0.125f, -0.75f, 3.0f});
  a.decay_by_dim = draw.chance(50);
  a.beta_by_head = draw.chance(50);
  a.shared_keys = draw.chance(10);
  if (!is_delta(a.rule)) {
    a.map = draw.of(
        {FeatureMap::none, FeatureMap::none, FeatureMap::elu_plus_one, FeatureMap::relu, FeatureMap::exp});
    a.normalise = draw.chance(40);
    a.epsilon = draw.of({0.0f, 1e-6f, 0.25f});
  }
  // Shared memory at the floor has no room for more beside a normaliser.
  if (a.normalise) a.k_dim = std::min(a.k_dim, 256u);
  a.causal = a.rule != UpdateRule::linear || draw.chance(60);
  c.past = draw.chance(50);
  c.output = draw.chance(90);
  c.present = !c.output || draw.chance(60);
  c.in_place = c.past && c.present && draw.chance(40);
  for (DType* type : {&c.q_type, &c.k_type, &c.v_type, &c.y_type})
    *type = draw.of({DType::f32, DType::f32, DType::f16, DType::bf16});
  c.decays = draw.of({0.0f, 0.01f, 1.0f, 6.0f});
  c.forgets = draw.of({0.0f, -20.0f, -150.0f, -1e9f});
  c.most_beta = draw.of({0.0f, 1.0f, 1.9f});
  return c;
}

// In turn as the device would have it, and as one without subgroups.
TEST_F(LinearAttentionGpu, RandomDescriptors) {
  auto caps = take(caps_from_env());
  caps.push_back({"subgroup_shuffle", 0});
  const auto plain = make_device(std::move(caps));
  ASSERT_TRUE(plain);
  for (std::uint32_t seed = 1; seed <= 80 * sweep_percent() / 100; ++seed) {
    check(random_case(seed), seed % 2 == 0 ? plain.get() : device_.get());
    if (HasFatalFailure()) return;
  }
}

// Relative to the largest, as sums of both have cancelled.
void expect_close(const std::vector<float>& found, const std::vector<float>& expected,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  float size = 0;
  for (const float x : expected) size = std::max(size, std::abs(x));
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], 2e-5f * size) << what << "[" << i << "]";
}

constexpr UpdateRule kRules[] = {UpdateRule::linear, UpdateRule::gated, UpdateRule::delta,
                                 UpdateRule::gated_delta};

LinearCase with_heads(UpdateRule rule, std::uint32_t len) {
  LinearCase c = of_rule(rule, len, 24, 40);
  c.attrs.batch = 2;
  c.attrs.heads = 4;
  c.attrs.kv_heads = 2;
  c.attrs.beta_by_head = true;
  c.past = true;
  return c;
}

// Calls of `step` rows, the state in place.
LinearTensors in_steps(LinearCase c, LinearTensors given, std::uint32_t step,
                       const std::function<LinearTensors(const LinearCase&, const LinearTensors&)>& run) {
  const LinearAttentionAttrs whole = c.attrs;
  std::vector<std::vector<float>> y(whole.batch);
  for (std::uint32_t first = 0; first < whole.len; first += step) {
    c.attrs.len = std::min(step, whole.len - first);
    c.in_place = true;
    LinearTensors now = run(c, rows_of(given, whole, first, first + c.attrs.len));
    given["past"] = now["past"];
    if (whole.normalise) given["past_z"] = now["z"];
    const std::size_t rows = now["y"].size() / whole.batch;
    for (std::size_t b = 0; b < whole.batch; ++b)
      y[b].insert(y[b].end(), now["y"].begin() + std::ptrdiff_t(b * rows),
                  now["y"].begin() + std::ptrdiff_t((b + 1) * rows));
  }
  LinearTensors out{{"present", given["past"]}};
  if (whole.normalise) out["z"] = given["past_z"];
  for (const std::vector<float>& rows : y) out["y"].insert(out["y"].end(), rows.begin(), rows.end());
  return out;
}

TEST_F(LinearAttentionGpu, AnySplitGivesTheRowsOfOnePass) {
  for (const UpdateRule rule : kRules)
    for (const bool by_dim : {false, true}) {
      LinearCase c = with_heads(rule, 47);
      c.attrs.decay_by_dim = by_dim;
      c.attrs.normalise = rule == UpdateRule::linear;
      if (!is_delta(rule)) c.attrs.map = FeatureMap::elu_plus_one;
      const LinearTensors given = numbers(c);
      const LinearTensors whole = run(c, given);
      for (const std::uint32_t step : {1u, 2u, 7u, 15u, 16u, 17u, 46u}) {
        SCOPED_TRACE("steps of " + std::to_string(step));
        LinearTensors parts =
            in_steps(c, given, step, [&](const auto& part, const auto& rows) { return run(part, rows); });
        for (const auto& [name, x] : whole) expect_close(parts[name], x, name);
        if (HasFatalFailure()) return;
      }
    }
}

TEST_F(LinearAttentionGpu, WithoutDecayAGatedRuleIsThePlainOne) {
  for (const auto& [gated, plain] :
       {std::pair(UpdateRule::gated, UpdateRule::linear), {UpdateRule::gated_delta, UpdateRule::delta}})
    for (const std::uint32_t len : {1u, 37u}) {
      LinearCase c = with_heads(gated, len);
      LinearTensors given = numbers(c);
      for (float& g : given["decay"]) g = 0;
      const LinearTensors found = run(c, given);
      c.attrs.rule = plain;
      given.erase("decay");
      for (const auto& [name, x] : run(c, given)) expect_close(found.at(name), x, name);
    }
}

// Whatever was before such a row might as well not have been, and what decays after it is as exact as ever.
TEST_F(LinearAttentionGpu, ADecayMayForgetEverything) {
  constexpr std::uint32_t kRow = 21;
  for (const UpdateRule rule : {UpdateRule::gated, UpdateRule::gated_delta})
    for (const bool by_dim : {false, true})
      for (const float decay : {-110.0f, -1e5f, -3e38f, -std::numeric_limits<float>::infinity()}) {
        SCOPED_TRACE(decay);
        LinearCase c = with_heads(rule, 40);
        c.attrs.decay_by_dim = by_dim;
        c.forgets = -0.5f;
        LinearTensors given = numbers(c);
        const LinearAttentionAttrs whole = c.attrs;
        const std::size_t row = given["decay"].size() / whole.batch / whole.len;
        for (std::size_t i = 0; i < given["decay"].size(); ++i)
          if (i / row % whole.len == kRow || i / row % whole.len == kRow - 2) given["decay"][i] = decay;
        const LinearTensors all = run(c, given);
        LinearTensors behind = rows_of(given, whole, kRow, whole.len);
        behind.erase("past");
        c.past = false;
        c.attrs.len = whole.len - kRow;
        const LinearTensors rest = run(c, behind);
        expect_close(rows_of(all.at("y"), whole.batch, whole.len, kRow, whole.len), rest.at("y"), "y");
        expect_close(all.at("present"), rest.at("present"), "present");
        if (HasFatalFailure()) return;
      }
}

TEST_F(LinearAttentionGpu, ADeltaRuleOfRateOneReadsBackWhatItWrote) {
  for (const std::uint32_t len : {1u, 16u, 35u}) {
    LinearCase c = of_rule(UpdateRule::delta, len, 24, 40);
    c.attrs.scale = 1;
    c.past = true;
    LinearTensors given = numbers(c);
    given["q"] = given["k"];
    given["beta"].assign(len, 1);
    expect_close(run(c, given)["y"], given["v"], "y");
  }
}

TEST_F(LinearAttentionGpu, ADeltaRuleOfRateZeroKeepsTheState) {
  LinearCase c = with_heads(UpdateRule::delta, 35);
  LinearTensors given = numbers(c);
  given["beta"].assign(given["beta"].size(), 0);
  EXPECT_EQ(run(c, given)["present"], given["past"]);
}

TEST_F(LinearAttentionGpu, TwiceTheValuesAndTheStateGiveTwiceTheOutput) {
  for (const UpdateRule rule : kRules) {
    const LinearCase c = with_heads(rule, 35);
    LinearTensors given = numbers(c);
    const LinearTensors once = run(c, given);
    for (const char* name : {"v", "past"})
      for (float& x : given[name]) x *= 2;
    for (auto& [name, twice] : run(c, given)) {
      for (float& x : twice) x /= 2;
      expect_close(twice, once.at(name), name);
    }
  }
}

// A KV head of several query heads, and as many equal KV heads.
TEST_F(LinearAttentionGpu, SharedHeadsAreRepeatedOnes) {
  for (const UpdateRule rule : kRules) {
    LinearCase c = with_heads(rule, 35);
    c.present = false;
    LinearTensors given = numbers(c);
    const LinearTensors shared = run(c, given);
    const LinearAttentionAttrs a = c.attrs;
    for (auto& [name, x] : given) {
      if (name == "q") continue;
      const std::size_t head = name == "past" ? std::size_t{a.k_dim} * a.v_dim
                               : name == "k"  ? a.k_dim
                               : name == "v"  ? a.v_dim
                                              : 1;
      std::vector<float> repeated;
      for (std::size_t first = 0; first < x.size(); first += head)
        for (std::uint32_t times = 0; times < a.heads / a.kv_heads; ++times)
          repeated.insert(repeated.end(), x.begin() + std::ptrdiff_t(first),
                          x.begin() + std::ptrdiff_t(first + head));
      x = repeated;
    }
    c.attrs.kv_heads = a.heads;
    expect_close(run(c, given)["y"], shared.at("y"), "y");
  }
}

TEST_F(LinearAttentionGpu, TheLastRowSeesWhatEveryRowOfFullAttentionSees) {
  for (const std::uint32_t len : {1u, 17u, 70u}) {
    LinearCase c = with_heads(UpdateRule::linear, len);
    LinearTensors given = numbers(c);
    const std::vector<float> causal = run(c, given)["y"];
    c.attrs.causal = false;
    const std::vector<float> full = run(c, given)["y"];
    expect_close(rows_of(full, c.attrs.batch, len, len - 1, len),
                 rows_of(causal, c.attrs.batch, len, len - 1, len), "y");
  }
}

}  // namespace
}  // namespace tessera::test
