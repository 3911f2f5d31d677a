// Tiles of attention on matrix units. docs/kernels/attention_matrix.md derives the budgets.
#include <algorithm>
#include <bit>
#include <optional>

#include "interface/attention.h"
#include "kernels/attention_shape.h"
#include "kernels/grid.h"
#include "kernels/loops.h"

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

bool multiplies(const MatrixShape& s, MatrixType c) {
  return s.a == MatrixType::f16 && s.c == c && s.m % 4 == 0 && s.n % 4 == 0 && s.k % 8 == 0;
}

struct Fragments {
  std::uint32_t m, n, k;
  bool half_sums;  // there are f16 accumulators of m x n too
};

// The largest f16 fragments with f32 sums.
std::optional<Fragments> choose_fragments(const Matrices& matrices) {
  const MatrixShape* best = nullptr;
  const auto fits = [](const MatrixShape& s, MatrixType c) {
    return !s.flexible && s.scope == MatrixScope::subgroup && multiplies(s, c);
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

// What a tile costs an element of the score matrix, up to a factor: staging a key serves the rows, rescaling
// the output of a row serves the keys.
double cost_of(std::uint32_t rows, std::uint32_t cols) { return 1.0 / rows + 1.0 / cols; }

// The cheapest tile; of those the one that most lanes share.
std::optional<MatrixTile> choose_matrix_tile(const AttentionShape& s, const Fragments& f,
                                             const Limits& limits) {
  const AttentionAttrs& a = s.attrs;
  const std::uint64_t folded = folded_rows(s);
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
        if (t.shared_bytes(a) > budget) continue;
        const double cost = cost_of(t.rows(), t.cols), least = best ? cost_of(best->rows(), best->cols) : 2;
        if (cost < least || (cost == least && t.group() > best->group())) best = t;
      }
    if (best) return best;
  }
  return std::nullopt;
}

// Words of scores, maxima, sums and output that a lane may hold where matrices are of any size: of 255.
constexpr std::uint32_t kFlexibleWords = 176;
constexpr std::uint32_t kMostRows = 128, kMostBlock = 64;

struct FlexibleTile {
  MatrixShape of;
  std::uint32_t lanes;  // that share a matrix
  std::uint32_t rows, strips, cols, dim_block, v_block, v_pad, dim_pad;
  std::uint64_t words() const { return std::uint64_t{rows} * (3 * cols + v_pad) / lanes; }
  double cost() const { return cost_of(rows * strips, cols); }
  // The shared arrays of lib/attention_matrix.glsl and attention_coopmat2.comp.
  std::uint64_t shared_bytes() const {
    const std::uint64_t all = std::uint64_t{rows} * strips, keys = cols + 8;
    return 2 * ((all + cols) * (dim_pad + 8) + v_pad * keys) + 4 * (all * (v_block + 4 + 6) + cols) + 16;
  }
};

// Blocks of about the same size, as few as may be.
std::uint32_t block_of(std::uint32_t dim, std::uint32_t step, std::uint32_t most) {
  const std::uint64_t blocks =
      ceil_div(round_to(dim, step), std::max(step, std::min(kMostBlock, most) / step * step));
  return round_to(ceil_div(dim, blocks), step);
}

// The tallest tile of one of the device's granularities.
std::optional<FlexibleTile> flexible_tile(const AttentionShape& s, const MatrixShape& of, std::uint32_t cols,
                                          const Target& target, std::uint64_t budget) {
  const AttentionAttrs& a = s.attrs;
  const Limits& limits = target.limits;
  const std::uint32_t most = target.matrices.max_dimension;
  const std::uint64_t folded = folded_rows(s);
  const bool whole = of.scope == MatrixScope::workgroup;
  const std::uint32_t group = std::min(
      {kGroup, std::bit_floor(limits.max_group_invocations), std::bit_floor(limits.max_group_size[0])});
  FlexibleTile t{of, whole ? of.group : limits.min_subgroup_size, of.m, 1, cols, 0, 0, 0, 0};
  if (whole && (of.group > limits.max_group_invocations || of.group > limits.max_group_size[0] ||
                of.group > target.matrices.max_group))
    return std::nullopt;
  if (cols % of.n != 0 || cols % of.k != 0 || std::max(cols, t.rows) > most || t.lanes == 0)
    return std::nullopt;
  t.dim_block = block_of(a.head_dim, of.k, most);
  t.v_block = block_of(a.v_dim, of.n, most);
  t.dim_pad = round_to(a.head_dim, t.dim_block);
  t.v_pad = round_to(a.v_dim, t.v_block);
  const auto fits = [&] { return t.words() <= kFlexibleWords && t.shared_bytes() <= budget; };
  if (!fits() || std::max(t.dim_block, t.v_block) > most) return std::nullopt;
  std::uint32_t& more = whole ? t.rows : t.strips;
  const std::uint32_t limit = whole ? std::min(kMostRows, most) : group / t.lanes;
  while (2 * more <= limit && std::uint64_t{t.rows} * t.strips < folded) {
    more *= 2;
    if (fits()) continue;
    more /= 2;
    break;
  }
  return t;
}

