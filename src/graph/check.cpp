// Program::check: one function per family of ops, each stating what its op takes and gives.
#include <cmath>
#include <optional>

#include "base/cache_row.h"
#include "graph/check.h"
#include "graph/graph.h"
#include "graph/kv_cache.h"

namespace tessera {
namespace {

using Shape = std::vector<std::uint64_t>;

std::string text(const Shape& shape) {
  Value value;
  value.shape = shape;
  return print_shape(value);
}

Error fail(const std::string& where, const std::string& what) {
  return Error{Code::internal, where + ": " + what};
}

Result<void> check_value(const Program& program, std::size_t id) {
  const Value& v = program.values[id];
  const std::string where = "value %" + std::to_string(id) + " " + v.name;
  if (v.shape.empty()) return fail(where, "has no shape");
  for (std::uint64_t dim : v.shape)
    if (dim == 0) return fail(where, "shape " + text(v.shape) + " has a zero");
  if (v.last_dim() % info(v.dtype).block_elems != 0)
    return fail(where,
                "shape " + text(v.shape) + " does not fit blocks of " + std::string(info(v.dtype).name));
  if (v.storage == Storage::constant && (!v.data || v.data->size() != v.elems() || v.dtype != DType::f32))
    return fail(where, "a constant needs f32 data of its shape");
  if (v.dynamic_rows && v.storage != Storage::activation && v.storage != Storage::output)
    return fail(where, "only activations and outputs have dynamic rows");
  if (v.parts.empty()) return {};

  std::uint64_t rows = 0;
  for (ValueId part : v.parts) {
    if (part >= id) return fail(where, "a part must come before its stack");
    const Value& p = program.values[part];
    if (v.storage != Storage::weight || p.storage != Storage::weight || p.dtype != v.dtype ||
        p.shape.size() != v.shape.size() || (v.shape.size() > 1 && p.last_dim() != v.last_dim()))
      return fail(where, "part " + p.name + " " + print_shape(p) + " cannot be stacked in " + text(v.shape));
    rows += p.shape[0];
  }
  if (rows != v.shape[0]) return fail(where, "its parts have " + std::to_string(rows) + " rows");
  return {};
}

// One op of one graph. The first thing that does not fit is kept; later ones are not looked at.
class OpChecker {
 public:
  OpChecker(const Program& program, const Graph& graph, const Op& op)
      : program_(program), graph_(graph), op_(op) {}

  Result<void> run() {
    if (counts()) kind();
    if (error_.empty()) return {};
    return fail("graph " + graph_.name + ", op " + op_.name + " (" + std::string(name(op_.kind)) + ")",
                error_);
  }

 private:
  // An empty `what` is no fault.
  void reject(const std::string& what) {
    if (error_.empty()) error_ = what;
  }

  // Number of operands, ids in range, and presence of those that are not optional.
  bool counts() {
    if (op_.kind == OpKind::mlp && (op_.attrs.acts.empty() || op_.attrs.acts.size() > kMostLayers)) {
      reject("has " + std::to_string(op_.attrs.acts.size()) + " layers, takes 1 to " +
             std::to_string(kMostLayers));
      return false;
    }
    struct Signature {
      std::size_t in, out;
      unsigned optional_in, optional_out;  // bit i: operand i may be absent
    };
    const Signature s = [&]() -> Signature {
      switch (op_.kind) {
        case OpKind::embedding: return {4, 1, 0b1000, 0};
        case OpKind::norm: return {4, 2, 0b1100, 0b10};
        case OpKind::matmul: return {6, 1, 0b111100, 0};
        case OpKind::feed_forward: return {8, 1, 0b11011100, 0};
        case OpKind::mlp: return {1 + 2 * op_.attrs.acts.size(), 1, 0x55555554, 0};  // each bias
        case OpKind::rope: return {3, 1, 0b100, 0};
        case OpKind::kv_append: return {4, 1, 0b1000, 0};
        case OpKind::rope_append: return {6, 3, 0b100000, 0};
        case OpKind::attention: return {11, 3, 0b11111111000, 0b110};
        case OpKind::add: return {2, 1, 0, 0};
        case OpKind::activation: return {1, 1, 0, 0};
        case OpKind::glu: return {2, 1, 0, 0};
        case OpKind::softmax: return {1, 1, 0, 0};
        case OpKind::last_row: return {3, 1, 0b100, 0};
        case OpKind::sample: return {4, 2, 0, 0};
        case OpKind::advance: return {1, 1, 0, 0};
      }
      return {};
    }();
    if (op_.in.size() != s.in || op_.out.size() != s.out) {
      reject("has " + std::to_string(op_.in.size()) + " inputs and " + std::to_string(op_.out.size()) +
             " outputs, needs " + std::to_string(s.in) + " and " + std::to_string(s.out));
      return false;
    }
    auto present = [&](const std::vector<ValueId>& ids, unsigned optional, const char* side) {
      for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] == kNoValue ? !(optional >> i & 1) : ids[i] >= program_.values.size())
          reject(std::string(side) + " " + std::to_string(i) + " is absent or out of range");
    };
    present(op_.in, s.optional_in, "input");
    present(op_.out, s.optional_out, "output");
    return error_.empty();
  }

