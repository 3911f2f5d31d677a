// Tiles of attention on matrix units. docs/kernels/attention_matrix.md derives the budgets.
#include <algorithm>
#include <bit>
#include <optional>

#include "interface/attention.h"
#include "kernels/attention_shape.h"
#include "kernels/grid.h"

namespace tessera {
namespace {

// Invocations of a workgroup: four subgroups of 32, sixteen of 8.
constexpr std::uint32_t kGroup = 128;
// Words of scores and output that a lane may hold. A lane has 255 registers where subgroups are wide, and 128
// where they are narrow (Intel): there 40 words spilled, 24 did not.
constexpr std::uint32_t kWideWords = 96, kNarrowWords = 24, kNarrow = 16;
// Shared memory a workgroup may take while a smaller tile fits: two fit where there is 100 KiB.
constexpr std::uint32_t kMostShared = 48 * 1024;

std::uint32_t round_to(std::uint64_t v, std::uint64_t step) {
  return static_cast<std::uint32_t>(ceil_div(v, step) * step);
}

struct Fragments {
  std::uint32_t m, n, k;
  bool half_sums;  // there are f16 accumulators of m x n too
};

// The largest f16 fragments with f32 sums.
std::optional<Fragments> choose_fragments(const Matrices& matrices) {
  const MatrixShape* best = nullptr;
  const auto fits = [](const MatrixShape& s, MatrixType c) {
    return !s.flexible && s.scope == MatrixScope::subgroup && s.a == MatrixType::f16 && s.c == c &&
           s.m % 4 == 0 && s.n % 4 == 0 && s.k % 8 == 0;
  };
  for (const MatrixShape& s : matrices.shapes)
    if (fits(s, MatrixType::f32) && (!best || s.m * s.n * s.k > best->m * best->n * best->k)) best = &s;
  if (!best) return std::nullopt;
  const bool half = std::any_of(matrices.shapes.begin(), matrices.shapes.end(), [&](const MatrixShape& s) {
    return fits(s, MatrixType::f16) && s.m == best->m && s.n == best->n && s.k == best->k;
  });
  return Fragments{best->m, best->n, best->k, half};
}

struct MatrixTile {
  Fragments f;
  std::uint32_t subgroup, cols, row_groups, col_groups;
  std::uint32_t rows() const { return row_groups * f.m; }
  std::uint32_t group() const { return subgroup * row_groups * col_groups; }
  std::uint32_t v_pad(std::uint32_t v_dim) const { return round_to(v_dim, f.n * col_groups); }
  // Scores, output and sums.
  std::uint32_t words(std::uint32_t v_dim) const {
    return f.m * (cols + v_pad(v_dim)) / (col_groups * subgroup);
  }
  // The shared arrays of lib/attention_matrix.glsl and attention_coopmat.comp.
  std::uint64_t shared_bytes(const AttentionAttrs& a) const {
    const std::uint64_t dim = round_to(a.head_dim, f.k) + 8, keys = cols + 8;
    const std::uint64_t halves = (rows() + cols) * dim + v_pad(a.v_dim) * keys + rows() * keys;
    const std::uint64_t words =
        rows() * (f.n * col_groups + 4) + std::uint64_t{f.m} * f.n + std::uint64_t{rows()} * 6 + cols;
    return 2 * halves + 4 * words + 16;
  }
};

// The tallest tile, and of those the widest: rows are what a staged key serves.
std::optional<MatrixTile> choose_matrix_tile(const AttentionShape& s, const Fragments& f,
                                             const Limits& limits) {
  const AttentionAttrs& a = s.attrs;
  const std::uint64_t folded = std::uint64_t{a.q_len} * (a.heads / a.kv_heads);
  const std::uint32_t subgroup = limits.min_subgroup_size;
  const std::uint32_t most_words = subgroup <= kNarrow ? kNarrowWords : kWideWords;
  const std::uint32_t lanes = std::min(
      {kGroup, std::bit_floor(limits.max_group_invocations), std::bit_floor(limits.max_group_size[0])});
  std::optional<MatrixTile> best;
  for (const std::uint32_t budget :
       {std::min(kMostShared, limits.max_shared_bytes), limits.max_shared_bytes}) {
    for (std::uint32_t cols : {64u, 32u, 16u})
      for (std::uint32_t col_groups = 1; col_groups * subgroup <= lanes; col_groups *= 2) {
        MatrixTile t{f, subgroup, cols, lanes / subgroup / col_groups, col_groups};
        if (cols % (f.n * col_groups) != 0 || cols % f.k != 0 || t.words(a.v_dim) > most_words) continue;
        while (t.row_groups > 1 && (t.rows() / 2 >= folded || t.shared_bytes(a) > budget)) t.row_groups /= 2;
        if (t.shared_bytes(a) <= budget && (!best || t.rows() > best->rows())) best = t;
      }
    if (best) return best;
  }
  return std::nullopt;
}

}  // namespace

Result<Dispatch> choose_attention_coopmat(const AttentionShape& s, const Target& target) {
  const auto refuse = [](const std::string& why) { return Error{Code::unsupported, why}; };
  const AttentionAttrs& a = s.attrs;
  if (a.precision != Precision::mixed)
    return refuse("precision f32 leaves operands unrounded; f16 ones would be");
  if (!target.caps.coopmat) return refuse("the device lacks coopmat");
  if (!target.caps.fp16) return refuse("the device lacks fp16");
  if (!target.caps.subgroup_size_control) return refuse("the device lacks subgroup_size_control");
  if (!target.matrices.emulated.empty()) return refuse(target.matrices.emulated);
  const auto f = choose_fragments(target.matrices);
  if (!f) return refuse("the device has no fragments of f16 with f32 sums for a subgroup");
  const auto t = choose_matrix_tile(s, *f, target.limits);
  if (!t) return refuse("no tile of these dimensions fits its registers and shared memory");
  const std::uint64_t folded = std::uint64_t{a.q_len} * (a.heads / a.kv_heads);
  const std::uint64_t tiles = ceil_div(folded, t->rows());
  if (tiles > target.limits.max_group_count[0] || a.kv_heads > target.limits.max_group_count[1] ||
      a.batch > target.limits.max_group_count[2])
    return refuse("more workgroups than maxComputeWorkGroupCount allows");
  Dispatch d;
  d.kernel = f->half_sums ? KernelId::attention_coopmat_half : KernelId::attention_coopmat;
  d.spec = attention_specs(s, t->group());
  d.spec.insert(d.spec.end(), {f->m, f->n, f->k, t->cols, t->row_groups, t->col_groups, 1});
  d.subgroup_size = t->subgroup;
  d.params = words_of(attention_params(s, tiles));
  d.operands = attention_operands(s);
  d.grid = {static_cast<std::uint32_t>(tiles), a.kv_heads, a.batch};
  count_attention(s, d);
  return d;
}

}  // namespace tessera
