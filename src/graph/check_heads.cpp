#include "base/cache_row.h"
#include "graph/check.h"
#include "graph/kv_cache.h"

namespace tessera {
namespace {

// Ops on heads in rows and on the caches they go to.
class HeadsChecker : OpCheck {
 public:
  HeadsChecker(const Program& program, const Graph& graph, const Op& op) : OpCheck(program, graph, op) {}

  std::string run() {
    switch (op_.kind) {
      case OpKind::rope: rope(); break;
      case OpKind::kv_append: kv_append(); break;
      case OpKind::rope_append: rope_append(); break;
      default: qkv_append(); break;
    }
    return error_;
  }

 private:
  bool head_attrs(bool heads, bool kv_heads, bool rope) {
    const OpAttrs& a = op_.attrs;
    if (a.head_dim == 0) reject("head_dim is 0");
    if (heads && a.heads == 0) reject("heads is 0");
    if (kv_heads && a.kv_heads == 0) reject("kv_heads is 0");
    if (rope && (a.rope_dims == 0 || a.rope_dims % 2 != 0 || a.rope_dims > a.head_dim))
      reject("rope_dims must be even, at least 2 and at most head_dim");
    return error_.empty();
  }

  void rope_table(ValueId id) {
    expect_rank(id, 3);
    if (error_.empty()) expect(id, {value(id).shape[0], op_.attrs.rope_dims / 2, 2});
    if (value(id).storage != Storage::constant) reject("value " + value(id).name + " must be a constant");
  }

  // Rows of x in sequences: `batch` of them, and dynamic only when there is one.
  SequenceRows sequences(bool needs_state) {
    const AttentionAttrs& a = op_.attrs.attention;
    const Value& x = in(0);
    const SequenceRows s = sequence_rows(program_, op_);
    if (a.batch == 0) reject("batch is 0");
    if (s.rows == 0 || (!has_strides(a.q_strides) && !a.heads_first && x.shape[0] % s.batch != 0))
      reject("value " + x.name + " " + print_shape(x) + " does not hold " + std::to_string(s.batch) +
             " sequences of the same length");
    if (a.q_len != s.rows && (a.q_len != 1 || s.batch > 1))
      reject("q_len is " + std::to_string(a.q_len) + ", but value " + x.name + " has " +
             std::to_string(s.rows) + " rows a sequence");
    if (s.batch > 1 && x.dynamic_rows)
      reject("value " + x.name + " has dynamic rows, which a batch of sequences must not");
    if (needs_state && s.batch == 1 && s.rows != graph_.max_rows)
      reject("value " + x.name + " has " + std::to_string(s.rows) + " rows, but the graph's max_rows is " +
             std::to_string(graph_.max_rows));
    return s;
  }

  // An activation or output of heads in rows: two dimensions, or four when heads_first, or whatever holds
  // what `given` strides reach.
  void expect_heads(ValueId id, const SequenceRows& s, std::uint64_t heads, std::uint64_t dim,
                    const Strides& given) {
    const Value& v = value(id);
    if (v.storage != Storage::activation && v.storage != Storage::output)
      reject("value " + v.name + " must be an activation or an output");
    if (v.dtype != DType::f32)
      reject("value " + v.name + " is " + std::string(info(v.dtype).name) + ", expected F32");
    if (has_strides(given)) {
      const std::uint64_t extent[] = {s.batch, heads, s.rows, dim};
      std::uint64_t last = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        if (extent[i] > 1 && given[i] > v.elems()) return reject("strides of value " + v.name + " leave it");
        last += (extent[i] - 1) * given[i];
        if (id == op_.out[0] && extent[i] > 1 && given[i] == 0)
          reject("value " + v.name + " is written with a stride of 0");
      }
      if (given[3] != 1) reject("value " + v.name + " needs a stride of 1 between elements of a head");
      if (last >= v.elems()) reject("strides of value " + v.name + " leave it");
      return;
    }
    if (op_.attrs.attention.heads_first) {
      expect(id, {s.batch, heads, s.rows, dim});
      if (v.dynamic_rows) reject("value " + v.name + " is heads_first: it must not have dynamic rows");
    } else {
      expect(id, {s.batch * s.rows, heads * dim});
      if (v.dynamic_rows && s.rows != graph_.max_rows)
        reject("value " + v.name + " has dynamic rows, but not max_rows of them");
    }
  }

