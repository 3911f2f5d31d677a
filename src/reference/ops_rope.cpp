// rope, kv_append, rope_append, qkv_append.
#include <algorithm>
#include <cmath>

#include "graph/kv_cache.h"
#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

struct Exact {
  double value;
  double error;
};

// One head turned by its position's angles. `table`: (rope_dims/2, 2), cos and sin.
std::vector<Exact> rotate(std::span<const Exact> x, std::span<const float> table, const OpAttrs& attrs) {
  std::vector<Exact> out(x.begin(), x.end());
  const std::size_t half = attrs.rope_dims / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const std::size_t first = attrs.rope_adjacent ? 2 * i : i;
    const std::size_t second = attrs.rope_adjacent ? 2 * i + 1 : i + half;
    const double a = x[first].value, b = x[second].value, c = table[2 * i], s = table[2 * i + 1];
    const double flush = bounds::kFlush * (3 + std::fabs(a) + std::fabs(b));
    // Of an operand that is off by e, its product by e |c| and an ulp of that more.
    const auto error = [&](double p, double q, double of_p, double of_q) {
      return bounds::kRopeUlps * bounds::kUlp * (std::fabs(p) + std::fabs(q)) + flush +
             (1 + 2 * bounds::kUlp) * (std::fabs(of_p) + std::fabs(of_q));
    };
    const double of_a = x[first].error, of_b = x[second].error;
    out[first] = {a * c - b * s, error(a * c, b * s, of_a * c, of_b * s)};
    out[second] = {a * s + b * c, error(a * s, b * c, of_a * s, of_b * c)};
  }
  return out;
}

// Elements as they are stored; copies of them may be flushed.
std::vector<Exact> untouched(std::span<const float> x) {
  std::vector<Exact> out;
  for (float e : x) out.push_back({e, std::fabs(e) < bounds::kFlush ? std::fabs(e) : 0});
  return out;
}

std::vector<Exact> rotate(std::span<const float> x, std::span<const float> table, const OpAttrs& attrs) {
  return rotate(untouched(x), table, attrs);
}

// What these ops share: sequences of rows, and where heads begin in an operand.
struct Pass {
  const OpCall& call;
  SequenceRows sequences;
  std::uint64_t live = 0;  // rows of every sequence that the pass has
  std::uint64_t position = 0;
  std::vector<float> x;

  explicit Pass(const OpCall& c, bool state)
      : call(c), sequences(sequence_rows(c.program, c.op)), live(sequences.rows) {
    if (state) position = call.state.position;
    if (state || call.value(call.in(0)).dynamic_rows) live = std::min<std::uint64_t>(live, call.state.rows);
    x = call.tensors.floats(call.in(0), 0, call.value(call.in(0)).elems());
  }
  Result<void> fits(std::uint64_t context) const {
    if (position + live <= context) return {};
    return call.error(Code::invalid_argument, "position " + std::to_string(position) + " and " +
                                                  std::to_string(live) + " rows exceed the context of " +
                                                  std::to_string(context));
  }
  // `use(sequence, row)` for every row that the pass has.
  template <typename Use>
  Result<void> for_rows(const Use& use) const {
    for (std::uint64_t b = 0; b < sequences.batch; ++b)
      for (std::uint64_t row = 0; row < live; ++row) TSR_CHECK(use(b, row));
    return {};
  }
  std::span<const float> head(std::uint64_t at, std::uint64_t dim) const {
    return std::span(x).subspan(at, dim);
  }
  // The row of the table (context, rope_dims/2, 2), a constant, for a row of the pass.
  std::vector<float> angles(std::uint64_t b, std::uint64_t row, std::size_t table = 1) const {
    const std::uint64_t dims = call.op.attrs.rope_dims;
    const std::uint64_t at = call.op.attrs.table_by_row ? b * sequences.rows + row : position + row;
    return call.tensors.floats(call.in(table), at * dims, dims);
  }
};

