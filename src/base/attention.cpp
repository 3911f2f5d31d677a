#include "base/attention.h"

#include <algorithm>

namespace tessera {
namespace {

// Of a tensor of `heads` heads of `len` rows of `dim` elements a sequence.
void fill(Strides& strides, bool heads_first, std::uint64_t heads, std::uint64_t len, std::uint64_t dim) {
  if (strides != Strides{}) return;
  if (heads_first)
    strides = {heads * len * dim, len * dim, dim, 1};
  else
    strides = {len * heads * dim, dim, heads * dim, 1};
}

// Sum over x = 1 .. last of min(x, most); 0 below.
std::int64_t sum_to(std::int64_t last, std::int64_t most) {
  if (last <= 0) return 0;
  const std::int64_t rise = std::min(last, most);
  return rise * (rise + 1) / 2 + (last - rise) * most;
}

}  // namespace

void resolve_strides(AttentionAttrs& a) {
  fill(a.q_strides, a.heads_first, a.heads, a.q_len, a.head_dim);
  fill(a.y_strides, a.heads_first, a.heads, a.q_len, a.v_dim);
  const std::uint64_t rows = a.block_size != 0 ? a.block_size : a.kv_len;
  fill(a.k_strides, a.cache || a.heads_first, a.kv_heads, rows, a.head_dim);
  fill(a.v_strides, a.cache || a.heads_first, a.kv_heads, rows, a.v_dim);
}

std::uint32_t score_slots(const AttentionAttrs& a) {
  if (a.scores == AttentionScores::average) return 1;
  return a.score_heads != 0 ? a.score_heads : a.heads - a.score_head;
}

std::uint64_t list_rows(const AttentionAttrs& a) {
  return (std::uint64_t{a.q_len} + a.q_block - 1) / a.q_block;
}
std::uint64_t list_keys(const AttentionAttrs& a) {
  return (std::uint64_t{a.kv_len} + a.k_block - 1) / a.k_block;
}
std::uint64_t list_firsts(const AttentionAttrs& a) {
  return (a.lists_by_batch ? a.batch : 1ull) * (a.lists_by_head ? a.heads : 1) * (list_rows(a) + 1);
}

std::uint64_t relative_entries(const AttentionAttrs& a) {
  if (a.relative == RelativeBias::none) return 0;
  if (a.relative == RelativeBias::distance) return 2 * std::uint64_t{a.relative_size} + 1;
  return (2 * std::uint64_t{a.q_len / a.relative_size} - 1) * (2 * std::uint64_t{a.relative_size} - 1);
}

std::string_view append_epilogue_fault(std::uint64_t head_dim, std::uint64_t v_dim, std::uint64_t rope_dims,
                                       DType cache, Precision precision) {
  if ((head_dim | v_dim | rope_dims) % 4 != 0) return "head_dim, v_dim and rope_dims must be multiples of 4";
  if (precision != Precision::f32) return "precision must be f32";
  if (cache == DType::q8_0) return "its caches must not be Q8_0";
  return {};
}

VisibleKeys visible_keys(const AttentionAttrs& a, std::uint32_t first, std::uint32_t rows) {
  if (rows == 0) return {};
  const std::int64_t keys = a.kv_len, reach = keys + a.q_len;  // more hides nothing
  const std::int64_t centre = first + (a.causal == Causal::bottom_right ? keys - a.q_len : 0);
  const auto cut = [&](std::int64_t row) { return std::clamp<std::int64_t>(row, 0, keys); };
  // Of the first row, before they are cut to [0, keys]; each row's is one further.
  const std::int64_t begin =
      a.window_left == kNoWindow ? -reach - rows : centre - std::min<std::int64_t>(a.window_left, reach);
  const std::int64_t end = a.causal != Causal::none ? centre + 1
                           : a.window_right == kNoWindow
                               ? reach + rows
                               : centre + std::min<std::int64_t>(a.window_right, reach) + 1;
  const auto sum = [&](std::int64_t from, std::int64_t n) {
    return sum_to(from + n - 1, keys) - sum_to(from - 1, keys);
  };
  // Early rows end with the prefix, the first of them where their right window does.
  const std::int64_t prefix = std::min<std::int64_t>(a.causal != Causal::none ? a.prefix_length : 0, keys);
  const std::int64_t early = prefix > 0 ? std::clamp<std::int64_t>(prefix - end, 0, rows) : 0;
  const std::int64_t right = std::min<std::int64_t>(a.window_right, reach);
  const std::int64_t short_of_it = std::clamp<std::int64_t>(prefix - end - right, 0, early);
  const std::int64_t last = end + rows - 1,
                     seen = cut(std::max(last, std::min(prefix, last + right))) - cut(begin);
  return {static_cast<double>(sum(end + right, short_of_it) + (early - short_of_it) * prefix +
                              sum(end + early, rows - early) - sum(begin, rows)),
          static_cast<std::uint64_t>(std::max<std::int64_t>(seen, 0))};
}

}  // namespace tessera
