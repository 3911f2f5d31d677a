#include "interface/softmax.h"
#include "kernels/choose.h"
#include "kernels/grid.h"

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
  const std::uint32_t columns = group_size(shape.inner, 32, target.limits);
  const std::uint32_t group =
      std::max(columns, group_size(columns * ceil_div(shape.n, 4), 128, target.limits));
  TSR_TRY(const auto grid, fold_grid(shape.outer * ceil_div(shape.inner, columns), target.limits, what));
  Dispatch d;
  d.kernel = KernelId::softmax;
  d.spec = {group, columns};
  d.push = {shape.outer, shape.n, shape.inner, grid[0], grid[1]};
  d.grid = grid;
  d.flops = elems * 5;
  d.bytes = elems * 8;
  return d;
}

}  // namespace tessera
