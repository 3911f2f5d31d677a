// What a phase's times come to.
#pragma once

#include <vector>

namespace demo {

struct Summary {
  double p50 = 0, p95 = 0, p99 = 0, most = 0;
};
// By nearest rank; all 0 of nothing.
Summary summarize(std::vector<double> values);

}  // namespace demo