// Matrices of subgroups first: those of workgroups have run on no device yet. Then the cheapest tile.
std::optional<FlexibleTile> choose_flexible_tile(const AttentionShape& s, const Target& target) {
  std::optional<FlexibleTile> best;
  for (const MatrixScope scope : {MatrixScope::subgroup, MatrixScope::workgroup}) {
    if (scope == MatrixScope::subgroup && !target.caps.subgroup_size_control) continue;
    const std::uint32_t all = target.limits.max_shared_bytes;
    const std::uint32_t taken = scope == MatrixScope::workgroup ? target.matrices.reserved_shared : 0;
    const std::uint32_t left = all > taken ? all - taken : 0;
    for (const std::uint32_t budget : {std::min(kMostShared, left), left}) {
      for (const MatrixShape& of : target.matrices.shapes)
        for (const std::uint32_t cols : {64u, 32u, 16u}) {
          if (!of.flexible || of.scope != scope || !multiplies(of, MatrixType::f32)) continue;
          const auto t = flexible_tile(s, of, cols, target, budget);
          if (t && (!best || t->cost() < best->cost())) best = t;
        }
      if (best) return best;
    }
  }
  return std::nullopt;
}

// Why no matrix form can do it; empty when one may.
std::string never_on_matrices(const AttentionShape& s, const Target& target) {
  if (s.attrs.user != nullptr) return "a user's functions are for the forms without matrix units";
  if (s.attrs.precision != Precision::mixed)
    return "precision f32 leaves operands unrounded; f16 ones would be";
  if (s.attrs.score == AttentionScore::additive) return "additive scores are no product of matrices";
  if (!target.caps.coopmat) return "the device lacks coopmat";
  if (!target.caps.fp16) return "the device lacks fp16";
  return target.matrices.emulated;
}

Error refuse(std::string why) { return {Code::unsupported, std::move(why)}; }

Result<Dispatch> matrix_dispatch(const AttentionShape& s, const Target& target, KernelId kernel,
                                 std::uint32_t group, std::uint32_t rows, std::uint32_t keys,
                                 std::initializer_list<std::uint32_t> spec) {
  const AttentionAttrs& a = s.attrs;
  const std::uint64_t tiles = row_tiles(s, rows);
  const std::uint32_t heads = a.heads / folded_heads(s);
  if (tiles > target.limits.max_group_count[0] || heads > target.limits.max_group_count[1] ||
      a.batch > target.limits.max_group_count[2])
    return refuse("more workgroups than maxComputeWorkGroupCount allows");
  Dispatch d;
  d.kernel = kernel;
  d.tile_rows = rows;
  d.tile_keys = keys;
  d.spec = attention_specs(s, group);
  d.spec.insert(d.spec.end(), spec);
  d.params = words_of(attention_params(s, rows, 1));
  d.operands = attention_operands(s);
  d.grid = {static_cast<std::uint32_t>(tiles), heads, a.batch};
  TSR_CHECK(check_loops(d, target.limits, describe(s)));
  count_attention(s, d);
  return d;
}

}  // namespace

Result<Dispatch> choose_attention_coopmat(const AttentionShape& s, const Target& target) {
  if (std::string why = never_on_matrices(s, target); !why.empty()) return refuse(std::move(why));
  if (!target.caps.subgroup_size_control) return refuse("the device lacks subgroup_size_control");
  const auto f = choose_fragments(target.matrices);
  if (!f) return refuse("the device has no fragments of f16 with f32 sums for a subgroup");
  const auto t = choose_matrix_tile(s, *f, target.limits);
  if (!t) return refuse("no tile of these dimensions fits its registers and shared memory");
  TSR_TRY(Dispatch d,
          matrix_dispatch(
              s, target, f->half_sums ? KernelId::attention_coopmat_half : KernelId::attention_coopmat,
              t->group(), t->rows(), t->cols, {f->m, f->n, f->k, t->cols, t->row_groups, t->col_groups, 1}));
  d.subgroup_size = t->subgroup;
  return d;
}

Result<Dispatch> choose_attention_coopmat2(const AttentionShape& s, const Target& target) {
  if (std::string why = never_on_matrices(s, target); !why.empty()) return refuse(std::move(why));
  if (!target.caps.coopmat2) return refuse("the device lacks coopmat2");
  const auto t = choose_flexible_tile(s, target);
  if (!t)
    return refuse("no tile of these dimensions on its flexible matrices fits registers and shared memory");
  const bool whole = t->of.scope == MatrixScope::workgroup;
  TSR_TRY(Dispatch d, matrix_dispatch(s, target, KernelId::attention_coopmat2, t->lanes * t->strips,
                                      t->rows * t->strips, t->cols,
                                      {whole ? shader::kScopeWorkgroup : shader::kScopeSubgroup, t->rows,
                                       t->strips, t->cols, t->dim_block, t->v_block}));
  if (!whole) d.subgroup_size = t->lanes;
  return d;
}

}  // namespace tessera