  // (kv_heads, kv_len, dim), (batch, kv_heads, kv_len, dim), or paged (blocks, kv_heads, block_size, dim).
  void kv_cache(ValueId id, const SequenceRows& s, std::uint64_t dim, ValueId table) {
    const AttentionAttrs& a = op_.attrs.attention;
    const Value& v = value(id);
    const bool paged = table != kNoValue;
    if (v.storage != Storage::cache || !is_cache_type(v.dtype))
      return reject("value " + v.name + " must be a cache of F32, F16, BF16 or Q8_0");
    if (v.shape.size() != 4 && (v.shape.size() != 3 || paged || s.batch > 1))
      return reject("value " + v.name + " is " + print_shape(v) + ", expected " +
                    (paged || s.batch > 1 ? "4 dimensions" : "3 or 4 dimensions"));
    const CacheForm form = cache_form(program_, id, table, a.ring);
    if (paged) block_table(table, s);
    Shape expected{op_.attrs.kv_heads, paged ? a.block_size : form.slots, dim};
    if (v.shape.size() == 4) expected.insert(expected.begin(), paged ? form.blocks : s.batch);
    expect(id, expected, v.dtype);
    if (form.capacity() >= 0xffffffffu)
      reject("value " + v.name + " has " + std::to_string(form.capacity()) + " keys a sequence, too many");
    if (a.ring && form.capacity() < s.rows)
      reject("value " + v.name + " is a ring of " + std::to_string(form.capacity()) + " keys, too few for " +
             std::to_string(s.rows) + " rows");
  }

  void block_table(ValueId id, const SequenceRows& s) {
    const Value& v = value(id);
    if (op_.attrs.attention.block_size == 0) reject("has a block table but no block_size");
    expect_rank(id, 2);
    if (error_.empty()) expect(id, {s.batch, v.shape[1]}, DType::u32);
    if (v.storage != Storage::input) reject("value " + v.name + " must be an input");
  }

  void no_table() {
    if (op_.attrs.attention.block_size != 0) reject("has a block_size but no block table");
  }

  void rope() {
    if (!head_attrs(true, false, true)) return;
    const OpAttrs& a = op_.attrs;
    rope_table(op_.in[1]);
    if (has_in(2)) expect_state(op_.in[2]);
    if (has_in(2) ? a.table_by_row && !in(0).dynamic_rows : !a.table_by_row || in(0).dynamic_rows)
      reject(has_in(2) ? "table_by_row needs a state only with dynamic rows"
                       : "has no state, which only table_by_row without dynamic rows can do without");
    const SequenceRows s = sequences(has_in(2) && !a.table_by_row);
    if (!error_.empty()) return;
    expect_heads(op_.in[0], s, a.heads, a.head_dim, a.attention.q_strides);
    expect_heads(op_.out[0], s, a.heads, a.head_dim, a.attention.y_strides);
    same_rows(op_.in[0], op_.out[0]);
    if (a.table_by_row && in(1).shape[0] < s.batch * s.rows)
      reject("value " + in(1).name + " has " + std::to_string(in(1).shape[0]) + " rows for the " +
             std::to_string(s.batch * s.rows) + " of value " + in(0).name);
  }

  void kv_append() {
    if (!head_attrs(false, true, false)) return;
    const OpAttrs& a = op_.attrs;
    expect_state(op_.in[1]);
    const SequenceRows s = sequences(true);
    if (!error_.empty()) return;
    expect_heads(op_.in[0], s, a.kv_heads, a.head_dim, a.attention.q_strides);
    if (!has_in(3)) no_table();
    kv_cache(op_.in[2], s, a.head_dim, op_.in[3]);
    expect_same(op_.in[2], op_.out[0]);
  }