std::uint64_t at(const Strides& s, std::uint64_t b, std::uint64_t head, std::uint64_t row) {
  return b * s[0] + head * s[1] + row * s[2];
}

void put_head(const OpCall& call, ReferenceOutput& out, std::uint64_t first, std::span<const Exact> head) {
  for (const Exact& e : head) {
    out.elements.push_back(first++);
    put(call, out, e.value, e.error);
  }
}

// A cache that a pass appends to.
class Cache {
 public:
  Cache(const Pass& pass, ValueId cache, ValueId table)
      : pass_(pass),
        form_(cache_form(pass.call.program, cache, table, pass.call.op.attrs.attention.ring)),
        table_(table),
        out_{.value = cache} {}

  Result<void> fits() const { return form_.ring ? pass_.fits(0xffffffffu) : pass_.fits(form_.capacity()); }

  Result<void> append(std::uint64_t b, std::uint64_t row, std::uint64_t head, std::span<const Exact> x) {
    std::uint64_t key = pass_.position + row, block = b;
    if (form_.ring) key %= form_.capacity();
    if (form_.paged()) {
      block = pass_.call.tensors.word(table_, b * form_.table_stride + key / form_.slots);
      if (block >= form_.blocks) return no_block(b, key / form_.slots, block);
    }
    const std::uint64_t first = form_.row(block, head, key % form_.slots) * form_.dim;
    if (pass_.call.value(out_.value).dtype == DType::q8_0)
      append_q8_0(first, x);
    else
      put_head(pass_.call, out_, first, x);
    return {};
  }

  ReferenceOutput take() { return std::move(out_); }

 private:
  Error no_block(std::uint64_t b, std::uint64_t entry, std::uint64_t block) const {
    const OpCall& call = pass_.call;
    return call.error(Code::invalid_argument,
                      "entry [" + std::to_string(b) + "," + std::to_string(entry) + "] of block table '" +
                          call.value(table_).name + "' is " + std::to_string(block) + ", but cache '" +
                          call.value(out_.value).name + "' has " + std::to_string(form_.blocks) + " blocks");
  }

  void append_q8_0(std::uint64_t first, std::span<const Exact> x) {
    constexpr std::size_t kBlock = 32;
    std::array<double, kBlock> values{}, errors{};
    for (std::size_t i = 0; i < x.size(); i += kBlock) {
      for (std::size_t e = 0; e < kBlock; ++e) {
        values[e] = x[i + e].value;
        errors[e] = x[i + e].error;
      }
      const bounds::Q8Block block = bounds::stored_q8_0(values, errors);
      for (std::size_t e = 0; e < kBlock; ++e) {
        out_.elements.push_back(first + i + e);
        out_.expected.push_back(block.expected[e]);
        if (pass_.call.bounds) out_.bound.push_back(block.bound[e]);
      }
    }
  }

  const Pass& pass_;
  CacheForm form_;
  ValueId table_;
  ReferenceOutput out_;
};

// rope_append of rows of q, k and v. Operands from `table` on: table, state, caches, block table.
// head_at(first, n, turns): n elements of those rows from element `first` on, a head of q or k when it turns.
template <typename HeadAt>
Result<Outputs> turn_and_append(const Pass& pass, std::size_t table, const HeadAt& head_at) {
  const OpCall& call = pass.call;
  const OpAttrs& attrs = call.op.attrs;
  const std::uint64_t dim = attrs.head_dim, v_dim = attrs.attention.v_dim ? attrs.attention.v_dim : dim;
  const std::uint64_t turned = std::uint64_t{attrs.heads} + attrs.kv_heads;
  const std::uint64_t width = turned * dim + attrs.kv_heads * v_dim;
  const ValueId blocks = call.in(table + 4);
  ReferenceOutput q{.value = call.out(0)};
  Cache k(pass, call.out(1), blocks), v(pass, call.out(2), blocks);
  TSR_CHECK(pass.fits(call.value(call.in(table)).shape[0]));
  TSR_CHECK(k.fits());
  const auto one_row = [&](std::uint64_t b, std::uint64_t row) -> Result<void> {
    const std::vector<float> angles = pass.angles(b, row, table);
    const std::uint64_t r = b * pass.sequences.rows + row, first = r * width;
    for (std::uint64_t head = 0; head < turned; ++head) {
      const std::vector<Exact> x = rotate(head_at(first + head * dim, dim, true), angles, attrs);
      if (head < attrs.heads)
        put_head(call, q, (r * attrs.heads + head) * dim, x);
      else
        TSR_CHECK(k.append(b, row, head - attrs.heads, x));
    }
    for (std::uint64_t head = 0; head < attrs.kv_heads; ++head)
      TSR_CHECK(v.append(b, row, head, head_at(first + turned * dim + head * v_dim, v_dim, false)));
    return {};
  };
  TSR_CHECK(pass.for_rows(one_row));
  return Outputs{std::move(q), k.take(), v.take()};
}

}  // namespace

