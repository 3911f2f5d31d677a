#include <gmock/gmock.h>

#include "schedule/steps.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Range range(Access access, std::uint64_t offset, std::uint64_t bytes, BufferId buffer = kArena) {
  return {buffer, offset, bytes, access};
}
Range r(std::uint64_t offset, std::uint64_t bytes = 16) { return range(Access::read, offset, bytes); }
Range w(std::uint64_t offset, std::uint64_t bytes = 16) { return range(Access::write, offset, bytes); }
Range rw(std::uint64_t offset, std::uint64_t bytes = 16) { return range(Access::read_write, offset, bytes); }

std::vector<Step> steps(std::vector<std::vector<Range>> ranges) {
  std::vector<Step> out(ranges.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i].ranges = std::move(ranges[i]);
  return out;
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs(std::vector<std::vector<Range>> ranges) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> out;
  for (const Hazard& h : find_hazards(steps(std::move(ranges)))) out.emplace_back(h.from, h.to);
  return out;
}

std::vector<int> barriers(std::vector<std::vector<Range>> ranges) {
  std::vector<Step> list = steps(std::move(ranges));
  place_barriers(find_hazards(list), list);
  std::vector<int> out;
  for (std::size_t i = 0; i < list.size(); ++i)
    if (list[i].barrier_before) out.push_back(static_cast<int>(i));
  return out;
}

TEST(FindHazards, ReadAfterWrite) { EXPECT_THAT(pairs({{w(0)}, {r(0)}}), ElementsAre(std::pair(0u, 1u))); }
TEST(FindHazards, WriteAfterRead) { EXPECT_THAT(pairs({{r(0)}, {w(0)}}), ElementsAre(std::pair(0u, 1u))); }
TEST(FindHazards, WriteAfterWrite) { EXPECT_THAT(pairs({{w(0)}, {w(0)}}), ElementsAre(std::pair(0u, 1u))); }
TEST(FindHazards, ReadAndWriteIsBoth) {
  EXPECT_THAT(pairs({{r(0)}, {rw(0)}}), ElementsAre(std::pair(0u, 1u)));
  EXPECT_THAT(pairs({{rw(0)}, {r(0)}}), ElementsAre(std::pair(0u, 1u)));
}
TEST(FindHazards, ReadsDoNotMeet) { EXPECT_THAT(pairs({{r(0)}, {r(0)}}), IsEmpty()); }

TEST(FindHazards, ByOverlapOfTheSameBuffer) {
  EXPECT_THAT(pairs({{w(0, 16)}, {r(16, 16)}}), IsEmpty());
  EXPECT_THAT(pairs({{w(16, 16)}, {r(0, 16)}}), IsEmpty());
  EXPECT_THAT(pairs({{w(0, 17)}, {r(16, 16)}}), ElementsAre(std::pair(0u, 1u)));
  EXPECT_THAT(pairs({{w(4, 1)}, {r(0, 16)}}), ElementsAre(std::pair(0u, 1u)));
  EXPECT_THAT(pairs({{range(Access::write, 0, 16, 2)}, {range(Access::read, 0, 16, 3)}}), IsEmpty());
}

TEST(FindHazards, WhatIsNeverTouchedIsNoHazard) {
  EXPECT_THAT(pairs({{w(0)}, {range(Access::none, 0, 16)}}), IsEmpty());
  EXPECT_THAT(pairs({{range(Access::none, 0, 16)}, {w(0)}}), IsEmpty());
}

TEST(FindHazards, OncePerPairWithTheRangeOfTheLater) {
  const auto hazards = find_hazards(steps({{w(0), w(32)}, {r(0), w(32, 8)}}));
  ASSERT_EQ(hazards.size(), 1u);
  EXPECT_EQ(hazards[0].range.offset, 0u);
  EXPECT_EQ(hazards[0].range.access, Access::read);
}

TEST(FindHazards, OrderedByTheLaterStep) {
  EXPECT_THAT(pairs({{w(0)}, {w(16)}, {r(16)}, {r(0)}}), ElementsAre(std::pair(1u, 2u), std::pair(0u, 3u)));
}

TEST(PlaceBarriers, TheFirstStepAlwaysHasOne) {
  EXPECT_THAT(barriers({{r(0)}}), ElementsAre(0));
  EXPECT_THAT(barriers({{r(0)}, {r(0)}, {w(32)}}), ElementsAre(0));
  std::vector<Step> none;
  place_barriers({}, none);
}

TEST(PlaceBarriers, OneCoversAllHazardsAcrossIt) {
  // 0 and 1 write; 2 reads both, 3 reads the first: one barrier before 2.
  EXPECT_THAT(barriers({{w(0)}, {w(16)}, {r(0), r(16), w(32)}, {r(0), w(48)}}), ElementsAre(0, 2));
  // As late as it can be, so that it also covers the hazard from 1 to 3.
  EXPECT_THAT(barriers({{w(0)}, {w(16)}, {w(32)}, {r(0), r(16)}}), ElementsAre(0, 3));
}

TEST(PlaceBarriers, AChainNeedsOneEach) {
  EXPECT_THAT(barriers({{w(0)}, {r(0), w(16)}, {r(16), w(0)}, {r(0)}}), ElementsAre(0, 1, 2, 3));
}

// No fewer barriers cover the hazards: compared with all placements, on random steps.
TEST(PlaceBarriers, AreAsFewAsCoverEveryHazard) {
  std::uint32_t seed = 1;
  const auto random = [&seed](std::uint32_t n) {
    return (seed = seed * 1664525u + 1013904223u) / 65536u % n;
  };
  for (int round = 0; round < 200; ++round) {
    constexpr std::uint32_t kSteps = 7;
    std::vector<std::vector<Range>> ranges(kSteps);
    for (auto& list : ranges)
      for (int i = 0; i < 2; ++i)
        list.push_back(range(static_cast<Access>(random(4)), random(5) * 8, 8 + random(2) * 8));
    const auto hazards = find_hazards(steps(ranges));
    const auto covered = [&](std::uint32_t mask) {  // bit i: a barrier before step i
      for (const Hazard& h : hazards) {
        bool found = false;
        for (std::uint32_t i = h.from + 1; i <= h.to; ++i) found |= (mask >> i & 1) != 0;
        if (!found) return false;
      }
      return true;
    };
    std::uint32_t placed = 0;
    int fewest = kSteps;
    for (int i : barriers(ranges)) placed |= 1u << i;
    for (std::uint32_t mask = 1; mask < 1u << kSteps; mask += 2)
      if (covered(mask)) fewest = std::min(fewest, __builtin_popcount(mask));
    EXPECT_TRUE(covered(placed)) << round;
    EXPECT_EQ(__builtin_popcount(placed), fewest) << round;
  }
}

}  // namespace
}  // namespace tessera::test
