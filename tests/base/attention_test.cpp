#include "base/attention.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tessera {
namespace {

// As attention.h says, pair by pair.
VisibleKeys counted(const AttentionAttrs& a, std::uint32_t first, std::uint32_t rows) {
  VisibleKeys out;
  std::int64_t least = a.kv_len, most = -1;
  for (std::int64_t i = first; i < std::int64_t{first} + rows; ++i)
    for (std::int64_t j = 0; j < a.kv_len; ++j) {
      const std::int64_t c = i + (a.causal == Causal::bottom_right ? std::int64_t{a.kv_len} - a.q_len : 0);
      if (a.causal != Causal::none && j > c && j >= a.prefix_length) continue;
      if (a.window_left != kNoWindow && j < c - std::int64_t{a.window_left}) continue;
      if (a.window_right != kNoWindow && j > c + std::int64_t{a.window_right}) continue;
      out.pairs += 1;
      least = std::min(least, j);
      most = std::max(most, j);
    }
  out.keys = most < 0 ? 0 : static_cast<std::uint64_t>(most - least + 1);
  return out;
}

TEST(VisibleKeys, AsCountedPairByPair) {
  const std::uint32_t windows[] = {kNoWindow, 0, 1, 3, 8, 40, kNoWindow - 1};
  for (const auto& [q_len, kv_len] :
       {std::pair(1u, 1u), std::pair(1u, 9u), std::pair(9u, 1u), std::pair(7u, 0u), std::pair(7u, 20u),
        std::pair(20u, 7u), std::pair(12u, 12u)})
    for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
      for (const std::uint32_t left : windows)
        for (const std::uint32_t right : windows)
          for (std::uint32_t first = 0; first < q_len; first += 3) {
            AttentionAttrs a;
            a.prefix_length = first % 2 == 0 ? 0 : first + 2;
            a.q_len = q_len;
            a.kv_len = kv_len;
            a.causal = causal;
            a.window_left = left;
            a.window_right = right;
            const VisibleKeys wanted = counted(a, first, q_len - first),
                              found = visible_keys(a, first, q_len - first);
            ASSERT_EQ(found.pairs, wanted.pairs) << q_len << "x" << kv_len << " from " << first << " causal "
                                                 << int(causal) << " " << left << " " << right;
            if (wanted.pairs > 0) {
              ASSERT_EQ(found.keys, wanted.keys) << left << " " << right;
            }
          }
  EXPECT_EQ(visible_keys({}, 0, 0).pairs, 0);
}

TEST(VisibleKeys, OfTheLargestShapes) {
  AttentionAttrs a;
  a.q_len = a.kv_len = 1u << 30;
  a.causal = Causal::bottom_right;
  EXPECT_DOUBLE_EQ(visible_keys(a, 0, a.q_len).pairs, 0x1p59 + 0x1p29);
  a.window_left = kNoWindow - 1;
  EXPECT_DOUBLE_EQ(visible_keys(a, 0, a.q_len).pairs, 0x1p59 + 0x1p29);
  a.window_left = 255;
  EXPECT_DOUBLE_EQ(visible_keys(a, 0, a.q_len).pairs, 0x1p38 - 255 * 128);
  a.causal = Causal::none;
  a.window_left = a.window_right = kNoWindow;
  EXPECT_DOUBLE_EQ(visible_keys(a, 0, a.q_len).pairs, 0x1p60);
}

}  // namespace
}  // namespace tessera
