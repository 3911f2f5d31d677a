// What sample chooses (graph/state.h), and which other ids it lets a device choose.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "reference/one_op.h"
#include "reference/ops.h"

namespace tessera::test {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::uint32_t>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// The vectors that Random123 publishes for philox4x32 with 10 rounds (kat_vectors).
TEST(Philox, KnownAnswers) {
  EXPECT_THAT(philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_THAT(philox4x32({ones, ones, ones, ones}, {ones, ones}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

Choice choose(std::vector<float> logits, SamplerParams params = {}, Words recent = {}, std::uint32_t at = 7) {
  return choose_token(logits, recent, at, params, true);
}

double uniform(std::uint32_t position, std::uint32_t seed) {
  return (philox4x32({position, 0, 0, 0}, {seed, 0})[0] >> 8) * 0x1p-24;
}

// How often each id is drawn over many seeds.
std::vector<int> histogram(const std::vector<float>& logits, SamplerParams params, int draws = 4000) {
  std::vector<int> count(logits.size());
  for (int seed = 0; seed < draws; ++seed) {
    params.seed_low = static_cast<std::uint32_t>(seed);
    ++count[choose_token(logits, {}, 3, params, false).id];
  }
  return count;
}

SamplerParams warm(std::uint32_t top_k = 0, float top_p = 1, float min_p = 0) {
  SamplerParams p;
  p.temperature = 1;
  p.top_k = top_k;
  p.top_p = top_p;
  p.min_p = min_p;
  return p;
}

std::vector<float> logs(std::vector<double> probabilities) {
  std::vector<float> out;
  for (double p : probabilities) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

Words drawn(const std::vector<int>& count) {
  Words out;
  for (std::uint32_t id = 0; id < count.size(); ++id)
    if (count[id] > 0) out.push_back(id);
  return out;
}

TEST(Sample, GreedyTakesTheLargestAndTiesGoToTheLowestId) {
  EXPECT_EQ(choose({1, 5, 2, 5}).id, 1u);
  EXPECT_THAT(choose({1, 5, 2, 5}).acceptable, ElementsAre(1));  // no arithmetic: exact
  EXPECT_EQ(choose({-kInf, -3, -kInf}).id, 1u);
  EXPECT_EQ(choose({-0.0f, 0.0f}).id, 0u);
}

TEST(Sample, BadLogitsGiveAStatus) {
  EXPECT_EQ(choose({1, kNaN, 2}).status, kStatusNaN);
  EXPECT_EQ(choose({1, kInf, 2}).status, kStatusNaN);
  EXPECT_EQ(choose({-kInf, -kInf}).status, kStatusNaN);
  EXPECT_EQ(choose({-kInf, 0}).status, kStatusOk);
  SamplerParams p;
  p.penalty = 0.5f;
  EXPECT_EQ(choose({3e38f, 0}, p, {0}).status, kStatusNaN);  // the penalty makes it infinite
  p.penalty = 2;
  EXPECT_EQ(choose({-3e38f, -3e38f}, p, {0, 1}).status, kStatusNaN);
  EXPECT_EQ(choose({-kInf, -3}, p, {0}).id, 1u);
}

TEST(Sample, PenaltyDividesPositiveAndMultipliesNegativeOnce) {
  SamplerParams p;
  p.penalty = 2;
  EXPECT_EQ(choose({4, 3, 1}, p, {0}).id, 1u);        // 2, 3, 1
  EXPECT_EQ(choose({4, 1.5f, 1}, p, {0, 0}).id, 0u);  // once, though 0 appears twice: 2, 1.5, 1
  EXPECT_EQ(choose({-1, -1.5f}, p, {0}).id, 1u);      // -2, -1.5
  EXPECT_EQ(choose({4, 1}, p, {99}).id, 0u);          // an id outside the vocabulary is nobody's
  EXPECT_THAT(choose({4, 2}, p, {0}).acceptable, ElementsAre(0, 1));  // a tie that a division makes
}

TEST(Sample, DrawsFollowTheProbabilities) {
  const std::vector<int> count = histogram(logs({0.1, 0.6, 0.3}), warm());
  EXPECT_NEAR(count[0], 400, 60);
  EXPECT_NEAR(count[1], 2400, 100);
  EXPECT_NEAR(count[2], 1200, 100);
}

TEST(Sample, TemperatureSharpens) {
  SamplerParams p = warm();
  p.temperature = 0.5f;  // squares the probabilities: 1/46, 36/46, 9/46
  EXPECT_NEAR(histogram(logs({0.1, 0.6, 0.3}), p)[1], 4000.0 * 36 / 46, 100);
}

TEST(Sample, IsTheFirstIdWhoseCumulativeProbabilityExceedsU) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    SamplerParams p = warm();
    p.seed_low = seed;
    const double u = uniform(7, seed);
    const std::uint32_t id = u < 0.25 ? 0 : u < 0.5 ? 1 : u < 0.75 ? 2 : 3;
    const Choice choice = choose({0, 0, 0, 0}, p);
    EXPECT_EQ(choice.id, id) << "u " << u;
    EXPECT_THAT(choice.acceptable, ElementsAre(id));
  }
}

TEST(Sample, TheDrawDependsOnSeedAndPositionOnly) {
  SamplerParams p = warm();
  p.seed_high = 5;
  EXPECT_EQ(choose({0, 0, 0, 0}, p).id, choose({0, 0, 0, 0}, p).id);
  Words ids;
  for (std::uint32_t at = 0; at < 32; ++at) ids.push_back(choose({0, 0, 0, 0}, p, {}, at).id);
  EXPECT_THAT(ids, ::testing::Contains(::testing::Ne(ids[0])));
}

TEST(Sample, TopKKeepsTheKLargest) {
  const auto logits = logs({0.1, 0.4, 0.2, 0.3});
  EXPECT_THAT(drawn(histogram(logits, warm(2))), ElementsAre(1, 3));
  EXPECT_THAT(drawn(histogram(logits, warm(1))), ElementsAre(1));
  EXPECT_THAT(drawn(histogram(logits, warm(0))), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(drawn(histogram(logits, warm(99))), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(drawn(histogram({1, 1, 1}, warm(2))), ElementsAre(0, 1));  // ties: the lowest ids
}

TEST(Sample, TopPKeepsTheShortestPrefixThatReachesP) {
  const auto logits = logs({0.1, 0.4, 0.2, 0.3});
  EXPECT_THAT(drawn(histogram(logits, warm(0, 0.65f))), ElementsAre(1, 3));
  EXPECT_THAT(drawn(histogram(logits, warm(0, 0.75f))), ElementsAre(1, 2, 3));
  EXPECT_THAT(drawn(histogram(logits, warm(0, 0.0f))), ElementsAre(1));  // at least one
  EXPECT_THAT(drawn(histogram({0, 0}, warm(0, 0.5f))), ElementsAre(0));  // 0.5 reaches 0.5
  EXPECT_THAT(drawn(histogram(logits, warm(2, 0.5f))), ElementsAre(1));  // of what top_k left: 4/7
  EXPECT_THAT(drawn(histogram(logits, warm(2, 0.58f))), ElementsAre(1, 3));
}

TEST(Sample, MinPIsRelativeToTheLargest) {
  const auto logits = logs({0.1, 0.4, 0.2, 0.3});
  EXPECT_THAT(drawn(histogram(logits, warm(0, 1, 0.6f))), ElementsAre(1, 3));
  EXPECT_THAT(drawn(histogram(logits, warm(0, 1, 0.4f))), ElementsAre(1, 2, 3));
  EXPECT_THAT(drawn(histogram(logits, warm(0, 1, 1))), ElementsAre(1));
  EXPECT_THAT(drawn(histogram({2, 2, 1}, warm(0, 1, 1))), ElementsAre(0, 1));
}

TEST(Sample, WhatIsImpossibleIsNeverDrawn) {
  EXPECT_THAT(drawn(histogram({-kInf, 1, -kInf, 1, -1000}, warm())), ElementsAre(1, 3));
}

TEST(Sample, AcceptsANeighbourOnlyAtAnEdge) {
  SamplerParams p = warm();
  p.seed_low = 11;
  const double u = uniform(7, 11);
  const auto with_edge = [&](double edge) { return logs({edge, 1 - edge}); };
  EXPECT_THAT(choose(with_edge(u + 1e-8), p).acceptable, ElementsAre(0, 1));
  EXPECT_THAT(choose(with_edge(u - 1e-8), p).acceptable, ElementsAre(0, 1));
  EXPECT_THAT(choose(with_edge(u + 1e-3), p).acceptable, ElementsAre(0));
  EXPECT_THAT(choose(with_edge(u - 1e-3), p).acceptable, ElementsAre(1));
}

TEST(Sample, AcceptsBothSidesOfALimit) {
  // top_p is reached by id 0 alone or just not: id 1 may be in or out, and u decides whether that matters.
  SamplerParams p = warm(0, 0.6f);
  p.seed_low = 0;
  while (uniform(7, p.seed_low) < 0.7 || uniform(7, p.seed_low) > 0.95) ++p.seed_low;
  const auto near = choose(logs({0.6, 0.4}), p);
  EXPECT_THAT(near.acceptable, ElementsAre(0, 1));
  EXPECT_THAT(choose(logs({0.7, 0.3}), p).acceptable, ElementsAre(0));
  EXPECT_THAT(choose(logs({0.5, 0.5}), p).acceptable, ElementsAre(1));

  SamplerParams m = warm(0, 1, 0.5f);
  m.seed_low = p.seed_low;
  EXPECT_THAT(choose(logs({2.0 / 3, 1.0 / 3}), m).acceptable, ElementsAre(0, 1));
  EXPECT_THAT(choose(logs({0.7, 0.3}), m).acceptable, ElementsAre(0));

  // top_k compares logits as they are; once divided by a temperature, close ones may change places.
  SamplerParams k = warm(1);
  EXPECT_THAT(choose({1, std::nextafter(1.0f, 2.0f)}, k).acceptable, ElementsAre(1));
  k.temperature = 0.7f;
  EXPECT_THAT(choose({1, std::nextafter(1.0f, 2.0f)}, k).acceptable, ElementsAre(0, 1));
  EXPECT_THAT(choose({1, 1.01f}, k).acceptable, ElementsAre(1));
}

// A float32 sampler, as a kernel may be written, must always choose what is acceptable.
std::uint32_t choose_f32(const std::vector<float>& logits, const SamplerParams& params, float u) {
  struct Entry {
    std::uint32_t id;
    float logit, p;
  };
  std::vector<Entry> all;
  for (std::uint32_t id = 0; id < logits.size(); ++id)
    all.push_back({id, logits[id] / params.temperature, 0});
  std::ranges::stable_sort(all, std::greater{}, &Entry::logit);
  for (Entry& e : all) e.p = std::exp2((e.logit - all[0].logit) * 1.44269504f);
  if (params.top_k != 0) all.resize(std::min<std::size_t>(all.size(), params.top_k));
  float total = 0, sum = 0;
  for (const Entry& e : all) total += e.p;
  std::size_t n = 0;
  while (n < all.size() && (n == 0 || sum < params.top_p * total)) sum += all[n++].p;
  all.resize(n);
  std::erase_if(all, [&](const Entry& e) { return e.p < params.min_p; });
  std::ranges::sort(all, {}, &Entry::id);
  total = sum = 0;
  for (const Entry& e : all) total += e.p;
  for (const Entry& e : all) {
    sum += e.p;
    if (sum > u * total) return e.id;
  }
  return all.back().id;
}

TEST(Sample, ASamplerInFloat32IsAccepted) {
  int other = 0, several = 0;
  std::vector<float> logits(300);
  for (std::uint32_t seed = 0; seed < 400; ++seed) {
    for (std::uint32_t i = 0; i < logits.size(); ++i)
      logits[i] = static_cast<float>(philox4x32({i, 1, 0, 0}, {seed, 9})[0] >> 12) * 0x1p-17f;
    const bool coarse = seed % 3 == 0;  // many ties
    if (coarse)
      for (float& logit : logits) logit = std::round(logit * 8) / 8;
    SamplerParams p = warm(seed % 7 * 10, seed % 2 ? 0.9f : 1, seed % 5 ? 0 : 0.05f);
    p.temperature = seed % 4 ? 0.8f : 1;
    p.seed_low = seed;
    const Choice choice = choose(logits, p);
    const std::uint32_t id = choose_f32(logits, p, static_cast<float>(uniform(7, seed)));
    EXPECT_THAT(choice.acceptable, ::testing::Contains(id)) << "seed " << seed << " chose " << choice.id;
    EXPECT_THAT(choice.acceptable, ::testing::Contains(choice.id));
    other += id != choice.id;
    several += !coarse && choice.acceptable.size() > 1;
  }
  EXPECT_LE(other, 10);
  EXPECT_LE(several, 10);  // acceptance of everything would be no test
}

struct Sampler : Bench {
  explicit Sampler(std::uint32_t context) {
    logits = given({1, 4});
    tokens = add("tokens", Storage::input, DType::u32, {context + 1}, false);
    sampler = add("sampler", Storage::input, DType::u32, {8}, false);
    op(OpKind::sample, {}, {logits, tokens, state(), sampler}, {tokens, state()});
  }
  void set(StepState s, std::vector<float> row, SamplerParams p = {}) {
    write_state(s);
    write(logits, row);
    ASSERT_TRUE(walker().write(sampler, 0, std::as_bytes(std::span(&p, 1))).ok());
  }
  ValueId logits, tokens, sampler;
};

TEST(SampleOp, WritesTheNewTokenAndAdvances) {
  Sampler s(8);
  s.write(s.tokens, Words{1, 2, 3, 0, 0, 0, 0, 0, 0});
  s.set({.position = 2, .rows = 1}, {0, 1, 9, 2});
  const auto out = s.run();
  EXPECT_THAT(s.read<std::uint32_t>(s.tokens, 4), ElementsAre(1, 2, 3, 2));
  const StepState after = s.read_state();
  EXPECT_EQ(after.position, 3u);
  EXPECT_EQ(after.rows, 1u);
  EXPECT_EQ(after.status, kStatusOk);
  EXPECT_EQ(after.token, 2u);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_THAT(out[0].elements, ElementsAre(3));
  EXPECT_TRUE(out[0].accepts(0, 2));
  EXPECT_FALSE(out[0].accepts(0, 1));
  EXPECT_EQ(out[1].id_entry, 3u);
}

TEST(SampleOp, AfterAdvanceTheTokenGoesToThePosition) {
  Sampler s(8);
  s.set({.position = 3, .rows = 0}, {0, 9, 1, 2});
  s.run();
  EXPECT_EQ(s.read<std::uint32_t>(s.tokens, 4)[3], 1u);
  EXPECT_EQ(s.read_state().position, 3u);
  EXPECT_EQ(s.read_state().rows, 1u);
}

TEST(SampleOp, NaNChangesTheStatusOnly) {
  Sampler s(8);
  s.write(s.tokens, Words{1, 2, 3, 7, 0, 0, 0, 0, 0});
  s.set({.position = 2, .rows = 1, .token = 5}, {0, kNaN, 9, 2});
  const auto out = s.run();
  EXPECT_EQ(out.size(), 1u);
  const StepState after = s.read_state();
  EXPECT_EQ(after.status, kStatusNaN);
  EXPECT_EQ(after.position, 2u);
  EXPECT_EQ(after.token, 5u);
  EXPECT_EQ(s.read<std::uint32_t>(s.tokens, 4)[3], 7u);
}

TEST(SampleOp, AfterANaNNothingChanges) {
  Sampler s(8);
  s.write(s.tokens, Words{1, 2, 3, 7, 0, 0, 0, 0, 0});
  s.set({.position = 2, .rows = 1, .status = kStatusNaN, .token = 5}, {0, 1, 9, 2});
  EXPECT_TRUE(s.run().empty());
  const StepState after = s.read_state();
  EXPECT_EQ(after.status, kStatusNaN);
  EXPECT_EQ(after.position, 2u);
  EXPECT_EQ(after.token, 5u);
  EXPECT_EQ(s.read<std::uint32_t>(s.tokens, 4)[3], 7u);
}

TEST(SampleOp, ThePenaltySeesTheLastTokensOnly) {
  Sampler s(8);
  s.write(s.tokens, Words{2, 1, 0, 0, 0, 0, 0, 0, 0});
  SamplerParams p;
  p.penalty = 10;
  p.penalty_last = 2;
  s.set({.position = 2, .rows = 1}, {5, 6, 7, 1}, p);  // the last two are 1 and 0
  s.run();
  EXPECT_EQ(s.read_state().token, 2u);
  p.penalty_last = 3;
  s.set({.position = 2, .rows = 1}, {5, 6, 7, 1}, p);
  s.run();
  EXPECT_EQ(s.read_state().token, 3u);
}

TEST(SampleOp, ThereIsRoomForOneTokenPastTheContext) {
  Sampler s(4);
  s.set({.position = 3, .rows = 1}, {0, 1, 9, 2});
  s.run();
  EXPECT_EQ(s.read<std::uint32_t>(s.tokens, 5)[4], 2u);
  s.set({.position = 4, .rows = 1}, {0, 1, 9, 2});
  const auto refused = s.walker().run(0);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::invalid_argument);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("the_op"));
}

}  // namespace
}  // namespace tessera::test
