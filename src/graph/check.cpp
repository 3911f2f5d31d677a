// Program::check: one function per family of ops, each stating what its op takes and gives.
#include <cmath>

#include "base/mlp.h"
#include "graph/check.h"

namespace tessera {
namespace {

Error fail(const std::string& where, const std::string& what) {
  return Error{Code::internal, where + ": " + what};
}

Result<void> check_value(const Program& program, std::size_t id, bool needs_data) {
  const Value& v = program.values[id];
  const std::string where = "value %" + std::to_string(id) + " " + v.name;
  if (v.shape.empty()) return fail(where, "has no shape");
  for (std::uint64_t dim : v.shape)
    if (dim == 0) return fail(where, "shape " + print_shape(v.shape) + " has a zero");
  if (v.last_dim() % info(v.dtype).block_elems != 0)
    return fail(where, "shape " + print_shape(v.shape) + " does not fit blocks of " +
                           std::string(info(v.dtype).name));
  const bool has_data = v.data ? v.data->size() == v.elems() : !needs_data;
  if (v.storage == Storage::constant && (!has_data || v.dtype != DType::f32))
    return fail(where, "a constant needs f32 data of its shape");
  if (v.dynamic_rows && v.storage != Storage::activation && v.storage != Storage::output)
    return fail(where, "only activations and outputs have dynamic rows");
  if (!v.orders.empty() && v.orders.size() != v.parts.size())
    return fail(where, "has orders of rows, but not one for each part");
  if (v.parts.empty()) return {};

  std::uint64_t rows = 0;
  for (std::size_t i = 0; i < v.parts.size(); ++i) {
    const ValueId part = v.parts[i];
    if (part >= id) return fail(where, "a part must come before its stack");
    const Value& p = program.values[part];
    if (v.storage != Storage::weight || p.storage != Storage::weight || p.dtype != v.dtype ||
        v.shape.size() > 2 || p.shape.size() != v.shape.size() ||
        (v.shape.size() > 1 && p.last_dim() != v.last_dim()))
      return fail(where,
                  "part " + p.name + " " + print_shape(p) + " cannot be stacked in " + print_shape(v.shape));
    const RowOrder order = v.orders.empty() ? RowOrder{} : v.orders[i];
    if (order.rope_dims != 0 && (order.rope_dims > order.head_dim || order.rope_dims % 4 != 0 ||
                                 order.head_dim % 4 != 0 || p.shape[0] % order.head_dim != 0))
      return fail(where, "rows of part " + p.name + " are not heads of " + std::to_string(order.head_dim) +
                             " of which " + std::to_string(order.rope_dims) + " turn");
    rows += p.shape[0];
  }
  if (rows != v.shape[0]) return fail(where, "its parts have " + std::to_string(rows) + " rows");
  return {};
}

// Every kind of op; those with heads are in files of their own.
class OpChecker : OpCheck {
 public:
  OpChecker(const Program& program, const Graph& graph, const Op& op) : OpCheck(program, graph, op) {}

  Result<void> run() {
    if (counts()) kind();
    if (error_.empty()) return {};
    return fail("graph " + graph_.name + ", op " + op_.name + " (" + std::string(name(op_.kind)) + ")",
                error_);
  }

 private:
  // Number of operands, ids in range, and presence of those that are not optional.
  bool counts() {
    if (op_.kind == OpKind::mlp && (op_.attrs.acts.empty() || op_.attrs.acts.size() > kMostMlpLayers)) {
      reject("has " + std::to_string(op_.attrs.acts.size()) + " layers, takes 1 to " +
             std::to_string(kMostMlpLayers));
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
        case OpKind::matmul: return {7, 1, 0b1111100, 0};
        case OpKind::feed_forward: return {9, 1, 0b111011100, 0};
        case OpKind::mlp: return {1 + 2 * op_.attrs.acts.size(), 1, 0x55555554, 0};  // each bias
        case OpKind::rope: return {3, 1, 0b100, 0};
        case OpKind::kv_append: return {4, 1, 0b1000, 0};
        case OpKind::rope_append: return {6, 3, 0b100000, 0};
        case OpKind::qkv_append: return {9, 3, 0b100001100, 0};
        case OpKind::attention: {
          const auto& user = op_.attrs.attention.user;
          const auto own = static_cast<std::size_t>(AttentionIn::count);
          return {own + (user ? user->buffers.size() : 0), 3, (1u << own) - 8, 0b110};  // all but q, k and v
        }
        case OpKind::linear_attention: return {7, 3, 0b1111001, 0b111};
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

  void kind() {
    switch (op_.kind) {
      case OpKind::embedding: return embedding();
      case OpKind::norm: return norm();
      case OpKind::matmul:
      case OpKind::feed_forward:
      case OpKind::mlp: return reject(check_products(program_, graph_, op_));
      case OpKind::rope:
      case OpKind::kv_append:
      case OpKind::rope_append:
      case OpKind::qkv_append: return reject(check_heads(program_, graph_, op_));
      case OpKind::attention: return reject(check_attention(program_, graph_, op_));
      case OpKind::linear_attention: return reject(check_linear_attention(program_, graph_, op_));
      case OpKind::add: return expect_alike({op_.in[0], op_.in[1], op_.out[0]});
      case OpKind::activation: return expect_alike({op_.in[0], op_.out[0]});
      case OpKind::glu: return expect_alike({op_.in[0], op_.in[1], op_.out[0]});
      case OpKind::softmax: return softmax();
      case OpKind::last_row: return last_row();
      case OpKind::sample: return sample();
      case OpKind::advance:
        if (op_.attrs.chunk == 0 || op_.attrs.chunk > graph_.max_rows)
          reject("chunks of " + std::to_string(op_.attrs.chunk) + " rows, but the graph takes 1 to " +
                 std::to_string(graph_.max_rows));
        expect_state(op_.in[0]);
        return expect_same(op_.in[0], op_.out[0]);
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

Result<void> check_program(const Program& program, bool needs_data) {
  const std::vector<Value>& values = program.values;
  if (program.state >= values.size() || values[program.state].storage != Storage::input)
    return Error{Code::internal, "the program has no state"};
  for (std::size_t id = 0; id < values.size(); ++id) TSR_CHECK(check_value(program, id, needs_data));
  for (const Graph& graph : program.graphs) {
    if (graph.max_rows == 0) return fail("graph " + graph.name, "max_rows is 0");
    for (const Op& op : graph.ops) TSR_CHECK(OpChecker(program, graph, op).run());
    TSR_CHECK(check_order(program, graph));
  }
  return {};
}

Result<void> Program::check() const { return check_program(*this, true); }

}  // namespace tessera
