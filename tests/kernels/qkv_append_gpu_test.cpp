// q, k and v of rows in one product, turned and appended in its epilogue, against the slow rope and cache.
#include <set>

#include "graph/graph.h"
#include "kernels/rope_fixture.h"
#include "support/pairwise.h"
#include "support/refusal.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

// Windows of columns that a product is cut into.
enum class Cuts {
  none,
  in_heads,  // 4 columns behind the start of q's last head, and 4 before the border of k and v
  at_v,      // that border, and 4 columns behind it
};

struct QkvCase {
  Case where;
  DType type = DType::f32;
  std::uint32_t k = 32;
  bool bias = false, norm = false;
  Cuts cuts = Cuts::none;
};

// Columns that windows start at, then the end of the last.
std::vector<std::uint32_t> borders(const QkvCase& c) {
  const RopeAppendShape& s = c.where.shape;
  const std::uint32_t turned = (s.heads + s.kv_heads) * s.head_dim;
  std::set<std::uint32_t> at{0, turned + s.kv_heads * s.v_dim};
  if (c.cuts == Cuts::in_heads) at.insert({(s.heads - 1) * s.head_dim + 4, turned - 4});
  if (c.cuts == Cuts::at_v) at.insert({turned, turned + 4});
  return {at.begin(), at.end()};
}

class QkvAppend : public RopeGpu {
 protected:
  // x w^T + bias of a row, in the order of elements.
  static std::vector<Turned> products(const QkvCase& c, const float* x, const TestWeights& w,
                                      const std::vector<float>& bias, const std::vector<float>& norm) {
    const RopeAppendShape& s = c.where.shape;
    const std::uint32_t turned = (s.heads + s.kv_heads) * s.head_dim, n = turned + s.kv_heads * s.v_dim;
    const RowOrder order{s.head_dim, s.adjacent ? 0 : s.rope_dims};
    double squares = 0;
    for (std::uint32_t i = 0; i < c.k; ++i) squares += double(x[i]) * x[i];
    const double factor = 1 / std::sqrt(squares / c.k + kEps);
    std::vector<Turned> out(n);
    for (std::uint32_t col = 0; col < n; ++col) {
      double value = 0, magnitude = 0;
      for (std::uint32_t i = 0; i < c.k; ++i) {
        const double term = (c.norm ? factor * norm[i] : 1) * x[i] * w.values[std::size_t{col} * c.k + i];
        value += term;
        magnitude += std::abs(term);
      }
      if (c.bias) value += bias[col], magnitude += std::abs(bias[col]);
      const double steps = c.norm ? 1.5 * c.k + 28 : c.k + 8;
      out[col < turned ? order.source(col) : col] = {value, steps * 0x1p-24 * magnitude};
    }
    return out;
  }

  // Element d of a head, turned; off by what its products are off too.
  static Turned turned_of(const RopeAppendShape& s, const std::vector<float>& table, const Turned* x,
                          std::uint32_t d, std::uint32_t position) {
    if (d >= s.rope_dims) return x[d];
    const std::uint32_t half = s.rope_dims / 2, pair = s.adjacent ? d / 2 : d % half;
    const bool first = s.adjacent ? d % 2 == 0 : d < half;
    const std::uint32_t other = s.adjacent ? d ^ 1u : (first ? d + half : d - half);
    const double c = table[(std::size_t{position} * half + pair) * 2];
    const double sine = table[(std::size_t{position} * half + pair) * 2 + 1];
    const double a = x[d].value * c, b = (first ? -1 : 1) * x[other].value * sine;
    return {a + b, 2 * 0x1p-23 * (std::abs(a) + std::abs(b)) +
                       1.001 * (std::abs(c) * x[d].bound + std::abs(sine) * x[other].bound)};
  }

  // A dispatch for each window, with its rows of the weights.
  void run(const QkvCase& c, const Target& target, const Bytes& weights, std::vector<Bytes*> operands) {
    const RopeAppendShape& s = c.where.shape;
    const auto row_bytes = static_cast<std::ptrdiff_t>(device_row_bytes(c.type, c.k));
    const std::vector<std::uint32_t> at = borders(c);
    for (std::size_t i = 0; i + 1 < at.size(); ++i) {
      const QkvShape shape{.product = {.rows = s.batch * s.rows,
                                       .n = at[i + 1] - at[i],
                                       .k = c.k,
                                       .first = at[i],
                                       .dynamic_rows = s.batch == 1,
                                       .type = c.type,
                                       .bias = c.bias,
                                       .norm = c.norm,
                                       .eps = kEps},
                           .append = s};
      const auto dispatch = choose_qkv_append(shape, target);
      ASSERT_TRUE(dispatch) << dispatch.error().message;
      Bytes window(weights.begin() + at[i] * row_bytes, weights.begin() + at[i + 1] * row_bytes);
      operands[1] = &window;
      ASSERT_TRUE(run_call(*device_, {*dispatch}, {}, operands));
    }
  }

