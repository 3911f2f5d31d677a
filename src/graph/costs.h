// What slices of graphs take, from times that were measured, and which of them fit a budget. Pure: no clock,
// no device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera {

struct SlicePrediction {
  double us = 0;
  bool known = false;  // measured before; else `us` is 0
  bool due = false;    // the KV cache has grown by a quarter since: measure again before many more
};

// A slice whose time is fixed + per_key * keys, neither negative, and jitters by a twentieth: an upper
// envelope of what was measured. `keys` is the KV length at the end of the pass.
class SliceCost {
 public:
  void measured(std::uint32_t keys, double us);
  SlicePrediction predict(std::uint32_t keys) const;

 private:
  double line(double keys) const;

  struct Point {
    double keys = 0, us = 0;
  };
  Point low_, high_;  // of the fewest and the most keys that were measured
  bool known_ = false;
};

// The slices of a graph, each in classes of rows: 1, 2, 3 to 4, 5 to 8, ...
class SliceCosts {
 public:
  void reset(std::size_t slices, std::uint32_t max_rows);  // forgets all
  void measured(std::size_t slice, std::uint32_t rows, std::uint32_t keys, double us);
  // Of the smallest class that has these rows or more and was measured; else of the largest that was, in
  // proportion to the rows: more rows take no more than that.
  SlicePrediction predict(std::size_t slice, std::uint32_t rows, std::uint32_t keys) const;

 private:
  std::uint32_t max_rows_ = 1;
  std::size_t slices_ = 0;
  std::vector<SliceCost> costs_;  // by class, by slice
};

// Takes slices in order while the sum of their predictions is within a budget.
class BudgetFit {
 public:
  enum class Verdict : std::uint8_t {
    take,
    alone,  // taken, but nothing after it: its time is unknown, or over the budget by itself
    full,   // not taken
  };
  explicit BudgetFit(double budget_us) : budget_us_(budget_us) {}
  Verdict offer(const SlicePrediction& slice);
  double sum_us() const { return sum_us_; }

 private:
  double budget_us_;
  double sum_us_ = 0;
  bool empty_ = true, closed_ = false;
};

}  // namespace tessera
