#include <algorithm>
#include <optional>

#include "interface/matmul.h"
#include "interface/mlp.h"
#include "kernels/grid.h"
#include "kernels/layout.h"
#include "kernels/loops.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

using namespace shader;

constexpr std::string_view kFused = "mlp_fused", kProducts = "mlp_products";

std::uint32_t k_of(const MlpShape& s, std::size_t layer) { return layer == 0 ? s.k : s.layers[layer - 1].n; }

std::string describe(const MlpShape& s) {
  std::string text = "mlp of " + std::to_string(s.rows) + " rows, " + std::to_string(s.k);
  for (const MlpLayer& layer : s.layers) text += " to " + std::to_string(layer.n);
  return text + " " + std::string(info(s.type).name);
}

Result<void> check(const MlpShape& s, const std::string& what) {
  if (s.rows == 0 || s.k == 0 || s.layers.empty())
    return Error{Code::invalid_argument, what + ": a dimension is 0"};
  for (std::size_t i = 0; i < s.layers.size(); ++i) {
    if (s.layers[i].n == 0) return Error{Code::invalid_argument, what + ": a dimension is 0"};
    if (!is_real(s.type) || device_row_bytes(s.type, k_of(s, i)) == 0)
      return Error{Code::invalid_argument, what + ": weights of this type cannot have rows of that length"};
    if (s.weight_bytes != 0 && (s.layers[i].weights_at % 16 != 0 || s.layers[i].bias_at % 4 != 0))
      return Error{Code::invalid_argument, what + ": weights are not at a multiple of 16 bytes"};
  }
  return {};
}

// How a workgroup takes rows: lanes_m x (group / lanes_m) lanes with lane_rows rows each.
struct Tile {
  std::uint32_t group = 0, lanes_m = 1, lane_rows = 1;
  std::uint32_t rows() const { return lanes_m * lane_rows; }
};

// vec4 of the longest row that stays in shared memory; x does, and all outputs but the last.
std::uint64_t row_vec4(const MlpShape& s) {
  std::uint64_t longest = 0;
  for (std::size_t i = 0; i < s.layers.size(); ++i) longest = std::max<std::uint64_t>(longest, k_of(s, i));
  return 2 * ceil_div(longest, 8);
}

// Where a device has more shared memory, two workgroups share it.
constexpr std::uint32_t kMostSharedBytes = 32768;
constexpr std::uint32_t kLeastRows = 4;        // of a workgroup, which reads all weights
constexpr std::uint32_t kManyRows = 16;        // a quarter of those of a tiled product
constexpr std::uint32_t kEnoughLanes = 16384;  // as choose_feed_forward has it

// What a workgroup does per row and vec4 of a layer's k, in instructions of a lane: of four columns LANE_ROWS
// loads of shared memory, four of weights, which take twice as long at least, and 16 LANE_ROWS multiply-adds.
double cost_of(const MlpShape& s, const Tile& t) {
  const std::uint32_t lanes_n = t.group / t.lanes_m;
  double cost = 0;
  for (std::size_t i = 0; i < s.layers.size(); ++i)
    cost += static_cast<double>(ceil_div(s.layers[i].n, std::uint64_t{4} * lanes_n)) *
            static_cast<double>(ceil_div(k_of(s, i), 4)) * (17.0 * t.lane_rows + 8);
  const double lanes = static_cast<double>(ceil_div(s.rows, t.rows())) * t.group;
  return cost * std::max(1.0, lanes / kEnoughLanes);
}

std::optional<Tile> pick_tile(const MlpShape& s, const Limits& limits) {
  std::optional<Tile> best;
  const std::uint32_t most = std::min(limits.max_group_invocations, limits.max_group_size[0]);
  for (const std::uint32_t group : {64u, 128u})
    for (std::uint32_t lanes_n = 4; lanes_n <= group && group <= most; lanes_n *= 2)
      for (const std::uint32_t lane_rows : {1u, 2u, 4u}) {
        const Tile t{group, group / lanes_n, lane_rows};
        if (t.rows() < std::min(kLeastRows, s.rows) ||
            2 * t.rows() * (row_vec4(s) + 1) * 16 > std::min(limits.max_shared_bytes, kMostSharedBytes))
          continue;
        if (!best || cost_of(s, t) < cost_of(s, *best)) best = t;
      }
  return best;
}

// Software drivers, as choose_feed_forward has them: rows of a workgroup, and up to so many multiply-adds on
// one core a dispatch less is worth another. To read a weight takes as long as kReading of them.
constexpr std::uint32_t kLanesRows = 16;
constexpr double kOneCore = 2e6, kReading = 9;