  // The layers that the bits of a signature are enough for.
  static constexpr std::size_t kMostLayers = 15;

  const Value& value(ValueId id) const { return program_.values[id]; }
  const Value& in(std::size_t i) const { return value(op_.in[i]); }
  bool has_in(std::size_t i) const { return op_.in[i] != kNoValue; }

  void expect(ValueId id, const Shape& shape, DType dtype = DType::f32) {
    const Value& v = value(id);
    if (v.shape != shape) reject("value " + v.name + " is " + print_shape(v) + ", expected " + text(shape));
    if (v.dtype != dtype)
      reject("value " + v.name + " is " + std::string(info(v.dtype).name) + ", expected " +
             std::string(info(dtype).name));
  }

  void expect_rank(ValueId id, std::size_t rank) {
    if (value(id).shape.size() != rank)
      reject("value " + value(id).name + " is " + print_shape(value(id)) + ", expected " +
             std::to_string(rank) + " dimensions");
  }

  void expect_read_only(ValueId id) {
    const Storage s = value(id).storage;
    if (s != Storage::weight && s != Storage::constant)
      reject("value " + value(id).name + " must be a weight or a constant");
  }

  void expect_vector(ValueId id, std::uint64_t n) {
    expect(id, {n});
    expect_read_only(id);
  }

  // (rows, d), computed and not read-only.
  void expect_rows(ValueId id, std::uint64_t rows, std::uint64_t d, DType dtype = DType::f32) {
    expect(id, {rows, d}, dtype);
    if (value(id).storage != Storage::activation && value(id).storage != Storage::output)
      reject("value " + value(id).name + " must be an activation or an output");
    if (value(id).dynamic_rows && rows != graph_.max_rows)
      reject("value " + value(id).name + " has dynamic rows, but not max_rows of them");
  }

  void same_rows(ValueId a, ValueId b) {
    if (value(a).dynamic_rows != value(b).dynamic_rows)
      reject("values " + value(a).name + " and " + value(b).name + " do not both have dynamic rows");
  }

  // Every tensor of `ids` is f32 (rows, d) of the same shape and kind of rows as the first.
  void expect_alike(std::initializer_list<ValueId> ids) {
    const ValueId first = *ids.begin();
    expect_rank(first, 2);
    if (!error_.empty()) return;
    for (ValueId id : ids) {
      expect_rows(id, value(first).shape[0], value(first).shape[1]);
      same_rows(first, id);
    }
  }

  void expect_state(ValueId id) {
    if (id != program_.state) reject("value " + value(id).name + " is not the program's state");
    expect(id, {8}, DType::u32);
  }

  void expect_tokens(ValueId id) {
    expect_rank(id, 1);
    if (value(id).dtype != DType::u32 || value(id).storage != Storage::input)
      reject("value " + value(id).name + " must be an input of U32");
  }

  void expect_same(ValueId a, ValueId b) {
    if (a != b) reject("value " + value(b).name + " must be written in place");
  }

  void kind() {
    switch (op_.kind) {
      case OpKind::embedding: return embedding();
      case OpKind::norm: return norm();
      case OpKind::matmul: return matmul();
      case OpKind::feed_forward: return feed_forward();
      case OpKind::mlp: return mlp();
      case OpKind::rope: return rope();
      case OpKind::kv_append: return kv_append();
      case OpKind::rope_append: return rope_append();
      case OpKind::attention: return reject(check_attention(program_, graph_, op_));
      case OpKind::add: return expect_alike({op_.in[0], op_.in[1], op_.out[0]});
      case OpKind::activation: return expect_alike({op_.in[0], op_.out[0]});
      case OpKind::glu: return expect_alike({op_.in[0], op_.in[1], op_.out[0]});
      case OpKind::softmax: return softmax();
      case OpKind::last_row: return last_row();
      case OpKind::sample: return sample();
      case OpKind::advance: expect_state(op_.in[0]); return expect_same(op_.in[0], op_.out[0]);
    }
  }

  void embedding() {
    expect_tokens(op_.in[0]);
    expect_state(op_.in[1]);
    expect_rank(op_.in[2], 2);
    expect_read_only(op_.in[2]);
    if (!error_.empty()) return;
    const Value& out = value(op_.out[0]);
    const std::uint64_t dim = in(2).last_dim();
    expect_rows(op_.out[0], op_.attrs.batch ? in(0).shape[0] : graph_.max_rows, dim);
    if (op_.attrs.batch && out.dynamic_rows) reject("value " + out.name + " of a batch has dynamic rows");
    if (!std::isfinite(op_.attrs.embedding_scale)) reject("scale is not finite");
    if (!has_in(3)) return;
    expect_rank(op_.in[3], 2);
    if (error_.empty()) expect(op_.in[3], {in(3).shape[0], dim});
    expect_read_only(op_.in[3]);
  }

