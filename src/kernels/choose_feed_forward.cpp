#include <algorithm>
#include <bit>
#include <optional>

#include "interface/feed_forward.h"
#include "interface/matmul.h"
#include "kernels/grid.h"
#include "kernels/layout.h"
#include "kernels/loops.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

using namespace shader;

constexpr std::string_view kFused = "feed_forward_fused", kProducts = "feed_forward_products";

bool takes_products(const Target& t) { return t.form == kProducts || t.form.starts_with("matmul_"); }

std::string describe(const FeedForwardShape& s) {
  return "feed_forward of " + std::to_string(s.rows) + " rows, " + std::to_string(s.k) + " to " +
         std::to_string(s.hidden) + " to " + std::to_string(s.n) + " " + std::string(info(s.type).name);
}

Result<void> check(const FeedForwardShape& s, const std::string& what) {
  if (s.rows == 0 || s.k == 0 || s.hidden == 0 || s.n == 0)
    return Error{Code::invalid_argument, what + ": a dimension is 0"};
  if (!is_real(s.type) || !is_real(s.down_type) || device_row_bytes(s.type, s.k) == 0 ||
      device_row_bytes(s.down_type, s.hidden) == 0)
    return Error{Code::invalid_argument, what + ": weights of this type cannot have rows of that length"};
  return {};
}

// How a workgroup of the fused form takes rows and columns, and the tile of hidden units between them.
struct Tile {
  std::uint32_t group = 0, lanes_m = 1, lane_rows = 1, columns = 1, x_vec4 = 0;
  std::uint32_t rows() const { return lanes_m * lane_rows; }
  std::uint32_t units = 0;  // hidden units of a tile
  std::uint32_t shared_bytes() const { return rows() * (x_vec4 + 1 + units / 4 + 1) * 16; }
};

// Sums of y in a lane's registers, beside 16 of the first product and what four chunks are decoded in. With
// 64, Intel's compiler (Mesa 25) spills 80 to 150 registers.
constexpr std::uint32_t kMostSums = 32;
constexpr std::uint32_t kMostK = 4096;        // of a row of x in shared memory
constexpr std::uint32_t kMatvecRows = 16;     // matrix-vector products take as many
constexpr std::uint32_t kLeastTileRows = 16;  // a quarter of those of a tiled product
// Where a device has more shared memory, two workgroups share it.
constexpr std::uint32_t kMostSharedBytes = 32768;

// The tile with the most rows (every tile reads all weights), up to those there are; then the one whose lanes
// have most of them (they read each weight less often), then the one with the most lanes.
std::optional<Tile> pick_tile(const FeedForwardShape& s, const Limits& limits) {
  std::optional<Tile> best;
  const std::uint32_t most = std::min(limits.max_group_invocations, limits.max_group_size[0]);
  for (const std::uint32_t group : {64u, 128u})
    for (std::uint32_t lanes_n = 16; lanes_n <= group && group <= most; lanes_n *= 2)
      for (const std::uint32_t lane_rows : {1u, 2u, 4u}) {
        Tile t{group, group / lanes_n, lane_rows};
        t.columns = 4 * static_cast<std::uint32_t>(ceil_div(s.n, std::uint64_t{4} * lanes_n));
        t.x_vec4 = 2 * static_cast<std::uint32_t>(ceil_div(s.k, 8));
        t.units = lanes_n * (s.gated ? 2 : 4);
        if (t.columns * t.lane_rows > kMostSums || s.k > kMostK ||
            t.shared_bytes() > std::min(limits.max_shared_bytes, kMostSharedBytes))
          continue;
        const auto used = [&](const Tile& u) { return std::min(u.rows(), std::bit_ceil(s.rows)); };
        const auto better = [&](const Tile& a, const Tile& b) {
          if (used(a) != used(b)) return used(a) > used(b);
          if (a.rows() != b.rows()) return a.rows() < b.rows();
          return a.lane_rows != b.lane_rows ? a.lane_rows > b.lane_rows : a.group > b.group;
        };
        if (!best || better(t, *best)) best = t;
      }
  return best;
}

