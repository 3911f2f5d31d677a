#include <algorithm>

#include "base/cache_row.h"
#include "interface/rope.h"
#include "kernels/append_part.h"
#include "kernels/grid.h"

namespace tessera {
namespace {

constexpr std::uint32_t kGroup = 64;
static_assert(kGroup % shader::kQ8Lanes == 0);

class Choice {
 public:
  Choice(KernelId id, const RopeAppendShape& shape, const Target& target)
      : id_(id), s_(shape), limits_(target.limits) {
    if (s_.v_dim == 0) s_.v_dim = s_.head_dim;
    if (s_.table_rows == 0) s_.table_rows = s_.context;
  }

  Result<Dispatch> make() const {
    TSR_CHECK(check_shape());
    TSR_CHECK(check_sizes(activation_bytes()));
    const std::uint64_t lanes = lanes_a_head();
    const std::uint32_t group = group_size(heads() * lanes, kGroup, limits_);
    const std::uint64_t groups = ceil_div(heads() * lanes, group);
    if (groups > limits_.max_group_count[0] || s_.rows > limits_.max_group_count[1] ||
        s_.batch > limits_.max_group_count[2])
      return refuse("more workgroups than maxComputeWorkGroupCount allows");
    Dispatch d;
    d.kernel = id_;
    d.spec = {group, static_cast<std::uint32_t>(s_.kv_type), flags()};
    d.push = push(static_cast<std::uint32_t>(lanes));
    d.grid = {static_cast<std::uint32_t>(groups), s_.rows, s_.batch};
    d.flops = 3.0 * s_.batch * s_.rows * static_cast<double>(heads()) * s_.rope_dims;
    d.bytes = static_cast<double>(activation_bytes()) + other_bytes();
    return d;
  }

  Result<AppendPart> part() const {
    TSR_CHECK(check_shape());
    TSR_CHECK(check_sizes(0));
    return places();
  }

 private:
  bool has_cache() const { return id_ != KernelId::rope; }
  std::uint64_t heads() const {
    if (id_ == KernelId::rope) return s_.heads;
    return id_ == KernelId::kv_append ? s_.kv_heads : std::uint64_t{s_.heads} + 2ull * s_.kv_heads;
  }
  // Of q, k and v together, or of x.
  std::uint64_t row_elems() const {
    if (id_ != KernelId::rope_append) return heads() * s_.head_dim;
    return (std::uint64_t{s_.heads} + s_.kv_heads) * s_.head_dim + std::uint64_t{s_.kv_heads} * s_.v_dim;
  }
  std::uint64_t activation_bytes() const { return std::uint64_t{s_.batch} * s_.rows * row_elems() * 4; }
  double written_bytes() const {
    const double rows = static_cast<double>(s_.batch) * s_.rows, heads = s_.heads, kv_heads = s_.kv_heads;
    const double turned = 4.0 * rows * heads * s_.head_dim;
    if (id_ == KernelId::rope) return turned;
    const auto of_cache = [&](std::uint32_t dim) {
      return rows * kv_heads * static_cast<double>(cache_row_bytes(s_.kv_type, dim));
    };
    if (id_ == KernelId::kv_append) return of_cache(s_.head_dim);
    return turned + of_cache(s_.head_dim) + of_cache(s_.v_dim);
  }
  double other_bytes() const {
    return written_bytes() + (id_ == KernelId::kv_append ? 0 : 4.0 * s_.rows * s_.rope_dims);
  }
  bool paged() const { return s_.block_size != 0; }

  Error refuse(const std::string& why, Code code = Code::unsupported) const {
    return {code, std::string(kernel(id_).name) + " of " + std::to_string(s_.rows) + " rows, " +
                      std::to_string(heads()) + " heads of " + std::to_string(s_.head_dim) + ": " + why};
  }

