// The merge loop of byte-pair encoding: the best pair of neighbours first, the leftmost of equals.
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

namespace tessera {

struct Symbol {
  std::uint32_t begin = 0;
  std::uint32_t bytes = 0;  // 0: merged into its left neighbour
  std::uint32_t value = 0;  // the family's own
  std::int32_t prev = -1, next = -1;
};

struct Merge {
  double cost;  // the lowest is merged first
  std::uint32_t value;
};

// `lookup(left, right)` gives std::optional<Merge>. O(n log n) calls and time; `symbols` lists the text in
// order and is empty of links at the start; afterwards those with bytes != 0 are the result, in order.
template <typename Lookup>
void merge_symbols(std::vector<Symbol>& symbols, const Lookup& lookup) {
  struct Pair {
    Merge merge;
    std::int32_t left, right;
    std::uint32_t bytes;  // of both when it was found: a change since then makes it stale
    bool operator<(const Pair& other) const {
      return merge.cost != other.merge.cost ? merge.cost > other.merge.cost : left > other.left;
    }
  };
  std::priority_queue<Pair> pairs;
  const auto consider = [&](std::int32_t left, std::int32_t right) {
    if (left < 0 || right < 0) return;
    const auto merge = lookup(symbols[left], symbols[right]);
    if (merge) pairs.push({*merge, left, right, symbols[left].bytes + symbols[right].bytes});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].prev = static_cast<std::int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i + 1) : -1;
  }
  for (std::size_t i = 1; i < symbols.size(); ++i) {
    consider(static_cast<std::int32_t>(i - 1), static_cast<std::int32_t>(i));
  }
  while (!pairs.empty()) {
    const Pair best = pairs.top();
    pairs.pop();
    Symbol& left = symbols[best.left];
    Symbol& right = symbols[best.right];
    if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != best.bytes) continue;
    left.bytes = best.bytes;
    left.value = best.merge.value;
    left.next = right.next;
    right.bytes = 0;
    if (left.next >= 0) symbols[left.next].prev = best.left;
    consider(left.prev, best.left);
    consider(best.left, left.next);
  }
}

}  // namespace tessera
