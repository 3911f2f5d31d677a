#include "interface/rope.h"
#include "kernels/choose.h"
#include "kernels/grid.h"

namespace tessera {
namespace {

constexpr std::uint32_t kGroup = 64;

Result<Dispatch> choose(KernelId id, const char* name, std::uint64_t heads, const RopeAppendShape& s,
                        const Target& target) {
  const Limits& limits = target.limits;
  const std::string what = std::string(name) + " of " + std::to_string(s.rows) + " rows, " +
                           std::to_string(heads) + " heads of " + std::to_string(s.head_dim);
  if (s.head_dim == 0 || heads == 0 || s.rows == 0 || s.context == 0)
    return Error{Code::invalid_argument, what + ": an empty shape"};
  if (s.rope_dims % 2 != 0 || s.rope_dims > s.head_dim)
    return Error{Code::invalid_argument,
                 what + ": rope_dims " + std::to_string(s.rope_dims) + " is odd or above head_dim"};
  if (s.kv_type != DType::f32 && s.kv_type != DType::f16)
    return Error{Code::unsupported, what + ": a cache must be F32 or F16"};
  const std::uint64_t kv_bytes = s.kv_type == DType::f16 ? 2 : 4;
  const std::uint64_t cache = std::uint64_t{s.kv_heads} * s.context * s.head_dim * kv_bytes;
  const std::uint64_t activation = s.rows * heads * s.head_dim * 4;
  if ((id != KernelId::rope && cache > limits.max_storage_range) || activation > limits.max_storage_range)
    return Error{Code::unsupported, what + " in a context of " + std::to_string(s.context) +
                                        ": a tensor is larger than this device's maxStorageBufferRange"};
  Dispatch d;
  d.kernel = id;
  const std::uint64_t pairs = heads * ceil_div(s.head_dim, 2);
  const std::uint32_t group = group_size(pairs, kGroup, limits);
  const std::uint64_t groups = ceil_div(pairs, group);
  if (groups > limits.max_group_count[0] || s.rows > limits.max_group_count[1])
    return Error{Code::unsupported, what + ": more workgroups than maxComputeWorkGroupCount allows"};
  d.spec = {group, static_cast<std::uint32_t>(s.kv_type)};
  d.push = {s.rows, s.heads, s.kv_heads, s.head_dim, s.rope_dims, s.context, s.adjacent ? 1u : 0u};
  d.grid = {static_cast<std::uint32_t>(groups), s.rows, 1};
  d.flops = 3.0 * static_cast<double>(s.rows) * static_cast<double>(heads) * s.rope_dims;
  d.bytes = 2.0 * static_cast<double>(activation);
  return d;
}

}  // namespace

Result<Dispatch> choose_rope_append(const RopeAppendShape& s, const Target& target) {
  return choose(KernelId::rope_append, "rope_append", std::uint64_t{s.heads} + 2ull * s.kv_heads, s, target);
}

Result<Dispatch> choose_rope(const RopeAppendShape& s, const Target& target) {
  return choose(KernelId::rope, "rope", s.heads, s, target);
}

Result<Dispatch> choose_kv_append(const RopeAppendShape& s, const Target& target) {
  return choose(KernelId::kv_append, "kv_append", s.kv_heads, s, target);
}

}  // namespace tessera