  void check(QkvCase c, const Target& target) {
    Case& where = c.where;
    RopeAppendShape& s = where.shape;
    if (where.live == 0) where.live = s.rows;
    if (s.v_dim == 0) s.v_dim = s.head_dim;
    if (s.table_rows == 0) s.table_rows = s.context;
    const std::uint32_t turns = s.heads + s.kv_heads, width = turns * s.head_dim + s.kv_heads * s.v_dim;
    const std::string what = describe(where) + ", k " + std::to_string(c.k) + " " +
                             std::string(info(c.type).name) + (c.bias ? " bias" : "") +
                             (c.norm ? " norm" : "") + ", windows at " + testing::PrintToString(borders(c));
    SCOPED_TRACE(what);
    TestWeights w = make_weights(c.type, width, c.k, 3);
    const std::vector<float> x = random_floats(std::size_t{s.batch} * s.rows * c.k, 1 + c.k),
                             bias = random_floats(width, 5), norm = random_floats(c.k, 6, 2),
                             table = angles(s.table_rows, s.rope_dims);
    Bytes in = to_bytes(x), bias_bytes = to_bytes(bias), norm_bytes = to_bytes(norm),
          table_bytes = to_bytes(table), state = state_bytes(where.position, where.live);
    SlowCache k(where, s.head_dim), v(where, s.v_dim);
    Bytes q = poisoned(std::size_t{s.batch} * s.rows * s.heads * s.head_dim), k_bytes = k.before(),
          v_bytes = v.before(), blocks = blocks_of(where);
    ASSERT_NO_FATAL_FAILURE(run(c, target, w.device,
                                {&in, nullptr, nullptr, &bias_bytes, nullptr, &q, &state, nullptr,
                                 &norm_bytes, &table_bytes, &k_bytes, &v_bytes, &blocks}));
    const std::vector<float> q_out = from_bytes<float>(q);
    for (std::uint32_t b = 0; b < s.batch; ++b)
      for (std::uint32_t row = 0; row < s.rows; ++row) {
        const std::uint64_t position = std::uint64_t{where.position} + row;
        const bool there = row < where.live && position < s.table_rows && (s.ring || position < s.context);
        std::vector<Turned> from;
        if (there) from = products(c, &x[std::size_t{b * s.rows + row} * c.k], w, bias, norm);
        for (std::uint32_t h = 0; h < turns; ++h) {
          std::vector<Turned> head;
          for (std::uint32_t d = 0; d < s.head_dim && there; ++d)
            head.push_back(turned_of(s, table, &from[h * s.head_dim], d, where.position + row));
          if (h < s.heads) {
            ASSERT_NO_FATAL_FAILURE(check_q_head(s, q_out, b * s.rows + row, h, head, what));
          }
          if (there && h >= s.heads) k.append(b, row, h - s.heads, std::move(head));
        }
        for (std::uint32_t h = 0; h < s.kv_heads && there; ++h) {
          const auto first = from.begin() + turns * s.head_dim + h * s.v_dim;
          v.append(b, row, h, {first, first + s.v_dim});
        }
      }
    ASSERT_NO_FATAL_FAILURE(k.check(k_bytes, "k"));
    ASSERT_NO_FATAL_FAILURE(v.check(v_bytes, "v"));
  }

  // In the form that the device gets; on a software driver in the one for GPUs too.
  void check(const QkvCase& c) {
    Target target = target_of(*device_);
    check(c, target);
    if (!target.caps.software || HasFatalFailure()) return;
    target.caps.software = false;
    check(c, target);
  }

  static constexpr float kEps = 1e-5f;
};

// Every type of cache and pairing, of whole and of partly turned heads, with every number of rows, normalised
// or not; of all else every two options.
TEST_F(QkvAppend, EveryCacheTypeAndBothPairings) {
  const DType types[] = {DType::f32, DType::f16, DType::bf16};
  const std::uint32_t rows[] = {1, 3, 7, 21}, dims[] = {4, 8, 20, 64};
  const std::uint32_t heads[][2] = {{1, 1}, {4, 2}, {3, 3}, {6, 2}};
  const std::vector<std::size_t> levels{12, 7, std::size(dims), std::size(heads), 3, 3, 2, 2};
  Sweep sweep;
  for (const std::vector<std::size_t>& o : pairwise(levels)) {
    if (!sweep.next()) continue;
    const std::uint32_t r = rows[o[1] % 4], dim = dims[o[2]];
    const std::uint32_t positions[] = {0, 13, 40 - r};
    const std::uint32_t rope_dims = o[0] / 6 == 0 ? dim : std::max(4u, dim / 8 * 4);
    QkvCase c{
        {shape_of(r, heads[o[3]][0], heads[o[3]][1], dim, rope_dims, o[0] % 2 == 0, types[o[0] / 2 % 3]),
         positions[o[4]]}};
    c.norm = o[1] >= 4;  // of 1, 3 and 7 rows
    c.cuts = static_cast<Cuts>(o[5]);
    c.bias = o[6] != 0;
    c.k = o[7] != 0 ? 37 : 64;
    check(c);
    if (HasFatalFailure()) return;
  }
}

