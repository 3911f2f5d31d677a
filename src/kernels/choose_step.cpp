#include "interface/step.h"
#include "kernels/choose.h"
#include "kernels/grid.h"

namespace tessera {

Result<Dispatch> choose_last_row(std::uint32_t dim, bool residual, const Target& target) {
  Dispatch d;
  d.kernel = KernelId::last_row;
  const std::uint32_t group = group_size(dim, 64, target.limits);
  const std::uint64_t groups = ceil_div(dim, group);
  if (groups > target.limits.max_group_count[0])
    return Error{Code::unsupported, "last_row of " + std::to_string(dim) + " columns: too many workgroups"};
  d.spec = {group};
  d.push = {dim, residual};
  d.grid = {static_cast<std::uint32_t>(groups), 1, 1};
  d.bytes = (residual ? 12.0 : 8.0) * dim;
  return d;
}

Result<Dispatch> choose_advance(std::uint32_t chunk, const Target&) {
  Dispatch d;
  d.kernel = KernelId::advance;
  d.push = {chunk};
  d.bytes = 24;
  return d;
}

}  // namespace tessera
