// Sessions in steps that never wait, over a walker whose clock is a sum.
#include "session/fake_walker.h"
#include "support/refusal.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using Ids = std::vector<TokenId>;

constexpr std::uint32_t kSlices = 5;
constexpr StepLimits kFrame{.budget_us = 1000, .in_flight = 2};

void must(const Result<void>& done) { EXPECT_TRUE(done.ok()) << done.error().message; }
template <typename T>
T must(Result<T> result) {
  EXPECT_TRUE(result.ok()) << result.error().message;
  return result.ok() ? *std::move(result) : T{};
}

// A prompt of six, then tokens 50, 51, ...; slices that grow with the keys.
struct Steps : FakeSession {
  explicit Steps(double slice_us = 90, Progress progress = {}, bool with_logits = false)
      : FakeSession({50, 51, 52, 53, 54, 55, 56}, std::move(progress), with_logits, kSlices) {
    walker->cost_us = [slice_us](const SliceRun& s) {
      return slice_us + 3.0 * s.first + (s.first % 2) * 2.0 * (s.position + s.rows);
    };
    must(session.append(Ids(6, 1)));
  }
  // Steps and takes until all have come.
  Ids finish(const StepLimits& limits) {
    Ids ids;
    for (int step = 0; session.active() && step < 1000; ++step) {
      must(session.poll(0));
      while (const auto id = must(session.take())) ids.push_back(*id);
      must(session.submit(limits));
    }
    return ids;
  }
};

TEST(Steps, GiveTheSameTokensWithinTheBudget) {
  for (const double budget_us : {500.0, 1000.0, 3000.0}) {
    Steps s;
    must(s.session.start(7));
    EXPECT_EQ(s.finish({.budget_us = budget_us, .in_flight = 2}), (Ids{50, 51, 52, 53, 54, 55, 56}));
    for (const double us : s.walker->submitted_us) EXPECT_LE(us, budget_us);
    EXPECT_EQ(s.walker->log.front(), "prefill 4@0");
    EXPECT_EQ(s.walker->longest_wait_ns, 0u);
    EXPECT_TRUE(s.session.full());
  }
}

TEST(Steps, WithKnownCostsAStepCrossesPasses) {
  Steps s(10);
  s.walker->script.assign({1, 2, 3});
  must(s.session.start(3));
  s.finish(kFrame);  // every slice alone at first
  s.session.reset();
  must(s.session.append(Ids(6, 1)));
  s.walker->script.assign({50, 51, 52, 53});
  s.walker->log.clear();
  must(s.session.start(4));
  const Submitted first = must(s.session.submit({.budget_us = 2000}));
  EXPECT_GT(first.value, 0u);
  EXPECT_FALSE(first.alone);
  EXPECT_GE(first.us, s.walker->submitted_us.back());
  EXPECT_THAT(s.walker->log,
              ElementsAre("prefill 4@0", "prefill 2@4", "head", "decode 50@6", "decode 51@7", "decode 52@8"));
  must(s.session.poll(0));
  for (const TokenId id : {50u, 51u, 52u, 53u}) EXPECT_EQ(must(s.session.take()), id);
  EXPECT_FALSE(s.session.active());
  EXPECT_EQ(s.session.position(), 9u);
}

TEST(Steps, SubmitNothingWhileTooMuchIsInFlight) {
  Steps s;
  s.walker->ended = 0;
  must(s.session.start(2));
  const Submitted first = must(s.session.submit(kFrame));
  EXPECT_EQ(first.value, 1u);
  EXPECT_TRUE(first.alone);  // never measured
  EXPECT_FALSE(first.next.known);
  EXPECT_EQ(must(s.session.submit(kFrame)).value,
            0u);  // the next one is unknown too, and the first still runs
  EXPECT_FALSE(must(s.session.poll(0)));
  EXPECT_FALSE(must(s.session.take()).has_value());
  s.walker->ended = ~0ull;
  s.finish(kFrame);
  s.walker->ended = s.walker->submitted_us.size();
  must(s.session.start(2));
  EXPECT_NE(must(s.session.submit({.budget_us = 150, .in_flight = 2})).value, 0u);
  EXPECT_NE(must(s.session.submit({.budget_us = 150, .in_flight = 2})).value, 0u);
  EXPECT_EQ(must(s.session.submit({.budget_us = 150, .in_flight = 2})).value, 0u);
  EXPECT_EQ(must(s.session.submit({.budget_us = 150, .in_flight = 1})).value, 0u);
}

