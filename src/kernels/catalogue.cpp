#include "kernels/catalogue.h"

#include <algorithm>
#include <vector>

#include "interface/attention.h"
#include "interface/elementwise.h"
#include "interface/embedding.h"
#include "interface/feed_forward.h"
#include "interface/linear_attention.h"
#include "interface/matmul.h"
#include "interface/mlp.h"
#include "interface/norm.h"
#include "interface/probe.h"
#include "interface/quantise.h"
#include "interface/rope.h"
#include "interface/sample.h"
#include "interface/softmax.h"
#include "interface/step.h"
#include "kernels/choose.h"
#include "kernels/reflect.h"
#include "spirv/embed.inc"

namespace tessera {
namespace {

using namespace shader;

#define TESSERA_KERNEL(name, source, Push, bindings, specs, capability, defines, needs) \
  TSR_CHECK_MODULE(name, Push, bindings, specs);
#include "kernels.inc"
#undef TESSERA_KERNEL

constexpr std::array<Kernel, static_cast<std::size_t>(KernelId::count)> kKernels = {{
#define TESSERA_KERNEL(name, source, Push, bindings, specs, capability, defines, needs)     \
  {KernelId::name,   #name, origin_##name, gz_##name, bindings, reflect(spv_##name).access, \
   push_bytes<Push>, specs},
#include "kernels.inc"
#undef TESSERA_KERNEL
}};

}  // namespace

const Kernel& kernel(KernelId id) { return kKernels[static_cast<std::size_t>(id)]; }

std::span<const Kernel> kernels() { return kKernels; }

PipelineDesc pipeline_desc(const Dispatch& dispatch) {
  const Kernel& k = kernel(dispatch.kernel);
  return {.name = std::string(k.name),
          .module = dispatch.module ? std::span<const std::uint8_t>(*dispatch.module) : k.module,
          .module_owner = dispatch.module,
          .binding_count = k.binding_count,
          .push_bytes = k.push_bytes,
          .spec = dispatch.spec,
          .required_subgroup_size = dispatch.subgroup_size};
}

std::string_view missing_capability(KernelId id, const Caps& caps) {
  constexpr std::array<std::string_view, static_cast<std::size_t>(KernelId::count)> kNeeds{
#define TESSERA_KERNEL(name, source, Push, bindings, specs, capability, defines, needs) #capability,
#include "kernels.inc"
#undef TESSERA_KERNEL
  };
  std::string_view left = kNeeds[static_cast<std::size_t>(id)];
  if (left == "none") return {};
  const std::vector<NamedValue> have = list({}, caps);
  while (!left.empty()) {
    const std::string_view needed = left.substr(0, left.find(' '));
    left.remove_prefix(std::min(left.size(), needed.size() + 1));
    const auto has = [&](const NamedValue& v) { return v.is_cap && v.name == needed && v.value != 0; };
    if (std::ranges::none_of(have, has)) return needed;
  }
  return {};
}

}  // namespace tessera