  std::uint64_t v_dim() const {
    const OpAttrs& a = op_.attrs;
    return a.attention.v_dim ? a.attention.v_dim : a.head_dim;
  }
  // Elements of a row of q, k and v.
  std::uint64_t qkv_dim() const {
    const OpAttrs& a = op_.attrs;
    return (std::uint64_t{a.heads} + a.kv_heads) * a.head_dim + a.kv_heads * v_dim();
  }

  // What rotation and append in one op cannot do.
  void plain_rows() {
    const AttentionAttrs& a = op_.attrs.attention;
    const std::string kind(name(op_.kind));
    if (op_.attrs.table_by_row) reject("table_by_row is not for " + kind);
    if (a.heads_first || has_strides(a.q_strides) || has_strides(a.y_strides))
      reject(kind + " takes rows only: no heads_first, no strides");
  }

  void rope_append() {
    if (!head_attrs(true, true, true)) return;
    plain_rows();
    rope_table(op_.in[1]);
    expect_state(op_.in[2]);
    expect_rank(op_.in[0], 2);
    const SequenceRows s = sequences(true);
    if (!error_.empty()) return;
    const std::uint64_t rows = s.batch * s.rows;
    expect_rows(op_.in[0], rows, qkv_dim());
    both_caches(3, 4, op_.in[5], s);
    expect_rows(op_.out[0], rows, std::uint64_t{op_.attrs.heads} * op_.attrs.head_dim);
    same_rows(op_.in[0], op_.out[0]);
  }

  void qkv_append() {
    if (!head_attrs(true, true, true)) return;
    const OpAttrs& a = op_.attrs;
    reject(std::string(append_epilogue_fault(a.head_dim, v_dim(), a.rope_dims, in(6).dtype, a.precision)));
    plain_rows();
    expect_rank(op_.in[0], 2);
    expect_rank(op_.in[1], 2);
    if (!error_.empty()) return;
    const std::uint64_t rows = in(0).shape[0], k = in(0).shape[1];
    if (in(0).dtype != DType::f32 && in(0).dtype != DType::f16) reject("activations must be F32 or F16");
    expect_rows(op_.in[0], rows, k, in(0).dtype);
    expect_weight(op_.in[1], {qkv_dim(), k}, in(1).dtype);
    const RowOrder pairs{a.head_dim, a.rope_dims};
    const std::vector<RowOrder> orders =
        a.rope_adjacent ? std::vector<RowOrder>{} : std::vector<RowOrder>{pairs, pairs, {}};
    if (!in(1).parts.empty() && in(1).orders != orders)
      reject("rows of value " + in(1).name + " are not in the order of their pairs");
    if (has_in(2)) expect_vector(op_.in[2], qkv_dim());
    if (has_in(3)) expect_norm(3);
    rope_table(op_.in[4]);
    expect_state(op_.in[5]);
    const SequenceRows s = sequences(true);
    if (!error_.empty()) return;
    both_caches(6, 7, op_.in[8], s);
    expect_rows(op_.out[0], rows, std::uint64_t{a.heads} * a.head_dim);
    same_rows(op_.in[0], op_.out[0]);
  }

  // Inputs i and j, written in place.
  void both_caches(std::size_t i, std::size_t j, ValueId table, const SequenceRows& s) {
    if (table == kNoValue) no_table();
    kv_cache(op_.in[i], s, op_.attrs.head_dim, table);
    kv_cache(op_.in[j], s, v_dim(), table);
    if (error_.empty()) {
      Shape like_k = in(i).shape;
      like_k.back() = v_dim();
      expect(op_.in[j], like_k, in(i).dtype);
    }
    expect_same(op_.in[i], op_.out[1]);
    expect_same(op_.in[j], op_.out[2]);
  }
};

}  // namespace

std::string check_heads(const Program& program, const Graph& graph, const Op& op) {
  return HeadsChecker(program, graph, op).run();
}

}  // namespace tessera