TEST_F(QkvAppend, EveryTypeOfWeights) {
  Sweep sweep;
  std::uint32_t few = 5;  // and 1 in turn
  for (DType type : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                     DType::q4_k, DType::q5_k, DType::q6_k}) {
    few = 6 - few;
    for (std::uint32_t rows : {few, 40u}) {
      if (!sweep.next()) continue;
      QkvCase c{{shape_of(rows, 4, 2, 16, 16, rows == 5, DType::f16, 64), 3}};
      c.type = type;
      c.k = std::max(info(type).block_elems, 32u) * 2;
      c.norm = rows == 5;
      if (rows != 1) c.cuts = rows == 5 ? Cuts::in_heads : Cuts::at_v;
      check(c);
    }
  }
}

TEST_F(QkvAppend, FewerRowsAndTheEndOfTheContext) {
  for (std::uint32_t rows : {9u, 70u}) {
    check({{shape_of(rows, 4, 2, 8, 4, false, DType::f16, 100), 3, 4}});
    for (std::uint32_t position : {95u, 100u, 0xfffffff0u})
      check({{shape_of(rows, 4, 2, 8, 8, true, DType::f32, 100), position, rows}});
  }
}

TEST_F(QkvAppend, RingsBlocksAndBatches) {
  for (std::uint32_t rows : {1u, 6u}) {
    RopeAppendShape ring = shape_of(rows, 4, 2, 8, 8, false, DType::f16, 16);
    ring.ring = true;
    ring.table_rows = 100;
    check({.where = {ring, 29, rows}, .cuts = Cuts::in_heads});
    RopeAppendShape batch = shape_of(rows, 2, 1, 8, 8, true, DType::f32, 20);
    batch.batch = 3;
    batch.v_dim = 12;
    check({.where = {batch, 7, rows}, .cuts = Cuts::at_v});
    RopeAppendShape paged = shape_of(rows, 2, 1, 8, 8, false, DType::bf16, 16);
    paged.batch = 2;
    paged.block_size = 4;
    paged.blocks = 9;
    check({{paged, 3, rows, {8, 2, 4, 6, 0, 1, 77, 3}}});
  }
}

TEST_F(QkvAppend, SmallDevices) {
  Target small = target_of(*device_);
  small.caps.software = small.caps.subgroup_arithmetic = false;
  for (std::uint32_t most : {64u, 16u, 4u}) {
    small.limits.max_group_invocations = std::min(small.limits.max_group_invocations, most);
    check({{shape_of(37, 3, 1, 12, 8, false, DType::f16, 64), 5}}, small);
  }
}

TEST_F(QkvAppend, Refusals) {
  const Target target = target_of(*device_);
  const auto shape = [](std::uint32_t dim, std::uint32_t rope_dims, DType type) {
    const RopeAppendShape s = shape_of(1, 2, 1, dim, rope_dims, true, type);
    return QkvShape{.product = {.n = 4 * dim, .k = 8}, .append = s};
  };
  expect_refused(choose_qkv_append(shape(6, 4, DType::f32), target), Code::unsupported, {"multiples of 4"});
  expect_refused(choose_qkv_append(shape(8, 6, DType::f32), target), Code::unsupported, {"multiples of 4"});
  expect_refused(choose_qkv_append(shape(32, 32, DType::q8_0), target), Code::unsupported, {"Q8_0"});

  using Change = void (*)(QkvShape&);
  const auto refused = [&](Code code, const char* word, Change change) {
    QkvShape s = shape(8, 8, DType::f32);
    ASSERT_TRUE(choose_qkv_append(s, target));
    change(s);
    expect_refused(choose_qkv_append(s, target), code, {word});
  };
  for (const Change change : {
           Change([](QkvShape& s) { s.product.gated = true; }),
           Change([](QkvShape& s) { s.product.residual = true; }),
           Change([](QkvShape& s) { s.product.act = 1; }),
           Change([](QkvShape& s) { s.product.scale = 2; }),
           Change([](QkvShape& s) { s.product.batch = 2; }),
           Change([](QkvShape& s) { s.product.y_type = DType::f16; }),
           Change([](QkvShape& s) { s.product.rows = 2; }),
           Change([](QkvShape& s) { s.append.rows = 2; }),
           Change([](QkvShape& s) { s.append.batch = 3; }),
       })
    refused(Code::invalid_argument, "only F32 rows of q, k and v", change);
  refused(Code::unsupported, "fours", [](QkvShape& s) { s.product.first = 2, s.product.n = 24; });
  refused(Code::unsupported, "fours", [](QkvShape& s) { s.product.n = 30; });
  refused(Code::unsupported, "multiples of 4", [](QkvShape& s) { s.append.v_dim = 6; });
  refused(Code::unsupported, "f32", [](QkvShape& s) { s.product.precision = Precision::mixed; });
  refused(Code::invalid_argument, "columns from 4 on", [](QkvShape& s) { s.product.first = 4; });
  refused(Code::unsupported, "few rows of F32", [](QkvShape& s) {
    s.product.norm = true;
    s.product.rows = s.append.rows = kMatmulFewRows + 1;
  });
  refused(Code::unsupported, "few rows of F32", [](QkvShape& s) {
    s.product.norm = true;
    s.product.x_type = DType::f16;
  });
}

}  // namespace
}  // namespace tessera::test
