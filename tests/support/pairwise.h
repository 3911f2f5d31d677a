// Few combinations in which any two options meet.
#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace tessera::test {

// Combinations of one level of each factor (factor i has levels[i] of them): every two levels of two factors
// are in one of these together. Greedy, and the same for the same arguments.
inline std::vector<std::vector<std::size_t>> pairwise(const std::vector<std::size_t>& levels) {
  using Pair = std::tuple<std::size_t, std::size_t, std::size_t, std::size_t>;  // factor, level, twice
  std::set<Pair> left;
  for (std::size_t f = 0; f < levels.size(); ++f)
    for (std::size_t g = f + 1; g < levels.size(); ++g)
      for (std::size_t a = 0; a < levels[f]; ++a)
        for (std::size_t b = 0; b < levels[g]; ++b) left.emplace(f, a, g, b);
  const auto pair_of = [](std::size_t f, std::size_t a, std::size_t g, std::size_t b) {
    return f < g ? Pair{f, a, g, b} : Pair{g, b, f, a};
  };

  constexpr std::size_t kOpen = ~std::size_t{0};
  std::mt19937 engine(1);
  std::vector<std::vector<std::size_t>> out;
  while (!left.empty()) {
    std::vector<std::size_t> chosen(levels.size(), kOpen);
    const auto [first, a, second, b] = *left.begin();
    chosen[first] = a;
    chosen[second] = b;
    for (std::size_t f = 0; f < levels.size(); ++f) {
      if (chosen[f] != kOpen) continue;
      const std::size_t start = engine() % levels[f];  // ties go to another level each time
      std::size_t most = 0;
      chosen[f] = start;
      for (std::size_t i = 0; i < levels[f]; ++i) {
        const std::size_t level = (start + i) % levels[f];
        std::size_t found = 0;
        for (std::size_t g = 0; g < levels.size(); ++g)
          found += g != f && chosen[g] != kOpen && left.contains(pair_of(f, level, g, chosen[g]));
        if (found > most) most = found, chosen[f] = level;
      }
    }
    for (std::size_t f = 0; f < levels.size(); ++f)
      for (std::size_t g = f + 1; g < levels.size(); ++g) left.erase(Pair{f, chosen[f], g, chosen[g]});
    out.push_back(std::move(chosen));
  }
  return out;
}

}  // namespace tessera::test