  void norm() {
    expect_alike({op_.in[0], op_.out[0]});
    if (!error_.empty()) return;
    expect_vector(op_.in[1], in(0).last_dim());
    if (has_in(2)) expect_vector(op_.in[2], in(0).last_dim());
    if (has_in(3) != (op_.out[1] != kNoValue)) return reject("residual and sum must come together");
    if (has_in(3)) expect_alike({op_.in[0], op_.in[3], op_.out[1]});
    if (!(op_.attrs.eps >= 0)) reject("eps must not be negative");
  }

  void matmul() {
    expect_rank(op_.in[0], 2);
    expect_rank(op_.in[1], 2);
    if (!error_.empty()) return;
    const std::uint64_t rows = in(0).shape[0], k = in(0).shape[1], n = in(1).shape[0];
    const DType y_type = value(op_.out[0]).dtype;
    for (const DType type : {in(0).dtype, y_type})
      if (type != DType::f32 && type != DType::f16) return reject("activations must be F32 or F16");
    expect_rows(op_.in[0], rows, k, in(0).dtype);
    expect_weight(op_.in[1], n, k, in(1).dtype);
    if (has_in(2)) expect_vector(op_.in[2], n);
    if (has_in(3)) expect_weight(op_.in[3], n, k, in(1).dtype);
    if (has_in(4) && !has_in(3)) return reject("has a bias of a second matrix but no second matrix");
    if (has_in(3) && has_in(2) != has_in(4)) return reject("has a bias of one of its two matrices alone");
    if (has_in(4)) expect_vector(op_.in[4], n);
    expect_rows(op_.out[0], rows, n, y_type);
    same_rows(op_.in[0], op_.out[0]);
    if (!std::isfinite(op_.attrs.scale)) reject("scale is not finite");
    if (!has_in(5)) return;
    expect_rows(op_.in[5], rows, n, y_type);
    same_rows(op_.in[5], op_.out[0]);
  }

  // x and y of a product, (rows, k) and (rows, n), each f32 or f16.
  void expect_products(std::uint64_t k, std::uint64_t n) {
    const DType x_type = in(0).dtype, y_type = value(op_.out[0]).dtype;
    for (const DType type : {x_type, y_type})
      if (type != DType::f32 && type != DType::f16) return reject("activations must be F32 or F16");
    expect_rows(op_.in[0], in(0).shape[0], k, x_type);
    expect_rows(op_.out[0], in(0).shape[0], n, y_type);
    same_rows(op_.in[0], op_.out[0]);
  }

  void feed_forward() {
    for (std::size_t i : {0, 1, 5}) expect_rank(op_.in[i], 2);
    if (!error_.empty()) return;
    const std::uint64_t k = in(0).shape[1], hidden = in(1).shape[0], n = in(5).shape[0];
    expect_products(k, n);
    expect_weight(op_.in[1], hidden, k, in(1).dtype);
    if (has_in(2)) expect_vector(op_.in[2], hidden);
    if (has_in(3)) expect_weight(op_.in[3], hidden, k, in(1).dtype);
    if (has_in(4) && !has_in(3)) return reject("has a bias of a second matrix but no second matrix");
    if (has_in(3) && has_in(2) != has_in(4)) return reject("has a bias of one of its two matrices alone");
    if (has_in(4)) expect_vector(op_.in[4], hidden);
    expect_weight(op_.in[5], n, hidden, in(5).dtype);
    if (has_in(6)) expect_vector(op_.in[6], n);
    if (op_.attrs.scale != 1) reject("takes no scale");
    if (!has_in(7)) return;
    expect_rows(op_.in[7], in(0).shape[0], n, value(op_.out[0]).dtype);
    same_rows(op_.in[7], op_.out[0]);
  }

  void mlp() {
    expect_rank(op_.in[0], 2);
    if (!error_.empty()) return;
    std::uint64_t width = in(0).shape[1];
    for (std::size_t i = 1; i < op_.in.size() && error_.empty(); i += 2) {
      expect_rank(op_.in[i], 2);
      if (!error_.empty()) return;
      expect_weight(op_.in[i], in(i).shape[0], width, in(1).dtype);
      width = in(i).shape[0];
      if (has_in(i + 1)) expect_vector(op_.in[i + 1], width);
    }
    if (error_.empty()) expect_products(in(0).shape[1], width);
  }