  Result<void> check_shape() const {
    if (s_.head_dim == 0 || heads() == 0 || s_.rows == 0 || s_.context == 0 || s_.batch == 0)
      return refuse("an empty shape", Code::invalid_argument);
    if (s_.rope_dims % 2 != 0 || s_.rope_dims > s_.head_dim)
      return refuse("rope_dims " + std::to_string(s_.rope_dims) + " is odd or above head_dim",
                    Code::invalid_argument);
    if (!has_cache()) return {};
    if (!is_cache_type(s_.kv_type)) return refuse("a cache must be F32, F16, BF16 or Q8_0");
    for (std::uint32_t dim : {s_.head_dim, s_.v_dim})
      if (dim % info(s_.kv_type).block_elems != 0)
        return refuse(
            "heads of " + std::to_string(dim) + " do not fit blocks of " + std::string(info(s_.kv_type).name),
            Code::invalid_argument);
    if (paged() && (s_.context % s_.block_size != 0 || s_.blocks == 0))
      return refuse("a context of " + std::to_string(s_.context) + " is not in blocks of " +
                        std::to_string(s_.block_size),
                    Code::invalid_argument);
    if (s_.ring && s_.rows > s_.context)
      return refuse("a ring of " + std::to_string(s_.context) + " keys is too small for a pass",
                    Code::invalid_argument);
    return {};
  }

  Result<void> check_sizes(std::uint64_t activations) const {
    const std::uint64_t rows = std::uint64_t{s_.kv_heads} * (paged() ? s_.block_size : s_.context);
    const std::uint64_t row_bytes = cache_row_bytes(s_.kv_type, std::max(s_.head_dim, s_.v_dim));
    const std::uint64_t most = limits_.max_storage_range;
    const std::uint64_t sequences = paged() ? s_.blocks : s_.batch;
    const bool fits = !has_cache() || (rows <= most / row_bytes && sequences <= most / (rows * row_bytes));
    if (fits && activations <= most) return {};
    return refuse("in a context of " + std::to_string(s_.context) +
                  " a tensor is larger than this device's maxStorageBufferRange");
  }

  // Two elements each; blocks of Q8_0 go in pairs.
  std::uint64_t lanes_a_head() const {
    const std::uint64_t lanes =
        ceil_div(id_ == KernelId::rope_append ? std::max(s_.head_dim, s_.v_dim) : s_.head_dim, 2);
    const bool blocks = has_cache() && s_.kv_type == DType::q8_0;
    return blocks ? ceil_div(lanes, shader::kQ8Lanes) * shader::kQ8Lanes : lanes;
  }

  std::uint32_t flags() const {
    return (has_cache() && paged() ? shader::kRopeFlagPaged : 0) |
           (has_cache() && s_.ring ? shader::kRopeFlagRing : 0) |
           (s_.table_by_row ? shader::kRopeFlagByRow : 0) | (s_.all_rows ? shader::kRopeFlagAllRows : 0);
  }

  AppendPart places() const {
    // A table's and a cache's own limit; a ring has none.
    const std::uint32_t held = has_cache() && s_.ring ? 0xffffffffu : s_.context;
    return {.positions = id_ == KernelId::rope_append ? std::min(held, s_.table_rows) : held,
            .capacity = s_.context,
            .slots = paged() ? s_.block_size : s_.context,
            .blocks = s_.blocks,
            .table_stride = paged() ? s_.context / s_.block_size : 0,
            .bytes = other_bytes()};
  }

  std::vector<std::uint32_t> push(std::uint32_t lanes) const {
    const AppendPart at = places();
    const auto width = static_cast<std::uint32_t>(row_elems()), dim = s_.head_dim;
    const auto strides = [&](const std::array<std::uint32_t, 3>& given, std::uint32_t row) {
      return given == std::array<std::uint32_t, 3>{} ? std::array{s_.rows * row, dim, row} : given;
    };
    const auto x = strides(s_.x_strides, width);
    const auto y = strides(s_.y_strides, id_ == KernelId::rope_append ? s_.heads * dim : width);
    return {s_.rows, s_.heads,     s_.kv_heads, dim,      s_.v_dim,  s_.rope_dims,    s_.adjacent ? 1u : 0u,
            lanes,   at.positions, at.capacity, at.slots, at.blocks, at.table_stride, x[0],
            x[1],    x[2],         y[0],        y[1],     y[2]};
  }

  KernelId id_;
  RopeAppendShape s_;
  const Limits& limits_;
};

}  // namespace

Result<Dispatch> choose_rope_append(const RopeAppendShape& s, const Target& target) {
  return Choice(KernelId::rope_append, s, target).make();
}

Result<AppendPart> append_part(const RopeAppendShape& s, const Target& target) {
  return Choice(KernelId::rope_append, s, target).part();
}

Result<Dispatch> choose_rope(const RopeAppendShape& s, const Target& target) {
  return Choice(KernelId::rope, s, target).make();
}

Result<Dispatch> choose_kv_append(const RopeAppendShape& s, const Target& target) {
  return Choice(KernelId::kv_append, s, target).make();
}

}  // namespace tessera
