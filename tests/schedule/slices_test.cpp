#include "schedule/slices.h"

#include <gmock/gmock.h>

#include <map>

namespace tessera::test {
namespace {

Step step(std::array<std::uint32_t, 3> grid, double cost_us, bool barrier = false) {
  Step s;
  s.dispatch.grid = grid;
  s.cost_us = cost_us;
  s.barrier_before = barrier;
  return s;
}

// Every workgroup of every step exactly once, in order; costs add up.
void expect_covers(const std::vector<Step>& steps, const std::vector<Slice>& slices) {
  std::vector<std::map<std::array<std::uint32_t, 3>, int>> seen(steps.size());
  std::uint32_t at = 0;
  std::vector<double> cost(steps.size(), 0);
  for (const Slice& slice : slices) {
    double sum = 0;
    EXPECT_FALSE(slice.pieces.empty());
    for (const Piece& p : slice.pieces) {
      EXPECT_GE(p.step, at);
      at = p.step;
      sum += p.cost_us;
      cost[p.step] += p.cost_us;
      for (std::uint32_t x = 0; x < p.count[0]; ++x)
        for (std::uint32_t y = 0; y < p.count[1]; ++y)
          for (std::uint32_t z = 0; z < p.count[2]; ++z)
            ++seen[p.step][{p.base[0] + x, p.base[1] + y, p.base[2] + z}];
    }
    EXPECT_NEAR(slice.cost_us, sum, 1e-9);
  }
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto& grid = steps[i].dispatch.grid;
    EXPECT_EQ(seen[i].size(), std::size_t{grid[0]} * grid[1] * grid[2]);
    for (const auto& [group, times] : seen[i]) {
      EXPECT_EQ(times, 1);
      for (std::size_t d = 0; d < 3; ++d) EXPECT_LT(group[d], grid[d]);
    }
    EXPECT_NEAR(cost[i], steps[i].cost_us, 1e-9);
  }
}

TEST(Estimate, TakesTheSlowerOfArithmeticAndTraffic) {
  std::vector<Step> steps(3);
  steps[0].dispatch.flops = 1000;
  steps[0].dispatch.bytes = 10;
  steps[1].dispatch.flops = 10;
  steps[1].dispatch.bytes = 1000;
  estimate({.flops_per_us = 10, .bytes_per_us = 100, .dispatch_us = 3}, steps);
  EXPECT_DOUBLE_EQ(steps[0].cost_us, 103);
  EXPECT_DOUBLE_EQ(steps[1].cost_us, 13);
  EXPECT_DOUBLE_EQ(steps[2].cost_us, 3);
}

TEST(Estimate, GuessesAreOrdered) {
  const Rates cpu = guess_rates(DeviceType::cpu), integrated = guess_rates(DeviceType::integrated),
              discrete = guess_rates(DeviceType::discrete);
  EXPECT_LT(cpu.flops_per_us, integrated.flops_per_us);
  EXPECT_LT(integrated.flops_per_us, discrete.flops_per_us);
  EXPECT_LT(cpu.bytes_per_us, integrated.bytes_per_us);
  EXPECT_LT(integrated.bytes_per_us, discrete.bytes_per_us);
}

TEST(CutSlices, NothingGivesNothing) { EXPECT_TRUE(cut_slices({}, 100).empty()); }

TEST(CutSlices, StepsWithinABudgetShareASlice) {
  const std::vector<Step> steps{step({4, 1, 1}, 30, true), step({4, 1, 1}, 30), step({4, 1, 1}, 40, true),
                                step({4, 1, 1}, 1)};
  const auto slices = cut_slices(steps, 100);
  expect_covers(steps, slices);
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[0].pieces.size(), 3u);
  EXPECT_TRUE(slices[0].pieces[0].barrier_before);
  EXPECT_FALSE(slices[0].pieces[1].barrier_before);
  EXPECT_TRUE(slices[0].pieces[2].barrier_before);
}

TEST(CutSlices, AStepOverTheBudgetIsCutAlongItsLongestDimension) {
  const std::vector<Step> steps{step({7, 100, 3}, 1000, true)};
  const auto slices = cut_slices(steps, 95);
  expect_covers(steps, slices);
  EXPECT_GE(slices.size(), 11u);
  bool first = true;
  for (const Slice& s : slices) {
    EXPECT_LE(s.cost_us, 95 + 1e-9);
    for (const Piece& p : s.pieces) {
      EXPECT_TRUE(p.barrier_before);  // between pieces too
      EXPECT_EQ(p.count[0], 7u);
      EXPECT_EQ(p.count[2], 3u);
      EXPECT_TRUE(first || p.base[1] > 0);
      first = false;
    }
  }
}

TEST(CutSlices, RowsOfWorkgroupsOverTheBudgetAreCutToo) {
  const std::vector<Step> steps{step({4, 6, 3}, 7200, true)};
  for (const double budget : {100.0, 250.0, 900.0}) {
    const auto slices = cut_slices(steps, budget);
    expect_covers(steps, slices);
    for (const Slice& s : slices) EXPECT_LE(s.cost_us, budget + 1e-9);
  }
  for (const Slice& s : cut_slices(steps, 1)) {  // single workgroups
    ASSERT_EQ(s.pieces.size(), 1u);
    EXPECT_EQ(s.pieces[0].count, (std::array<std::uint32_t, 3>{1, 1, 1}));
  }
}

TEST(CutSlices, PiecesOfAStepWithoutABarrierHaveOneBetweenThem) {
  const auto slices = cut_slices({step({10, 1, 1}, 10, true), step({10, 1, 1}, 300)}, 100);
  std::vector<bool> barriers;
  for (const Slice& s : slices)
    for (const Piece& p : s.pieces)
      if (p.step == 1) barriers.push_back(p.barrier_before);
  ASSERT_GE(barriers.size(), 3u);
  EXPECT_FALSE(barriers[0]);
  for (std::size_t i = 1; i < barriers.size(); ++i) EXPECT_TRUE(barriers[i]);
}

TEST(CutSlices, WhatCannotBeCutStaysWhole) {
  const std::vector<Step> steps{step({1, 1, 1}, 5000), step({2, 1, 1}, 5000), step({1, 1, 1}, 10)};
  const auto slices = cut_slices(steps, 100);
  expect_covers(steps, slices);
  EXPECT_EQ(slices.size(), 4u);
}

TEST(CutSlices, CoversOddGrids) {
  for (const double budget : {1.0, 7.0, 33.0, 1e9})
    for (const std::array<std::uint32_t, 3> grid :
         {std::array<std::uint32_t, 3>{1, 1, 1}, {13, 1, 1}, {3, 17, 2}, {2, 2, 31}, {64, 3, 1}}) {
      const std::vector<Step> steps{step(grid, 100), step(grid, 0.5), step(grid, 31)};
      expect_covers(steps, cut_slices(steps, budget));
    }
}

}  // namespace
}  // namespace tessera::test
