// Parts of Program::check().
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace tessera {

// Program::check(); without `needs_data` constants may lack theirs: of what is planned, but not walked.
Result<void> check_program(const Program& program, bool needs_data);
// What does not fit in an op whose operands are counted and in range; empty when all does.
std::string check_attention(const Program& program, const Graph& graph, const Op& op);
std::string check_linear_attention(const Program& program, const Graph& graph, const Op& op);
// Kinds rope, kv_append, rope_append and qkv_append.
std::string check_heads(const Program& program, const Graph& graph, const Op& op);
// Kinds matmul, feed_forward and mlp.
std::string check_products(const Program& program, const Graph& graph, const Op& op);

// One op of one graph, and what several kinds ask of their operands. The first thing that does not fit is
// kept.
class OpCheck {
 protected:
  using Shape = std::vector<std::uint64_t>;

  OpCheck(const Program& program, const Graph& graph, const Op& op)
      : program_(program), graph_(graph), op_(op) {}

  // An empty `what` is no fault.
  void reject(const std::string& what) {
    if (error_.empty()) error_ = what;
  }

  const Value& value(ValueId id) const { return program_.values[id]; }
  const Value& in(std::size_t i) const { return value(op_.in[i]); }
  bool has_in(std::size_t i) const { return op_.in[i] != kNoValue; }

  void expect(ValueId id, const Shape& shape, DType dtype = DType::f32) {
    const Value& v = value(id);
    if (v.shape != shape)
      reject("value " + v.name + " is " + print_shape(v) + ", expected " + print_shape(shape));
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
    expect_computed(id, {rows, d}, dtype);
  }

  void expect_computed(ValueId id, const Shape& shape, DType dtype) {
    expect(id, shape, dtype);
    if (value(id).storage != Storage::activation && value(id).storage != Storage::output)
      reject("value " + value(id).name + " must be an activation or an output");
    if (value(id).dynamic_rows && shape[0] != graph_.max_rows)
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

  // Of the rows of x, in[0].
  void expect_norm(std::size_t i) {
    expect_vector(op_.in[i], in(0).last_dim());
    if (in(0).dtype != DType::f32 || in(0).shape[0] > kNormOnLoadRows)
      reject("value " + in(0).name + " is " + std::string(info(in(0).dtype).name) + " " + print_shape(in(0)) +
             ", a product normalises F32 and at most " + std::to_string(kNormOnLoadRows) + " rows");
    if (!(op_.attrs.eps >= 0)) reject("eps must not be negative");
  }

  void expect_weight(ValueId id, const Shape& shape, DType dtype) {
    expect(id, shape, dtype);
    expect_read_only(id);
    if (!is_real(dtype)) reject("value " + value(id).name + " must not be " + std::string(info(dtype).name));
  }

  const Program& program_;
  const Graph& graph_;
  const Op& op_;
  std::string error_;
};

}  // namespace tessera
