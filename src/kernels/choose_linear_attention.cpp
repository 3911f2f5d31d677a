// docs/kernels/linear_attention.md derives the tiles.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <optional>

#include "interface/linear_attention.h"
#include "kernels/choose.h"
#include "kernels/grid.h"
#include "kernels/loops.h"
#include "kernels/matmul_shape.h"

namespace tessera {
namespace {

using namespace shader;

constexpr std::uint32_t kGroup = 128;    // the floor; shared memory leaves room for few workgroups
constexpr std::uint32_t kChunk = 16;     // pairs of rows cost CHUNK / 2 times what they add to a row's output
constexpr std::uint32_t kMostRows = 4;   // of a lane: vec4 sums it holds
constexpr std::uint32_t kMostCols4 = 8;  // 128 bytes: a cache line
constexpr std::uint32_t kFill = 512;     // workgroups: as choose_attention has it
constexpr std::uint32_t kFillCols4 = 4;  // narrower tiles to reach that: 64 bytes of a row still
constexpr std::uint32_t kMostShared = 48 * 1024;
constexpr std::uint32_t kRowsADispatch = 1024;  // of one workgroup after another: some 1 ms
constexpr std::uint32_t kOutputChunks = 4;      // a workgroup that reads a whole state takes so many

// Software drivers, a lane with vec4 of the state in registers, which are memory: 1 KiB; and as many as
// compile in a second.
constexpr std::uint32_t kMostOwn = 64;
constexpr std::uint32_t kOutputRows = 64;  // for a whole state that is read

std::uint32_t as_u32(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

std::string describe(const LinearAttentionAttrs& a) {
  return "linear attention of " + std::to_string(a.batch) + " x " + std::to_string(a.len) + " rows, " +
         std::to_string(a.heads) + " heads of " + std::to_string(a.k_dim) + " by " + std::to_string(a.v_dim);
}

// What a dispatch does, as flags of the kernel.
std::uint32_t update_flags(const LinearAttentionAttrs& a) {
  return kLinearFlagUpdate | (is_gated(a.rule) ? kLinearFlagGated : 0) |
         (is_gated(a.rule) && a.decay_by_dim ? kLinearFlagDecayByDim : 0) |
         (is_delta(a.rule) ? kLinearFlagDelta : 0) | (a.normalise ? kLinearFlagNormalise : 0);
}
std::uint32_t output_flags(const LinearAttentionAttrs& a) {
  return kLinearFlagOutput | (a.normalise ? kLinearFlagNormalise : 0);
}

struct Tile {
  std::uint32_t group, chunk, rows, cols4, parts;
  bool lanes = false;  // linear_attention_lanes, which has neither chunks nor shared memory
};

// The shared arrays of linear_attention.comp.
std::uint64_t shared_bytes(const LinearAttentionAttrs& a, const Tile& t) {
  const std::uint64_t k4 = ceil_div(a.k_dim, 4), row = t.chunk * (k4 | 1),
                      width4 = t.cols4 + (a.normalise ? 1 : 0);
  const bool by_dim = is_gated(a.rule) && a.decay_by_dim;
  return 16 * (4 * k4 * width4 + row * (by_dim ? 3 : 2) + (by_dim ? 0 : 1) + t.chunk * width4 +
               (t.parts > 1 ? t.group : 1)) +
         std::uint64_t{4} * t.chunk * (t.chunk + 3);
}

// Lanes over the products of a chunk with the state: two rows a lane for a load of the state, more where
// there are too many, else more lanes for a sum.
Tile spread(const LinearAttentionAttrs& a, std::uint32_t group, std::uint32_t chunk, std::uint32_t cols4) {
  Tile t{group, chunk, std::min(2u, chunk), cols4, 1};
  while (t.rows < std::min(kMostRows, chunk) && chunk / t.rows * cols4 > group) t.rows *= 2;
  while (2 * t.parts * (chunk / t.rows) * cols4 <= group && 8 * t.parts <= a.k_dim) t.parts *= 2;
  return t;
}

// As many lanes for a vec4 of columns as have too many rows of the state, or would have no columns.
std::optional<Tile> pick_lanes(const LinearAttentionAttrs& a, const Target& target) {
  if (!takes_lanes(target)) return std::nullopt;
  const std::uint32_t group = target.limits.subgroup_size, v4 = as_u32(ceil_div(a.v_dim, 4));
  std::uint32_t parts = 1;
  while (parts < group && (ceil_div(a.k_dim, parts) > kMostOwn || group / parts > std::bit_ceil(v4)))
    parts *= 2;
  if (ceil_div(a.k_dim, parts) > kMostOwn) return std::nullopt;
  return Tile{group, 1, 1, group / parts, parts, true};
}

class Chooser {
 public:
  Chooser(const LinearAttentionShape& shape, const Target& target)
      : s_(shape),
        a_(shape.attrs),
        limits_(target.limits),
        what_(describe(a_)),
        lanes_(pick_lanes(a_, target)) {}

  Result<CallChoice> run() {
    if (a_.batch == 0 || a_.len == 0 || a_.kv_heads == 0 || a_.heads % a_.kv_heads != 0 || a_.k_dim == 0 ||
        a_.v_dim == 0 || a_.k_dim > kMaxStateRows)
      return Error{Code::invalid_argument, what_ + ": sizes do not fit"};
    const double rows = double(a_.batch) * a_.len;
    if (rows * a_.heads * std::max(a_.k_dim, a_.v_dim) > 0xffffffff ||
        double(a_.batch) * a_.kv_heads * a_.k_dim * a_.v_dim > 0xffffffff)
      return Error{Code::unsupported, what_ + ": 2^32 elements or more"};
    TSR_CHECK(update());
    if (!a_.causal && s_.output) TSR_CHECK(output());
    return std::move(out_);
  }

 private:
  // Rows in order, as many dispatches as take them; each reads the state that the one before it left.
  Result<void> update() {
    const std::uint32_t flags = update_flags(a_) | (a_.causal && s_.output ? kLinearFlagOutput : 0);
    TSR_TRY(const Tile tile, pick(flags, a_.len));
    std::uint32_t rows = std::min(as_u32(ceil_div(kRowsADispatch, tile.chunk)) * tile.chunk, a_.len);
    while (rows > tile.chunk && !ends(tile, flags, rows))
      rows = as_u32(ceil_div(ceil_div(rows, 2), tile.chunk)) * tile.chunk;
    for (std::uint32_t first = 0; first < a_.len; first += rows) {
      const bool last = a_.len - first <= rows;
      TSR_TRY(Dispatch d, dispatch(tile, flags, first, rows, 1));
      connect(d, first == 0, last);
      out_.dispatches.push_back(std::move(d));
      if (last) break;
    }
    return {};
  }

  Result<void> output() {
    const std::uint32_t flags = output_flags(a_);
    TSR_TRY(const Tile tile, pick(flags, a_.len));
    std::uint32_t rows = std::min(tile.lanes ? kOutputRows : tile.chunk * kOutputChunks, a_.len);
    if (!ends(tile, flags, rows)) rows = tile.chunk;
    TSR_TRY(Dispatch d, dispatch(tile, flags, 0, rows, as_u32(ceil_div(a_.len, rows))));
    connect(d, false, false);
    out_.dispatches.push_back(std::move(d));
    return {};
  }

  // The first of the tiles, from large to small, that the device has room for.
  Result<Tile> pick(std::uint32_t flags, std::uint32_t len) const {
    if (lanes_ && ends(*lanes_, flags, 1)) return *lanes_;
    const std::uint32_t group = group_size(kGroup, kGroup, limits_);
    const std::uint32_t v4 = as_u32(ceil_div(a_.v_dim, 4));
    const std::uint64_t columns = std::uint64_t{a_.batch} * a_.kv_heads * v4;
    std::uint32_t widest = std::min(kMostCols4, std::bit_ceil(v4));
    while (widest > kFillCols4 && columns / widest < kFill) widest /= 2;
    std::optional<Tile> most;
    for (std::uint32_t chunk = std::min(kChunk, std::bit_ceil(len)); chunk > 0; chunk /= 2)
      for (std::uint32_t cols4 = widest; cols4 > 0; cols4 /= 2) {
        if (cols4 < std::min(2u, widest) && chunk > 1) continue;  // rows of two vec4 before fewer rows
        most = spread(a_, group, chunk, cols4);
        if (chunk == 1 && shared_bytes(a_, *most) > limits_.max_shared_bytes) most->parts = 1;
        if (shared_bytes(a_, *most) <= std::min(limits_.max_shared_bytes, kMostShared) &&
            ends(*most, flags, chunk))
          return *most;
      }
    if (shared_bytes(a_, *most) > std::min(limits_.max_shared_bytes, kMostShared))
      return Error{Code::unsupported, what_ + ": too little shared memory for any tile"};
    TSR_CHECK(check_loops(*dispatch(*most, flags, 0, 1, 1), limits_, what_));
    return Error{Code::internal, what_ + ": no tile"};
  }

  bool ends(const Tile& tile, std::uint32_t flags, std::uint32_t rows) const {
    return loops_end(shape_of(tile, flags, 0, rows, 1), limits_);
  }

  Dispatch shape_of(const Tile& t, std::uint32_t flags, std::uint32_t first, std::uint32_t rows,
                    std::uint32_t blocks) const {
    const std::uint32_t tiles = as_u32(ceil_div(a_.v_dim, 4 * t.cols4));
    std::uint32_t wide = 0;
    for (const std::uint32_t binding : {kLinearQ, kLinearK, kLinearDecay})
      if (a_.k_dim % 4 == 0) wide |= 1u << binding;
    for (const std::uint32_t binding : {kLinearV, kLinearPast, kLinearY})
      if (a_.v_dim % 4 == 0) wide |= 1u << binding;
    Dispatch d;
    d.kernel = t.lanes ? KernelId::linear_attention_lanes : KernelId::linear_attention;
    d.spec = {t.group, a_.k_dim, t.cols4, t.parts, flags, static_cast<std::uint32_t>(a_.map), wide};
    for (const DType type : {s_.q_type, s_.k_type, s_.v_type, s_.y_type})
      d.spec.push_back(static_cast<std::uint32_t>(type));
    if (!t.lanes) d.spec.insert(d.spec.end(), {t.chunk, t.rows});
    const LinearAttentionPush push{.len = a_.len,
                                   .first = first,
                                   .rows = rows,
                                   .blocks = blocks,
                                   .heads = a_.heads,
                                   .kv_heads = a_.kv_heads,
                                   .v_dim = a_.v_dim,
                                   .tiles = tiles,
                                   .groups = 0,
                                   .has_past = 0,
                                   .has_past_normaliser = 0,
                                   .store_state = 0,
                                   .store_normaliser = 0,
                                   .betas = a_.beta_by_head ? a_.kv_heads : 1,
                                   .key_sequences = a_.shared_keys ? 1 : a_.batch,
                                   .scale = a_.scale,
                                   .epsilon = a_.epsilon,
                                   .groups_x = 1,
                                   .groups_y = 1};
    const auto words = std::bit_cast<std::array<std::uint32_t, sizeof(push) / 4>>(push);
    d.push.assign(words.begin(), words.end());
    return d;
  }

  Result<Dispatch> dispatch(const Tile& t, std::uint32_t flags, std::uint32_t first, std::uint32_t rows,
                            std::uint32_t blocks) const {
    Dispatch d = shape_of(t, flags, first, rows, blocks);
    const std::uint64_t groups =
        std::uint64_t{a_.batch} * a_.kv_heads * blocks * as_u32(ceil_div(a_.v_dim, 4 * t.cols4));
    TSR_TRY(d.grid, fold_grid(groups, limits_, what_));
    set(d, offsetof(LinearAttentionPush, groups), as_u32(groups));
    set(d, offsetof(LinearAttentionPush, groups_x), d.grid[0]);
    set(d, offsetof(LinearAttentionPush, groups_y), d.grid[1]);
    const double all = double(a_.batch) * std::min(a_.len - first, rows * blocks);
    const double state = double(a_.k_dim) * a_.v_dim;
    const bool update = (flags & kLinearFlagUpdate) != 0, output = (flags & kLinearFlagOutput) != 0;
    d.flops = all * 2 * state *
              ((update ? (is_delta(a_.rule) ? 2 : 1) * a_.kv_heads : 0) + (output ? a_.heads : 0));
    d.bytes =
        all *
            (update ? double(a_.kv_heads) * (a_.k_dim * bytes(s_.k_type) + a_.v_dim * bytes(s_.v_type)) : 0) +
        all * (output ? double(a_.heads) * (a_.k_dim * bytes(s_.q_type) + a_.v_dim * bytes(s_.y_type)) : 0) +
        4 * state * a_.batch * a_.kv_heads * (update ? 2 : 1);
    return d;
  }

  static double bytes(DType type) { return static_cast<double>(info(type).block_bytes); }
  static void set(Dispatch& d, std::size_t offset, std::uint32_t value) { d.push[offset / 4] = value; }

  // Where the dispatch has the state and the normaliser from, and where it leaves them. `last`: to update
  // them.
  void connect(Dispatch& d, bool first, bool last) {
    d.operands = {kLinearQ,    kLinearK,   kLinearV, kNoOperand, kLinearDecay,
                  kLinearBeta, kNoOperand, kLinearY, kNoOperand, kNoOperand};
    bind(d, kLinearPast, first ? given(s_.past, kLinearPast) : state_,
         offsetof(LinearAttentionPush, has_past));
    bind(d, kLinearPastNormaliser, first ? given(s_.past_normaliser, kLinearPastNormaliser) : normaliser_,
         offsetof(LinearAttentionPush, has_past_normaliser));
    if ((d.spec[kLinearSpecFlags] & kLinearFlagUpdate) == 0) return;
    const bool read_again = !last || (!a_.causal && s_.output);
    const std::uint64_t rows = std::uint64_t{4} * a_.batch * a_.kv_heads * a_.k_dim;
    if (s_.present)
      state_ = kLinearPresent;
    else if (read_again && state_ == kNoOperand)
      state_ = scratch(rows * a_.v_dim);
    bind(d, kLinearPresent, state_, offsetof(LinearAttentionPush, store_state));
    if (!a_.normalise) return;
    // Read by all tiles of a head and written by one: never the same.
    if (last && s_.normaliser)
      normaliser_ = kLinearNormaliser;
    else
      normaliser_ = read_again ? scratch(rows) : kNoOperand;
    bind(d, kLinearNormaliser, normaliser_, offsetof(LinearAttentionPush, store_normaliser));
  }

  static OperandIndex given(bool present, std::uint32_t operand) {
    return present ? static_cast<OperandIndex>(operand) : kNoOperand;
  }
  static void bind(Dispatch& d, std::uint32_t binding, OperandIndex operand, std::size_t flag) {
    d.operands[binding] = operand;
    set(d, flag, operand != kNoOperand);
  }

  OperandIndex scratch(std::uint64_t bytes) {
    out_.scratch.push_back(bytes);
    return static_cast<OperandIndex>(kScratchOperand + out_.scratch.size() - 1);
  }

  const LinearAttentionShape& s_;
  const LinearAttentionAttrs& a_;
  const Limits& limits_;
  std::string what_;
  std::optional<Tile> lanes_;
  CallChoice out_;
  OperandIndex state_ = kNoOperand, normaliser_ = kNoOperand;  // that the dispatch before wrote
};

}  // namespace

Result<CallChoice> choose_linear_attention(const LinearAttentionShape& shape, const Target& target) {
  return Chooser(shape, target).run();
}

}  // namespace tessera
