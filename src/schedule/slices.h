// Work cut into slices that a host can interleave with its own: no dispatch is unbounded, no watchdog kills
// it.
#pragma once

#include <vector>

#include "schedule/steps.h"

namespace tessera {

// What a device gets through in a microsecond: a guess by device type. Measured times correct the steps'
// costs, not this.
struct Rates {
  double flops_per_us = 1e5;
  double bytes_per_us = 1e4;
  double dispatch_us = 5;
};
Rates guess_rates(DeviceType type);

// Workgroups [base, base+count) of a step.
struct Piece {
  std::uint32_t step = 0;  // index in the list that was cut
  std::array<std::uint32_t, 3> base{}, count{1, 1, 1};
  bool barrier_before = false;
  double cost_us = 0;
};

struct Slice {
  std::vector<Piece> pieces;
  double cost_us = 0;
};

inline constexpr double kSliceBudgetUs = 2000;  // a slice stays under about 2 ms (a frame at 60 Hz has 16.7)

// Fills in each step's cost_us.
void estimate(const Rates& rates, std::vector<Step>& steps);

// Consecutive steps up to budget_us a slice. A step over the budget is cut along its longest grid dimension,
// and where that is not enough along the others, down to single workgroups, into pieces of base and count,
// with barriers between them: the pieces touch the same ranges, if not the same bytes, and that is all that
// access tracking (and the validation layers) can tell.
std::vector<Slice> cut_slices(const std::vector<Step>& steps, double budget_us);

}  // namespace tessera