std::optional<Tile> pick_lanes(const MlpShape& s, const Limits& limits) {
  const std::uint64_t most =
      std::min<std::uint64_t>(kLanesRows, limits.max_shared_bytes / (2 * row_vec4(s) * 16));
  if (most < std::min(kLeastRows, s.rows)) return std::nullopt;
  return Tile{limits.subgroup_size, 1, static_cast<std::uint32_t>(ceil_div(s.rows, ceil_div(s.rows, most)))};
}

// Why the fused form cannot take the shape; empty: it can, and `t` is its tile.
std::string cannot_fuse(const MlpShape& s, const Target& target, std::optional<Tile>& t) {
  if (s.weight_bytes == 0) return "its weights do not lie in one buffer";
  if (s.weight_bytes > target.limits.max_storage_range) return "its weights do not fit one binding";
  for (const DType type : {s.x_type, s.y_type})
    if (type != DType::f32 && type != DType::f16) return "activations are F32 or F16";
  const std::uint64_t longest = std::max<std::uint64_t>(s.k, s.layers.back().n);
  if (s.rows * longest > 0xfffff000ull) return "more than 2^32 elements";
  if (takes_lanes(target) && info(s.type).block_elems > 1 && target.limits.subgroup_size < 8)
    return "blocks of 32 weights need subgroups of 8";
  t = takes_lanes(target) ? pick_lanes(s, target.limits) : pick_tile(s, target.limits);
  if (!t)
    return "rows of " + std::to_string(4 * row_vec4(s)) + " do not fit " +
           std::to_string(target.limits.max_shared_bytes) + " bytes of shared memory and " +
           std::to_string(target.limits.max_group_invocations) + " invocations";
  return {};
}

// What a workgroup reads in the time that a dispatch and a barrier take (5 us), for each layer: 128 lanes
// have four loads of 16 bytes in flight, and wait 0.8 us for them.
constexpr double kBytesALayer = 65536;

// Why a product a layer is faster; empty: it is not.
std::string slower(const MlpShape& s, const Target& target, const Tile& t) {
  double weights = 0, bytes = 0;
  for (std::size_t i = 0; i < s.layers.size(); ++i) {
    weights += static_cast<double>(s.layers[i].n) * k_of(s, i);
    bytes += static_cast<double>(device_row_bytes(s.type, k_of(s, i))) * s.layers[i].n;
  }
  const std::uint64_t groups = ceil_div(s.rows, t.rows()), layers = s.layers.size();
  if (takes_lanes(target)) {
    if (groups > ceil_div(s.rows, kLanesRows))
      return "rows for " + std::to_string(t.rows()) + " fit, and each reading of the weights should serve " +
             std::to_string(kLanesRows);
    if (groups == 1 && weights * (s.rows + kReading) > kOneCore * static_cast<double>(layers))
      return "it would leave all but one core idle";
    return {};
  }
  if (bytes <= kBytesALayer * static_cast<double>(layers)) return {};
  if (t.rows() < kManyRows)
    return "its tiles have " + std::to_string(t.rows()) + " rows, and each reads all weights";
  if (groups * t.group < kEnoughLanes)
    return "it has work for " + std::to_string(groups * t.group) +
           " lanes, and each workgroup reads all weights";
  return {};
}

std::vector<std::uint32_t> params_of(const MlpShape& s) {
  std::vector<std::uint32_t> words(s.layers.size() * kMlpLayerWords);
  for (std::size_t i = 0; i < s.layers.size(); ++i) {
    const MlpLayer& layer = s.layers[i];
    std::uint32_t* out = &words[i * kMlpLayerWords];
    out[kMlpLayerK] = k_of(s, i);
    out[kMlpLayerN] = layer.n;
    out[kMlpLayerRowWords] = static_cast<std::uint32_t>(device_row_bytes(s.type, k_of(s, i)) / 16);
    out[kMlpLayerWeights] = static_cast<std::uint32_t>(layer.weights_at / 16);
    out[kMlpLayerBias] = layer.bias ? static_cast<std::uint32_t>(layer.bias_at / 4) : kMlpNoBias;
    out[kMlpLayerAct] = layer.act;
  }
  return words;
}

