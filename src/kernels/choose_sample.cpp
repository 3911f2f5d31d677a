#include <algorithm>
#include <bit>

#include "interface/sample.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/loops.h"

namespace tessera {

namespace {
// Masses are 2^-44 units in 64 bits (docs/kernels/sampling.md): 2^18 of them cannot overflow.
constexpr std::uint32_t kMostVocab = 1u << 18;
// One workgroup does it all, so it is as wide as a device has: a pass over 128k logits is then 128 loads a
// lane.
constexpr std::uint32_t kMostGroup = 1024;
// More subgroups of the narrowest width than this, and a compiler may take a wider one, with fewer registers
// a lane (Intel Gen9: 105 spills with 1024 lanes, none with 512).
constexpr std::uint32_t kMostSubgroups = 64;
// Ids a lane: below this, a lane more costs more in barriers than it takes off the others.
constexpr std::uint32_t kFewestIds = 4;
}  // namespace

Result<Dispatch> choose_sample(std::uint32_t vocab, std::uint32_t context, const Target& target) {
  const std::string what = "sample of " + std::to_string(vocab) + " logits";
  if (vocab == 0) return Error{Code::invalid_argument, what + ": there is nothing to choose from"};
  if (vocab > kMostVocab) return Error{Code::unsupported, what + ": more than " + std::to_string(kMostVocab)};
  if (std::uint64_t{vocab} * 4 > target.limits.max_storage_range)
    return Error{Code::unsupported, what + ": more than this device's maxStorageBufferRange"};
  Dispatch d;
  d.kernel = KernelId::sample;
  const std::uint32_t most =
      std::min(kMostGroup, std::max(128u, kMostSubgroups * std::bit_floor(target.limits.min_subgroup_size)));
  d.spec = {group_size(ceil_div(vocab, kFewestIds), most, target.limits)};
  d.push = {vocab, context};
  d.flops = vocab;
  d.bytes = 8.0 * vocab;
  TSR_CHECK(check_loops(d, target.limits, what));
  return d;
}

}  // namespace tessera
