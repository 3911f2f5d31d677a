#include "interface/softmax.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/loops.h"

namespace tessera {

Result<Dispatch> choose_softmax(const SoftmaxShape& shape, const Target& target) {
  const std::string what = "softmax of " + std::to_string(shape.outer) + " x " + std::to_string(shape.n) +
                           " x " + std::to_string(shape.inner);
  if (shape.outer == 0 || shape.n == 0 || shape.inner == 0)
    return Error{Code::invalid_argument, what + ": no elements"};
  const double elems = 1.0 * shape.outer * shape.n * shape.inner;
  // A lane's count may go one step past n, in 32 bits.
  if (elems > 0xffffffff || shape.n > 0xffffff00u)
    return Error{Code::unsupported, what + ": 2^32 elements or more"};
  // Neighbouring columns make loads whole cache lines; what is left of 128 lanes goes along n, where each
  // should have a few elements.
  Dispatch d;
  d.kernel = KernelId::softmax;
  d.push = {shape.outer, shape.n, shape.inner, 1, 1};
  std::uint32_t columns = group_size(shape.inner, 32, target.limits);
  for (std::uint32_t most = 128;; most *= 2) {
    d.spec = {std::max(columns, group_size(columns * ceil_div(shape.n, 4), most, target.limits)), columns};
    if (loops_end(d, target.limits) || (columns == 1 && most >= 1024)) break;
    columns = std::max(1u, columns / 2);  // more lanes along n
  }
  TSR_CHECK(check_loops(d, target.limits, what));
  TSR_TRY(d.grid, fold_grid(shape.outer * ceil_div(shape.inner, columns), target.limits, what));
  d.push[3] = d.grid[0];
  d.push[4] = d.grid[1];
  d.flops = elems * 5;
  d.bytes = elems * 8;
  return d;
}

}  // namespace tessera
