#include <bit>

#include "interface/norm.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/loops.h"

namespace tessera {

Result<Dispatch> choose_norm(const NormShape& shape, const Target& target) {
  const std::string what = "norm of " + std::to_string(shape.rows) + " rows of " + std::to_string(shape.dim);
  if (shape.dim == 0) return Error{Code::invalid_argument, what + ": no columns"};
  const std::uint64_t elems = std::uint64_t{shape.rows} * shape.dim;
  if (elems > 0xffffffffull) return Error{Code::unsupported, what + ": more than 2^32 elements"};
  TSR_TRY(const auto grid, fold_grid(shape.rows, target.limits, what));
  Dispatch d;
  d.kernel = target.caps.subgroup_arithmetic ? KernelId::norm_subgroup : KernelId::norm;
  // One pass of the loop handles GROUP elements. 128 is what every device has; wider only shortens a loop
  // that waits for memory, and costs the tree a step.
  const std::uint32_t flags = (shape.layer_norm ? shader::kNormFlagLayer : 0) |
                              (shape.bias ? shader::kNormFlagBias : 0) |
                              (shape.residual ? shader::kNormFlagResidual : 0);
  d.push = {shape.rows, shape.dim, std::bit_cast<std::uint32_t>(shape.eps),
            grid[0],    grid[1],   shape.dynamic_rows};
  // Wider still only where the driver ends long loops.
  for (std::uint32_t most = 128; most <= 1024; most *= 2) {
    d.spec = {group_size(ceil_div(shape.dim, 4), most, target.limits), flags};
    if (loops_end(d, target.limits)) break;
  }
  TSR_CHECK(check_loops(d, target.limits, what));
  d.grid = grid;
  d.flops = static_cast<double>(elems) * (shape.layer_norm ? 6 : 4);
  d.bytes = static_cast<double>(elems) * (shape.residual ? 16 : 8) + (shape.bias ? 8.0 : 4.0) * shape.dim;
  return d;
}

}  // namespace tessera
