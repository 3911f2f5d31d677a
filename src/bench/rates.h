// How fast each form of a kernel is on a device: what kernel choice prefers one by (MeasuredRates).
#pragma once

#include <functional>

#include "bench/run_ops.h"

namespace tessera::bench {

struct FormTime {
  std::string name;  // of rate_names()
  OpCase shape;      // the same for all that one choice is between
  OpTime time;       // `failed` says why the device has no such form, or that it was wrong
  double flops_per_s() const { return time.median_s > 0 ? shape.flops() / time.median_s : 0; }
};

// The shapes of attention or matmul in precision mixed, smallest first: causal attention (heads of 64, f16
// cache)
//   many rows   8/8 heads, 512, 2048, 8192 rows on as many keys
//   few rows    32/8 heads, one row on 4096, 32768 keys
// and products of q8_0 (n x k)
//   many rows   64 by 2048 x 2048, 512 by 4096 x 4096, 4096 by 8192 x 8192
//   few rows    8 by 4096 x 4096, 16384 x 8192
// A choice is measured at the first shape that its first form works on for kLongEnough, or the largest.
std::vector<OpCase> rate_shapes(OpKind kind, bool few_rows);
inline constexpr double kLongEnough = 1e-3;  // s: far above what a dispatch costs to start

// Every form that rate_names() lists, in that order; each checked on sampled elements against the reference
// before it is timed. `done` is called after each and returns false to cancel. Errors as time_op's.
Result<std::vector<FormTime>> measure_rates(Device& device, const OpOptions& options,
                                            const std::function<bool(const FormTime&)>& done);

}  // namespace tessera::bench