// Software drivers: rows and sums of a lane. Sums are memory there; what limits them is the time that
// straight code of a multiply-add a sum takes to compile.
constexpr std::uint32_t kLanesRows = 16, kMostLanesSums = 128;
// Rows that a reading of the weights should serve: as many as of products; of 4 to 6 bits, which products
// take longer to unpack, half.
std::uint32_t least_lanes_rows(DType type) {
  return info(type).block_elems > 1 && type != DType::q8_0 ? 8 : kLanesRows;
}
// Of a single workgroup: up to this many multiply-adds (0.2 ms on lavapipe) a dispatch less is worth a
// second core; to read a weight takes as long as kReading of them.
constexpr double kOneCore = 4e6, kReading = 9;

std::optional<Tile> pick_lanes(const FeedForwardShape& s, const Limits& limits) {
  Tile t{limits.subgroup_size};
  t.units = 4 * t.group;
  t.columns = static_cast<std::uint32_t>(ceil_div(s.n, t.group));
  if (t.columns > kMostLanesSums) return std::nullopt;
  const std::uint32_t most = std::min(kLanesRows, kMostLanesSums / t.columns);
  t.lane_rows = static_cast<std::uint32_t>(ceil_div(s.rows, ceil_div(s.rows, most)));
  return t;
}

std::uint32_t flags_of(const FeedForwardShape& s, bool split) {
  return (s.bias ? kFeedForwardFlagBias : 0) | (s.gated ? kFeedForwardFlagGated : 0) |
         (s.dynamic_rows ? kFeedForwardFlagDynamic : 0) | (s.k % 4 == 0 ? kFeedForwardFlagVec4 : 0) |
         (s.residual ? kFeedForwardFlagResidual : 0) | (s.down_bias ? kFeedForwardFlagDownBias : 0) |
         (s.x_type == DType::f16 ? kFeedForwardFlagXHalf : 0) |
         (s.y_type == DType::f16 ? kFeedForwardFlagYHalf : 0) | (split ? kFeedForwardFlagSplit : 0);
}

// What no form can avoid.
double compulsory_bytes(const FeedForwardShape& s) {
  return static_cast<double>(device_row_bytes(s.type, s.k)) * s.hidden * (s.gated ? 2 : 1) +
         static_cast<double>(device_row_bytes(s.down_type, s.hidden)) * s.n +
         s.rows * (element_bytes(s.x_type) * s.k + element_bytes(s.y_type) * s.n * (s.residual ? 2 : 1));
}

double flops_of(const FeedForwardShape& s) {
  return 2.0 * s.rows * s.hidden * (static_cast<double>(s.k) * (s.gated ? 2 : 1) + s.n);
}