Result<void> use_fused(const MlpShape& s, const Target& target, const Tile& t, MlpChoice& out) {
  Dispatch d;
  const bool lanes = takes_lanes(target);
  d.kernel = lanes ? KernelId::mlp_lanes : KernelId::mlp;
  const std::uint32_t flags = (s.dynamic_rows ? kMlpFlagDynamic : 0) | (s.k % 4 == 0 ? kMlpFlagVec4 : 0) |
                              (s.x_type == DType::f16 ? kMlpFlagXHalf : 0) |
                              (s.y_type == DType::f16 ? kMlpFlagYHalf : 0);
  std::uint32_t acts = 0;
  for (const MlpLayer& layer : s.layers) acts |= 1u << layer.act;
  d.spec = {t.group,     static_cast<std::uint32_t>(s.type),      flags,
            t.lane_rows, static_cast<std::uint32_t>(row_vec4(s)), acts};
  if (!lanes) d.spec.push_back(t.lanes_m);
  if (lanes && target.caps.subgroup_size_control) d.subgroup_size = t.group;
  TSR_TRY(d.grid, fold_grid(ceil_div(s.rows, t.rows()), target.limits, describe(s)));
  d.push = {s.rows, s.k, static_cast<std::uint32_t>(s.layers.size()), d.grid[0], d.grid[1]};
  d.params = params_of(s);
  d.operands = {0, 1, 2, 3, kParamsOperand};
  d.bytes = s.rows * (element_bytes(s.x_type) * s.k + element_bytes(s.y_type) * s.layers.back().n);
  for (std::size_t i = 0; i < s.layers.size(); ++i) {
    d.flops += 2.0 * s.rows * s.layers[i].n * k_of(s, i);
    d.bytes += static_cast<double>(device_row_bytes(s.type, k_of(s, i))) * s.layers[i].n;
  }
  out.dispatches = {std::move(d)};
  return check_loops(out.dispatches[0], target.limits, describe(s));
}

// A product a layer; activations go from one scratch to the other.
Result<void> use_products(const MlpShape& s, const Target& target, MlpChoice& out) {
  for (std::size_t i = 0; i + 1 < s.layers.size(); ++i) {
    if (out.scratch.size() <= i % 2) out.scratch.push_back(0);
    const std::uint64_t bytes = std::uint64_t{s.rows} * s.layers[i].n * 4;
    if (bytes > target.limits.max_storage_range)
      return Error{Code::unsupported, "activations of " + std::to_string(bytes) + " bytes after layer " +
                                          std::to_string(i) + " do not fit one binding"};
    out.scratch[i % 2] = std::max(out.scratch[i % 2], bytes);
  }
  auto next = static_cast<OperandIndex>(kMlpOperands + 2 * s.layers.size());  // of windows
  for (std::size_t i = 0; i < s.layers.size(); ++i) {
    const bool first = i == 0, last = i + 1 == s.layers.size();
    const OperandIndex bias = static_cast<OperandIndex>(kMlpOperands + 2 * i + 1);
    const OperandIndex from = static_cast<OperandIndex>(kScratchOperand + (i + 1) % 2);
    const OperandIndex to = static_cast<OperandIndex>(kScratchOperand + i % 2);
    const std::uint32_t n = s.layers[i].n, window = s.layers[i].window;
    MatmulShape product{.rows = s.rows,
                        .k = k_of(s, i),
                        .y_stride = n,
                        .dynamic_rows = s.dynamic_rows,
                        .type = s.type,
                        .act = s.layers[i].act,
                        .bias = s.layers[i].bias,
                        .x_type = first ? s.x_type : DType::f32,
                        .y_type = last ? s.y_type : DType::f32};
    for (; product.first < n; product.first += product.n) {
      product.n = window != 0 ? std::min(window, n - product.first) : n;
      const OperandIndex w = window != 0 ? next++ : static_cast<OperandIndex>(bias - 1);
      TSR_CHECK(add_product(product, target,
                            {first ? OperandIndex{kMlpX} : from, w, kNoOperand, bias, kNoOperand,
                             last ? OperandIndex{kMlpY} : to, kMlpState, kNoOperand, kNoOperand},
                            out));
    }
  }
  return {};
}

}  // namespace

Result<MlpChoice> choose_mlp(const MlpShape& shape, const Target& target) {
  TSR_CHECK(check(shape, describe(shape)));
  if (shape.layers.size() > kMostMlpLayers)
    return Error{Code::unsupported,
                 describe(shape) + ": more than " + std::to_string(kMostMlpLayers) + " layers"};
  MlpChoice out;
  std::optional<Tile> tile;
  std::string why = cannot_fuse(shape, target, tile);
  if (why.empty())
    if (const Result<void> done = use_fused(shape, target, *tile, out); !done.ok())
      why = done.error().message;
  if (target.form == kFused) {
    if (!why.empty()) return Error{Code::unsupported, describe(shape) + ": " + why};
    return out;
  }
  const bool may_fuse = why.empty() && target.form != kProducts && !target.form.starts_with("matmul_");
  if (why.empty()) why = may_fuse ? slower(shape, target, *tile) : "not asked for";
  if (why.empty()) return out;
  MlpChoice products;
  products.refused.push_back({std::string(kFused), why});
  const Result<void> done = use_products(shape, target, products);
  if (done.ok()) return products;
  if (may_fuse) return out;
  return Error{done.error().code, describe(shape) + ": " + done.error().message + "; not fused: " + why};
}

}  // namespace tessera