Result<Outputs> run_rope(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const Pass pass(call, call.in(2) != kNoValue && !attrs.table_by_row);
  const Strides from = head_strides(attrs.attention, attrs.attention.q_strides, pass.sequences.rows,
                                    attrs.heads, attrs.head_dim);
  const Strides to = head_strides(attrs.attention, attrs.attention.y_strides, pass.sequences.rows,
                                  attrs.heads, attrs.head_dim);
  if (!attrs.table_by_row) TSR_CHECK(pass.fits(call.value(call.in(1)).shape[0]));
  ReferenceOutput y{.value = call.out(0)};
  const auto one_row = [&](std::uint64_t b, std::uint64_t row) -> Result<void> {
    const std::vector<float> table = pass.angles(b, row);
    for (std::uint64_t head = 0; head < attrs.heads; ++head)
      put_head(call, y, at(to, b, head, row),
               rotate(pass.head(at(from, b, head, row), attrs.head_dim), table, attrs));
    return {};
  };
  TSR_CHECK(pass.for_rows(one_row));
  return Outputs{std::move(y)};
}

Result<Outputs> run_kv_append(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  const Pass pass(call, true);
  const Strides from = head_strides(attrs.attention, attrs.attention.q_strides, pass.sequences.rows,
                                    attrs.kv_heads, attrs.head_dim);
  Cache cache(pass, call.out(0), call.in(3));
  TSR_CHECK(cache.fits());
  const auto one_row = [&](std::uint64_t b, std::uint64_t row) -> Result<void> {
    for (std::uint64_t head = 0; head < attrs.kv_heads; ++head)
      TSR_CHECK(cache.append(b, row, head, untouched(pass.head(at(from, b, head, row), attrs.head_dim))));
    return {};
  };
  TSR_CHECK(pass.for_rows(one_row));
  return Outputs{cache.take()};
}

Result<Outputs> run_rope_append(const OpCall& call) {
  const Pass pass(call, true);
  return turn_and_append(
      pass, 1, [&](std::uint64_t first, std::uint64_t n, bool) { return untouched(pass.head(first, n)); });
}

Result<Outputs> run_qkv_append(const OpCall& call) {
  const OpAttrs& attrs = call.op.attrs;
  TSR_TRY(const std::vector<float> bias, call.vector_of(2));
  TSR_TRY(const ProductRows x, product_rows(call, 0, 3));
  TSR_TRY(const Product product, multiply(call, x, {.weight = call.in(1), .bias = bias}));
  const RowOrder order{attrs.head_dim, attrs.rope_adjacent ? 0 : attrs.rope_dims};
  const auto head_at = [&](std::uint64_t first, std::uint64_t n, bool turns) {
    std::vector<Exact> head(n);
    for (std::uint64_t i = 0; i < n; ++i)
      head[turns ? order.source(i) : i] = {product.value[first + i],
                                           call.bounds ? product.error[first + i] : 0};
    return head;
  };
  return turn_and_append(Pass(call, true), 4, head_at);
}

}  // namespace tessera
