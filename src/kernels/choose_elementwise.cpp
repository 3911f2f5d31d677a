#include "interface/elementwise.h"
#include "kernels/choose.h"
#include "kernels/grid.h"

namespace tessera {

Result<Dispatch> choose_elementwise(const ElementwiseShape& shape, const Target& target) {
  const std::string what =
      "elementwise op on " + std::to_string(shape.rows) + " rows of " + std::to_string(shape.dim);
  const std::uint64_t elems = std::uint64_t{shape.rows} * shape.dim;
  const std::uint32_t group = group_size(ceil_div(elems, shader::kElementwisePerLane), 128, target.limits);
  const std::uint64_t per_group = std::uint64_t{group} * shader::kElementwisePerLane;
  // The last workgroup's lanes count past the end, in 32 bits.
  if (elems + per_group > 0xffffffffull) return Error{Code::unsupported, what + ": 2^32 elements or more"};
  TSR_TRY(const auto grid, fold_grid(ceil_div(elems, per_group), target.limits, what));
  Dispatch d;
  d.kernel = KernelId::elementwise;
  d.spec = {group, static_cast<std::uint32_t>(shape.kind), shape.act, shape.dynamic_rows ? 1u : 0u};
  d.push = {shape.rows, shape.dim, grid[0], grid[1]};
  d.grid = grid;
  d.flops = static_cast<double>(elems);
  d.bytes = static_cast<double>(elems) * (shape.kind == Elementwise::activation ? 8 : 12);
  return d;
}

}  // namespace tessera