Result<void> use_fused(const FeedForwardShape& s, const Target& target, const Tile& t, std::uint32_t splits,
                       FeedForwardChoice& out) {
  const std::string what = describe(s);
  const auto tiles = static_cast<std::uint32_t>(ceil_div(s.hidden, t.units));
  const auto share = static_cast<std::uint32_t>(ceil_div(tiles, splits));
  splits = static_cast<std::uint32_t>(ceil_div(tiles, share));  // none is empty
  const bool lanes = takes_lanes(target);
  Dispatch d;
  d.kernel = lanes ? KernelId::feed_forward_lanes : KernelId::feed_forward;
  d.spec = {t.group,    static_cast<std::uint32_t>(s.type), flags_of(s, splits > 1), s.act, t.columns,
            t.lane_rows};
  if (!lanes) d.spec.insert(d.spec.end(), {t.lanes_m, t.x_vec4});
  if (lanes && target.caps.subgroup_size_control) d.subgroup_size = t.group;
  TSR_TRY(d.grid, fold_grid(ceil_div(s.rows, t.rows()) * splits, target.limits, what));
  d.push = {s.rows,
            s.k,
            s.hidden,
            s.n,
            static_cast<std::uint32_t>(device_row_bytes(s.type, s.k) / 16),
            static_cast<std::uint32_t>(device_row_bytes(s.type, s.hidden) / 16),
            splits,
            share,
            d.grid[0],
            d.grid[1]};
  d.operands = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, kNoOperand};
  d.flops = flops_of(s);
  d.bytes = compulsory_bytes(s);
  if (splits > 1) {
    const std::uint64_t partials = std::uint64_t{splits} * s.rows * s.n;
    if (partials * 4 > target.limits.max_storage_range)
      return Error{Code::unsupported, what + ": sums over parts do not fit one binding"};
    out.scratch = {partials * 4};
    Dispatch merge;
    merge.kernel = KernelId::feed_forward_merge;
    const std::uint32_t group = group_size(std::uint64_t{s.rows} * s.n, 128, target.limits);
    merge.spec = {group, 0, flags_of(s, false)};
    TSR_TRY(merge.grid, fold_grid(ceil_div(std::uint64_t{s.rows} * s.n, group), target.limits, what));
    merge.push = d.push;
    merge.push[8] = merge.grid[0];
    merge.push[9] = merge.grid[1];
    d.operands[kFeedForwardPartials] = kScratchOperand;
    d.operands[kFeedForwardY] = d.operands[kFeedForwardResidual] = kNoOperand;
    merge.operands = {kNoOperand, kNoOperand, kNoOperand, kNoOperand, kNoOperand,     kNoOperand,
                      6,          7,          8,          9,          kScratchOperand};
    merge.bytes = static_cast<double>(partials) * 4;
    merge.flops = static_cast<double>(partials);
    d.bytes += static_cast<double>(partials) * 4;
    out.dispatches = {std::move(d), std::move(merge)};
  } else {
    out.dispatches = {std::move(d)};
  }
  for (const Dispatch& each : out.dispatches) TSR_CHECK(check_loops(each, target.limits, what));
  return {};
}

// The hidden activation of the products.
std::uint64_t hidden_bytes(const FeedForwardShape& s) { return std::uint64_t{s.rows} * s.hidden * 4; }
std::string too_much_hidden(const FeedForwardShape& s) {
  return "a hidden activation of " + std::to_string(hidden_bytes(s)) + " bytes does not fit one binding";
}

Result<void> use_products(const FeedForwardShape& s, const Target& target, FeedForwardChoice& out) {
  const std::uint32_t hidden_step = s.hidden_window != 0 ? s.hidden_window : s.hidden;
  const std::uint32_t n_step = s.n_window != 0 ? s.n_window : s.n;
  if (hidden_bytes(s) > target.limits.max_storage_range)
    return Error{Code::unsupported, describe(s) + ": " + too_much_hidden(s)};
  OperandIndex next = kFeedForwardOperands;
  out.scratch = {hidden_bytes(s)};
  MatmulShape first{.rows = s.rows,
                    .k = s.k,
                    .y_stride = s.hidden,
                    .dynamic_rows = s.dynamic_rows,
                    .type = s.type,
                    .act = s.act,
                    .gated = s.gated,
                    .bias = s.bias,
                    .x_type = s.x_type,
                    .precision = s.precision,
                    .norm = s.norm,
                    .eps = s.eps};
  for (first.first = 0; first.first < s.hidden; first.first += hidden_step) {
    first.n = std::min(hidden_step, s.hidden - first.first);
    OperandIndex w = kFeedForwardW, up = kFeedForwardUp;
    if (s.hidden_window != 0) {
      w = next++;
      up = next++;
    }
    TSR_CHECK(add_product(first, target,
                          {kFeedForwardX, w, up, kFeedForwardBias, kFeedForwardUpBias, kScratchOperand,
                           kFeedForwardState, kNoOperand, kFeedForwardNorm},
                          out));
  }
  MatmulShape second{.rows = s.rows,
                     .k = s.hidden,
                     .y_stride = s.n,
                     .dynamic_rows = s.dynamic_rows,
                     .type = s.down_type,
                     .bias = s.down_bias,
                     .residual = s.residual,
                     .y_type = s.y_type,
                     .precision = s.precision};
  for (second.first = 0; second.first < s.n; second.first += n_step) {
    second.n = std::min(n_step, s.n - second.first);
    const OperandIndex down = s.n_window != 0 ? next++ : OperandIndex{kFeedForwardDown};
    TSR_CHECK(add_product(second, target,
                          {kScratchOperand, down, kNoOperand, kFeedForwardDownBias, kNoOperand, kFeedForwardY,
                           kFeedForwardState, kFeedForwardResidual, kNoOperand},
                          out));
  }
  return {};
}

