// y_i = exp(x_i - max) / sum_j exp(x_j - max), along the middle dimension.
#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {

Result<Outputs> run_softmax(const OpCall& call) {
  const std::vector<std::uint64_t>& shape = call.value(call.in(0)).shape;
  const std::uint64_t n = shape[1], inner = shape[2];
  const std::vector<float> x = call.tensors.floats(call.in(0), 0, shape[0] * n * inner);
  ReferenceOutput y{.value = call.out(0)};
  y.expected.resize(x.size());
  if (call.bounds) y.bound.resize(x.size());
  std::vector<double> e(n);
  for (std::uint64_t slice = 0; slice < shape[0] * inner; ++slice) {
    const std::uint64_t first = slice / inner * n * inner + slice % inner;
    double most = -std::numeric_limits<float>::max(), sum = 0, error = 0;
    for (std::uint64_t i = 0; i < n; ++i) most = std::max(most, double{x[first + i * inner]});
    for (std::uint64_t i = 0; i < n; ++i) {
      e[i] = std::exp(x[first + i * inner] - most);
      sum += e[i];
      if (e[i] > 0) error += e[i] * bounds::softmax_term(x[first + i * inner] - most) + bounds::kFlush;
    }
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t at = first + i * inner;
      // Nothing but -infinity: zeros, as in attention.
      y.expected[at] = sum == 0 ? 0 : e[i] / sum;
      if (!call.bounds) continue;
      const double own = e[i] > 0 ? bounds::softmax_term(x[at] - most) : 0;
      const double whole = sum == 0 ? 0 : error / sum;
      const double relative = own + whole + bounds::gamma(static_cast<double>(n)) + 4 * bounds::kUlp;
      y.bound[at] = bounds::stored(call.value(y.value).dtype, y.expected[at],
                                   y.expected[at] * relative + 2 * bounds::kFlush);
    }
  }
  return Outputs{std::move(y)};
}

}  // namespace tessera
