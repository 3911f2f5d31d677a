#include "interface/probe.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/loops.h"

namespace tessera {

Result<Dispatch> choose_probe(std::uint32_t loops, const Target& target) {
  constexpr std::uint32_t kGroups = 2048;  // 8 groups of 128 on each of 256 processors
  Dispatch d;
  d.kernel = KernelId::probe;
  const std::uint32_t group = group_size(128, 128, target.limits);
  d.spec = {group};
  d.push = {loops, 0xffffffffu};
  d.grid = {std::min(kGroups, target.limits.max_group_count[0]), 1, 1};
  d.flops = 2.0 * 4 * shader::kProbeChains * shader::kProbeSteps * loops * group * d.grid[0];
  TSR_CHECK(check_loops(d, target.limits, "the arithmetic probe"));
  return d;
}

}  // namespace tessera