// Why the fused form cannot take the shape; empty: it can, and `t` is its tile.
std::string cannot_fuse(const FeedForwardShape& s, const Target& target, std::optional<Tile>& t) {
  if (s.norm) return std::string(kNoNorm) + ", by products alone";
  if (s.type != s.down_type) return "its weights are of two types";
  if (s.hidden_window != 0 || s.n_window != 0) return "its weights do not fit one binding each";
  for (const DType type : {s.x_type, s.y_type})
    if (type != DType::f32 && type != DType::f16) return "activations are F32 or F16";
  const std::uint64_t most = 0xfffff000ull;  // indices are 32 bits
  if (std::uint64_t{s.rows} * std::max({s.k, s.n}) > most ||
      std::uint64_t{s.hidden} * device_row_bytes(s.type, s.k) / 4 > most ||
      std::uint64_t{s.n} * device_row_bytes(s.type, s.hidden) / 4 > most)
    return "more than 2^32 elements";
  if (takes_lanes(target) && info(s.type).block_elems > 1 && target.limits.subgroup_size < 8)
    return "blocks of 32 weights need subgroups of 8";
  t = takes_lanes(target) ? pick_lanes(s, target.limits) : pick_tile(s, target.limits);
  if (t) return {};
  if (!takes_lanes(target) && s.k > kMostK)
    return "rows of x longer than " + std::to_string(kMostK) + " do not stay on chip";
  return "a row of " + std::to_string(s.n) + " sums and one of x do not fit on chip (" +
         std::to_string(target.limits.max_group_invocations) + " invocations, " +
         std::to_string(target.limits.max_shared_bytes) + " bytes of shared memory)";
}

// Lanes that keep a GPU at work, where each has tens of multiply-adds between loads.
constexpr std::uint32_t kEnoughLanes = 16384;
// With fewer, the fused form is taken where products have this many times fewer lanes.
constexpr std::uint32_t kFewerLanes = 4;

std::uint64_t lanes_of(const FeedForwardShape& s, const Tile& t) {
  return ceil_div(s.rows, t.rows()) * t.group;
}

// Loops over the hidden dimension that the device's driver would end, and none of parts of it.
std::uint32_t splits_for_loops(const FeedForwardShape& s, const Target& target, const Tile& t) {
  FeedForwardChoice whole;
  if (const Result<void> done = use_fused(s, target, t, 1, whole); done.ok() || whole.dispatches.empty())
    return 1;
  const std::uint64_t most = target.limits.max_loop_iterations, all = loop_iterations(whole.dispatches[0]);
  const std::uint64_t tiles = ceil_div(s.hidden, t.units), share = most / ceil_div(all, tiles);
  return static_cast<std::uint32_t>(ceil_div(tiles, std::max<std::uint64_t>(share, 1)));
}

// Parts of the hidden dimension: as many as occupy the device, but so that writing and reading their sums is
// half the traffic of the hidden activation at most; and as many as the device's driver needs.
std::uint32_t splits_of(const FeedForwardShape& s, const Target& target, const Tile& t) {
  const std::uint64_t partials = std::uint64_t{4} * s.rows * s.n, tiles = ceil_div(s.hidden, t.units);
  const std::uint64_t fit = std::min(tiles, target.limits.max_storage_range / partials);
  const std::uint64_t wanted = takes_lanes(target) ? 1 : ceil_div(kEnoughLanes, lanes_of(s, t));
  const std::uint64_t cheap = s.hidden / (2 * std::uint64_t{s.n});
  const std::uint64_t splits =
      std::max<std::uint64_t>(std::min(wanted, cheap), splits_for_loops(s, target, t));
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(1, std::min(splits, fit)));
}