  void expect_weight(ValueId id, std::uint64_t n, std::uint64_t k, DType dtype) {
    expect(id, {n, k}, dtype);
    expect_read_only(id);
    if (!is_real(dtype)) reject("value " + value(id).name + " must not be " + std::string(info(dtype).name));
  }

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

  void rope_append() {
    if (!head_attrs(true, true, true)) return;
    const OpAttrs& a = op_.attrs;
    if (a.table_by_row) reject("table_by_row is not for rope_append");
    if (a.attention.heads_first || has_strides(a.attention.q_strides) || has_strides(a.attention.y_strides))
      reject("rope_append takes rows only: no heads_first, no strides");
    const std::uint64_t v_dim = a.attention.v_dim ? a.attention.v_dim : a.head_dim;
    rope_table(op_.in[1]);
    expect_state(op_.in[2]);
    expect_rank(op_.in[0], 2);
    const SequenceRows s = sequences(true);
    if (!error_.empty()) return;
    const std::uint64_t rows = s.batch * s.rows;
    expect_rows(op_.in[0], rows, (std::uint64_t{a.heads} + a.kv_heads) * a.head_dim + a.kv_heads * v_dim);
    if (!has_in(5)) no_table();
    kv_cache(op_.in[3], s, a.head_dim, op_.in[5]);
    kv_cache(op_.in[4], s, v_dim, op_.in[5]);
    if (error_.empty()) {
      Shape like_k = in(3).shape;
      like_k.back() = v_dim;
      expect(op_.in[4], like_k, in(3).dtype);
    }
    expect_rows(op_.out[0], rows, std::uint64_t{a.heads} * a.head_dim);
    same_rows(op_.in[0], op_.out[0]);
    expect_same(op_.in[3], op_.out[1]);
    expect_same(op_.in[4], op_.out[2]);
  }

  void softmax() {
    expect_rank(op_.in[0], 3);
    if (!error_.empty()) return;
    for (ValueId id : {op_.in[0], op_.out[0]}) {
      expect(id, in(0).shape);
      if (value(id).storage != Storage::activation && value(id).storage != Storage::output)
        reject("value " + value(id).name + " must be an activation or an output");
      if (value(id).dynamic_rows) reject("value " + value(id).name + " must not have dynamic rows");
    }
  }

  void last_row() {
    expect_rank(op_.in[0], 2);
    if (!error_.empty()) return;
    expect_rows(op_.in[0], graph_.max_rows, in(0).last_dim());
    expect_state(op_.in[1]);
    if (has_in(2)) expect_alike({op_.in[0], op_.in[2]});
    expect_rows(op_.out[0], 1, in(0).last_dim());
    if (value(op_.out[0]).dynamic_rows) reject("its output must not have dynamic rows");
  }

  void sample() {
    expect_rank(op_.in[0], 2);
    if (!error_.empty()) return;
    expect_rows(op_.in[0], 1, in(0).last_dim());
    if (in(0).dynamic_rows) reject("logits must not have dynamic rows");
    expect_tokens(op_.in[1]);
    expect_state(op_.in[2]);
    expect(op_.in[3], {8}, DType::u32);
    expect_same(op_.in[1], op_.out[0]);
    expect_same(op_.in[2], op_.out[1]);
  }

  const Program& program_;
  const Graph& graph_;
  const Op& op_;
  std::string error_;
};

// Activations are written once, before they are read; read-only values are never written.
Result<void> check_order(const Program& program, const Graph& graph) {
  std::vector<bool> written(program.values.size(), false);
  for (const Op& op : graph.ops) {
    const std::string where = "graph " + graph.name + ", op " + op.name;
    for (ValueId id : op.in)
      if (id != kNoValue && program.values[id].storage == Storage::activation && !written[id])
        return fail(where, "reads " + program.values[id].name + " before it is written");
    for (ValueId id : op.out) {
      if (id == kNoValue) continue;
      const Storage s = program.values[id].storage;
      if (s == Storage::weight || s == Storage::constant)
        return fail(where, "writes the read-only value " + program.values[id].name);
      if ((s == Storage::activation || s == Storage::output) && written[id])
        return fail(where, "writes " + program.values[id].name + " a second time");
      written[id] = true;
    }
  }
  return {};
}

}  // namespace

Result<void> Program::check() const {
  if (state >= values.size() || values[state].storage != Storage::input)
    return Error{Code::internal, "the program has no state"};
  for (std::size_t id = 0; id < values.size(); ++id) TSR_CHECK(check_value(*this, id));
  for (const Graph& graph : graphs) {
    if (graph.max_rows == 0) return fail("graph " + graph.name, "max_rows is 0");
    for (const Op& op : graph.ops) TSR_CHECK(OpChecker(*this, graph, op).run());
    TSR_CHECK(check_order(*this, graph));
  }
  return {};
}

}  // namespace tessera
