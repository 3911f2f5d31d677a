#include "interface/sample.h"
#include "kernels/choose.h"
#include "kernels/grid.h"

namespace tessera {

namespace {
// Masses are 2^-44 units in 64 bits (docs/kernels/sampling.md): 2^18 of them cannot overflow.
constexpr std::uint32_t kMostVocab = 1u << 18;
// One workgroup does it all, so it is as wide as a device has: a pass over 128k logits is then 128 loads a
// lane.
constexpr std::uint32_t kMostGroup = 1024;
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
  d.spec = {group_size(ceil_div(vocab, kFewestIds), kMostGroup, target.limits)};
  d.push = {vocab, context};
  d.flops = vocab;
  d.bytes = 8.0 * vocab;
  return d;
}

}  // namespace tessera
