// Costs of slices and what fits a budget, with a simulated clock: nothing here is measured.
#include "graph/costs.h"

#include <gtest/gtest.h>

#include <random>

namespace tessera::test {
namespace {

TEST(SliceCost, IsUnknownUntilMeasured) {
  SliceCost cost;
  EXPECT_FALSE(cost.predict(5).known);
  cost.measured(5, 100);
  EXPECT_TRUE(cost.predict(5).known);
  EXPECT_GE(cost.predict(5).us, 100);
  EXPECT_LE(cost.predict(5).us, 125);
}

TEST(SliceCost, GrowsAtMostAsTheKeysUntilTheSlopeShows) {
  SliceCost cost;
  cost.measured(64, 100);
  EXPECT_GE(cost.predict(128).us, 200);  // all of it may be attention
  cost.measured(128, 104);
  EXPECT_LE(cost.predict(128).us, 130);
  cost.measured(256, 112);
  EXPECT_GE(cost.predict(512).us, 128);
  EXPECT_LE(cost.predict(512).us, 200);
}

TEST(SliceCost, FewerKeysTakeNoMoreAndAreNotThoughtFree) {
  SliceCost cost;
  cost.measured(1000, 100);
  EXPECT_GE(cost.predict(1).us, 100);
  cost.measured(1, 90);
  EXPECT_GE(cost.predict(1).us, 90);
  EXPECT_GE(cost.predict(1000).us, 100);
  EXPECT_LE(cost.predict(1).us, 115);
}

TEST(SliceCost, AnOutlierIsForgotten) {
  SliceCost cost;
  cost.measured(10, 5000);  // the first run warms up
  for (std::uint32_t keys = 11; keys < 20; ++keys) cost.measured(keys, 100);
  EXPECT_LE(cost.predict(20).us, 150);
}

// A short conversation after a long one, whose first token the device was busy for.
TEST(SliceCost, AnOutlierOfFewKeysLeavesWhatManyKeysTake) {
  SliceCost cost;
  const auto time = [](std::uint32_t keys) { return 50 + 0.15 * keys; };
  for (std::uint32_t keys = 1; keys <= 1000; ++keys) cost.measured(keys, time(keys));
  cost.measured(1, 1000);
  for (std::uint32_t keys = 2; keys < 22; ++keys) {
    cost.measured(keys, time(keys));
    EXPECT_GE(cost.predict(1000).us, time(1000)) << keys;
    EXPECT_GE(cost.predict(keys).us, time(keys));
  }
  EXPECT_LE(cost.predict(1000).us, 1.3 * time(1000));
  EXPECT_LE(cost.predict(22).us, 1.3 * time(22));
}

TEST(SliceCost, SaysWhenItIsTimeToMeasureAgain) {
  SliceCost cost;
  cost.measured(100, 10);
  EXPECT_FALSE(cost.predict(125).due);
  EXPECT_TRUE(cost.predict(126).due);
  EXPECT_FALSE(cost.predict(3).due);
}

TEST(SliceCosts, FewRowsAreAClassOfTheirOwn) {
  SliceCosts costs;
  costs.reset(2, 48);
  costs.measured(1, 48, 64, 100);
  EXPECT_FALSE(costs.predict(0, 1, 64).known);
  EXPECT_GE(costs.predict(1, 1, 64).us, 100);  // no more than all rows take
  costs.measured(1, 1, 64, 10);
  EXPECT_LE(costs.predict(1, 1, 64).us, 20);
  EXPECT_GE(costs.predict(1, 2, 64).us, 100);
  EXPECT_GE(costs.predict(1, 48, 64).us, 100);
  costs.measured(1, 40, 64, 90);  // of 48 rows it may take 108
  EXPECT_GE(costs.predict(1, 48, 64).us, 108);
  costs.measured(0, 3, 64, 30);  // of 4 rows it may take 40
  EXPECT_GE(costs.predict(0, 20, 64).us, 200);
  EXPECT_LE(costs.predict(0, 20, 64).us, 250);
  costs.reset(3, 1);
  EXPECT_FALSE(costs.predict(1, 1, 64).known);
  costs.measured(2, 0, 7, 5);  // a graph without rows
  EXPECT_TRUE(costs.predict(2, 0, 7).known);
}

TEST(BudgetFit, TakesWhatFits) {
  BudgetFit fit(100);
  using Verdict = BudgetFit::Verdict;
  EXPECT_EQ(fit.offer({40, true}), Verdict::take);
  EXPECT_EQ(fit.offer({60, true}), Verdict::take);
  EXPECT_EQ(fit.offer({1, true}), Verdict::full);
  EXPECT_EQ(fit.offer({0, true}), Verdict::full);  // order is kept
  EXPECT_EQ(fit.sum_us(), 100);
}

TEST(BudgetFit, WhatIsUnknownOrTooLongGoesAlone) {
  using Verdict = BudgetFit::Verdict;
  for (const SlicePrediction& odd : {SlicePrediction{}, SlicePrediction{101, true}}) {
    BudgetFit first(100), second(100);
    EXPECT_EQ(first.offer(odd), Verdict::alone);
    EXPECT_EQ(first.offer({1, true}), Verdict::full);
    EXPECT_EQ(second.offer({1, true}), Verdict::take);
    EXPECT_EQ(second.offer(odd), Verdict::full);
    EXPECT_EQ(second.sum_us(), 1);
  }
}

// A device whose slices take fixed + per_key * keys, jittered, and whose clock is a sum.
class Simulated {
 public:
  Simulated(std::uint32_t seed, double jitter) : random_(seed), jitter_(jitter) {
    for (int i = 0; i < 24; ++i) slices_.push_back({unit() * 430 + 5, i % 3 == 0 ? unit() * 0.4 : 0});
  }
  std::size_t slices() const { return slices_.size(); }
  double longest(std::uint32_t keys) const {
    double most = 0;
    for (const Slice& s : slices_) most = std::max(most, (s.fixed + s.per_key * keys) * (1 + jitter_));
    return most;
  }
  double run(std::size_t slice, std::uint32_t keys) {
    const Slice& s = slices_[slice];
    return (s.fixed + s.per_key * keys) * (1 + jitter_ * (2 * unit() - 1));
  }

