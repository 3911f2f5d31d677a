// How fast forms of kernels were on a device, as a host measured and kept it: plain data beside its limits.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tessera {

struct MeasuredRate {
  std::string form;        // the kernels' name for it (rate_names in kernels/choose.h)
  double flops_per_s = 0;  // useful arithmetic, two operations a multiply-add
};

struct MeasuredRates {
  std::vector<MeasuredRate> list;
  double of(std::string_view form) const;  // 0: not measured
};

// "form=GFLOP/s", a number from 0 (not measured) to 10^9; invalid_argument else. Any name is accepted.
Result<MeasuredRate> parse_rate(std::string_view text);
// The other way, of four digits.
std::string print(const MeasuredRate& rate);

}  // namespace tessera