TEST(Steps, AStopDropsWhatRanAhead) {
  Steps s(10);
  must(s.session.start(2));
  s.finish(kFrame);
  must(s.session.start(4));
  s.walker->ended = 0;  // what is submitted now goes on for long
  s.walker->log.clear();
  must(s.session.submit({.budget_us = 5000}));
  s.session.stop();
  EXPECT_FALSE(s.session.active());
  EXPECT_EQ(s.session.tokens().size(), 8u);
  must(s.session.append(Ids{9}));
  must(s.session.start(1));
  EXPECT_EQ(must(s.session.submit(kFrame)).value, 0u);  // it may still write what is to be written
  s.walker->ended = ~0ull;
  s.walker->script.assign({77});
  s.walker->log.clear();
  EXPECT_EQ(s.finish(kFrame), Ids{77});
  EXPECT_THAT(s.walker->log, ElementsAre("prefill 2@7", "head"));
  EXPECT_EQ(s.walker->tokens[8], 9u);
  EXPECT_EQ(s.walker->tokens[9], 77u);
}

TEST(Steps, ANaNIsFoundWhereItWas) {
  Steps s(10);
  s.walker->script.assign({50, FakeWalker::kNaN, 99, 98});
  must(s.session.start(2));
  s.session.stop();
  must(s.session.start(4));
  Ids ids;
  Result<std::optional<TokenId>> last = std::optional<TokenId>();
  for (int step = 0; step < 200 && last.ok(); ++step) {
    must(s.session.poll(0));
    last = s.session.take();
    if (last.ok() && *last) ids.push_back(**last);
    if (last.ok()) must(s.session.submit({.budget_us = 5000, .in_flight = 2}));
  }
  EXPECT_EQ(ids, Ids{50});
  expect_refused(last, Code::numeric, {"position 6", "NaN"});
  EXPECT_FALSE(s.session.active());
}

TEST(Steps, ASamplerComesBetweenTokens) {
  Steps s(10);
  must(s.session.start(6));
  must(s.session.submit(kFrame));
  SamplerParams hot;
  hot.temperature = 2;
  s.walker->ended = 0;
  must(s.session.set_sampler(hot));
  EXPECT_EQ(s.walker->sampler.temperature, 0);
  s.walker->ended = ~0ull;
  s.finish(kFrame);
  EXPECT_EQ(s.walker->sampler.temperature, 2);
}

TEST(Steps, LogitsAreReadBeforeTheyAreOverwritten) {
  Steps s(10, {}, true);
  must(s.session.start(4));
  s.finish({.budget_us = 5000, .in_flight = 2});
  ASSERT_EQ(s.logits.size(), 9u);
  for (std::uint32_t i = 0; i < s.logits.size(); ++i)
    EXPECT_EQ(s.logits[i], std::pair(i, static_cast<float>(i)));
}

TEST(Steps, TuneWithNothingInFlight) {
  Steps s(10);
  must(s.session.start(2));
  s.finish(kFrame);
  s.walker->tune_below_us = 500;
  s.walker->log.clear();
  must(s.session.start(2));
  s.finish({.budget_us = 400, .in_flight = 2});
  EXPECT_EQ(s.walker->log.front(), "tune");
  EXPECT_EQ(s.session.stats().decode_records, 0u);
}

TEST(Steps, OneGenerationAtATime) {
  Steps s;
  must(s.session.start(2));
  expect_refused(s.session.start(1), Code::invalid_argument, {"already"});
  expect_refused(s.session.next(), Code::invalid_argument, {"already"});
  expect_refused(s.session.append(Ids{1}), Code::invalid_argument, {"appended"});
  s.session.stop();
  EXPECT_EQ(must(s.session.next()), 50u);
}

TEST(Steps, ErrorsEndTheGeneration) {
  Steps s;
  must(s.session.start(2));
  s.walker->fail_at = 0;
  expect_refused(s.session.submit(kFrame), Code::device_lost, {"lost"});
  EXPECT_FALSE(s.session.active());
}

}  // namespace
}  // namespace tessera::test