 private:
  double unit() { return static_cast<double>(random_()) / 4294967296.0; }
  struct Slice {
    double fixed, per_key;
  };
  std::mt19937 random_;
  double jitter_;
  std::vector<Slice> slices_;
};

struct Filled {
  double time = 0, room = 0;
};

// Tokens in steps of a budget: each step's true time stays within it, but for slices that go alone.
Filled walk(Simulated& device, SliceCosts& costs, double budget_us, std::uint32_t from, std::uint32_t to,
            int& unknown) {
  Filled filled;
  std::size_t slice = 0;
  for (std::uint32_t keys = from; keys < to;) {
    BudgetFit fit(budget_us);
    double time = 0;
    int taken = 0;
    BudgetFit::Verdict verdict = BudgetFit::Verdict::take;
    std::vector<std::pair<std::size_t, std::uint32_t>> submitted;
    while (keys < to && verdict == BudgetFit::Verdict::take) {
      const SlicePrediction predicted = costs.predict(slice, 1, keys);
      verdict = fit.offer(predicted);
      if (verdict == BudgetFit::Verdict::full) break;
      if (verdict == BudgetFit::Verdict::alone) {
        unknown += !predicted.known;
        EXPECT_EQ(taken, 0);
        EXPECT_TRUE(!predicted.known || device.longest(keys) > budget_us / 1.35);
      }
      ++taken;
      submitted.emplace_back(slice, keys);
      slice = (slice + 1) % device.slices();
      keys += slice == 0;
    }
    EXPECT_GT(taken, 0);
    for (const auto& [s, k] : submitted) {
      const double us = device.run(s, k);
      time += us;
      costs.measured(s, 1, k, us);
    }
    if (verdict == BudgetFit::Verdict::alone) continue;
    EXPECT_LE(time, budget_us) << "at " << keys << " keys";
    filled.time += time;
    filled.room += budget_us;
  }
  return filled;
}

TEST(BudgetFit, TrueTimesStayWithinTheBudget) {
  for (const double jitter : {0.0, 0.05})
    for (const double budget_us : {500.0, 1000.0, 2000.0, 4000.0, 8000.0})
      for (std::uint32_t seed = 1; seed <= 3; ++seed) {
        Simulated device(seed, jitter);
        SliceCosts costs;
        costs.reset(device.slices(), 1);
        int unknown = 0;
        walk(device, costs, budget_us, 16, 600, unknown);
        walk(device, costs, budget_us, 1, 100, unknown);  // a new text
        const Filled last = walk(device, costs, budget_us, 100, 2500, unknown);
        EXPECT_EQ(unknown, 24);  // each once
        // Two slices of 8 ms are left over at the most, and the envelope is a quarter too high.
        if (budget_us >= 8000) {
          EXPECT_GT(last.time / last.room, 0.7);
        }
      }
}

TEST(SliceCosts, ChunksOfPromptsTakeNoMoreThanPredicted) {
  for (std::uint32_t seed = 1; seed <= 5; ++seed) {
    Simulated device(seed, 0.05);
    SliceCosts costs;
    costs.reset(device.slices(), 64);
    for (int prompt = 0; prompt < 3; ++prompt)
      for (std::uint32_t keys = 64; keys <= 1536; keys += 64)
        for (std::size_t s = 0; s < device.slices(); ++s) {
          const SlicePrediction predicted = costs.predict(s, 64, keys);
          const double us = device.run(s, keys);
          costs.measured(s, 64, keys, us);
          if (predicted.known) {
            EXPECT_LE(us, predicted.us);
          }
        }
  }
}

}  // namespace
}  // namespace tessera::test