// Lanes of the smaller of the products.
std::uint64_t product_lanes(const FeedForwardChoice& products) {
  std::uint64_t least = ~std::uint64_t{0};
  for (const Dispatch& d : products.dispatches)
    if (d.kernel != KernelId::quantise_rows)
      least = std::min(least, std::uint64_t{d.grid[0]} * d.grid[1] * d.grid[2] * d.spec[0]);
  return least;
}

// Why two products are faster; empty: they are not.
std::string slower(const FeedForwardShape& s, const Target& target, const Tile& t, std::uint32_t splits,
                   const FeedForwardChoice& products) {
  if (takes_lanes(target)) {
    const std::uint64_t groups = ceil_div(s.rows, t.rows());
    const std::uint32_t least = least_lanes_rows(s.type);
    if (groups > ceil_div(s.rows, least))
      return "sums of " + std::to_string(t.rows()) +
             " rows fit, and each reading of the weights should serve " + std::to_string(least);
    const double weights = flops_of(s) / (2.0 * s.rows);
    if (groups == 1 && weights * (s.rows + kReading) > kOneCore)
      return "it would leave all but one core idle";
    return {};
  }
  if (s.rows <= kMatvecRows) return "few rows: products divide the columns of each matrix among workgroups";
  if (t.rows() < kLeastTileRows)
    return "its tiles have " + std::to_string(t.rows()) + " rows, and each reads all weights";
  // Lanes of the tiles of products work faster: they share what they load of the weights.
  const std::uint64_t lanes = lanes_of(s, t) * splits, theirs = product_lanes(products);
  if (lanes < kEnoughLanes && lanes < kFewerLanes * theirs)
    return "it has work for " + std::to_string(lanes) + " lanes, products for " + std::to_string(theirs);
  return {};
}

// The form of `products` that precision mixed lets them have; empty: they are the scalar one.
std::string mixed_form(const FeedForwardChoice& products) {
  constexpr KernelId kScalar[] = {KernelId::matvec, KernelId::matvec_subgroup, KernelId::matmul_lanes,
                                  KernelId::tile, KernelId::quantise_rows};
  for (const Dispatch& d : products.dispatches)
    if (std::ranges::find(kScalar, d.kernel) == std::end(kScalar)) return std::string(kernel(d.kernel).name);
  return {};
}

}  // namespace

Result<FeedForwardChoice> choose_feed_forward(const FeedForwardShape& shape, const Target& target) {
  TSR_CHECK(check(shape, describe(shape)));
  FeedForwardChoice fused, products;
  std::optional<Tile> tile;
  std::string why = cannot_fuse(shape, target, tile);
  const std::uint32_t splits = why.empty() ? splits_of(shape, target, *tile) : 1;
  if (why.empty())
    if (const Result<void> done = use_fused(shape, target, *tile, splits, fused); !done.ok())
      why = done.error().message;
  if (target.form == kFused) {
    if (!why.empty()) return Error{Code::unsupported, describe(shape) + ": " + why};
    return fused;
  }
  const bool asked = takes_products(target);
  const Result<void> can = use_products(shape, target, products);
  if (why.empty() && asked) why = "not asked for";
  if (why.empty() && can.ok()) {
    why = slower(shape, target, *tile, splits, products);
    const std::string form = mixed_form(products);
    if (why.empty() && shape.precision == Precision::mixed && !form.empty())
      why = "it computes in F32, and precision mixed has " + form;
  }
  if (why.empty()) return fused;
  if (!can.ok()) return Error{can.error().code, can.error().message + "; as one kernel: " + why};
  products.refused.push_back({std::string(kFused), std::move(why)});
  return products;
}

}  // namespace tessera
