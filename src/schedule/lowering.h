// From ops to calls of kernels: a graph's lowering. lower_products.cpp has the products, lower_attention.cpp
// attention and what fills its caches.
#pragma once

#include "schedule/lower.h"

namespace tessera {

class Lowering {
 public:
  Lowering(const Program& program, const Graph& graph, const MemoryMap& map, const Limits& limits)
      : program_(program), graph_(graph), map_(map), limits_(limits) {}

  Result<std::vector<Call>> run();

 private:
  const Value& value(ValueId id) const { return program_.values[id]; }
  static std::uint32_t u32(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  std::uint32_t rows(ValueId id) const { return u32(value(id).elems() / value(id).last_dim()); }
  std::uint32_t dim(ValueId id) const { return u32(value(id).last_dim()); }
  // Rows of a weight.
  std::uint32_t dim_out(ValueId weight) const { return u32(value(weight).shape[0]); }
  std::uint64_t element_bytes(ValueId id) const { return info(value(id).dtype).block_bytes; }
  // Absent where no op needs it: kernels without dynamic rows have it bound, and do not read it.
  Operand state() const {
    return map_.places[program_.state].bytes != 0 ? Operand{program_.state} : Operand{};
  }
  template <typename Shape>
  void emit(Shape shape, std::vector<Operand> operands) {
    calls_.push_back({op_, std::move(shape), std::move(operands)});
  }

  Result<void> lower_op(const Op& op);
  Result<void> lower_embedding(const Op& op);
  void lower_norm(const Op& op);
  void lower_elementwise(const Op& op, Elementwise kind, ValueId b);

  // The most rows of a weight that one binding covers; every window but the last begins at an aligned offset,
  // and has a multiple of `fours` rows.
  Result<std::uint64_t> window_rows(ValueId weight, std::uint64_t fours = 1) const;
  // Rows of `weight` that a binding holds, 0 where it holds all; with `other`, of both.
  Result<std::uint32_t> window_of(ValueId weight, ValueId other = kNoValue) const;
  // Without the columns.
  MatmulShape matmul_shape(const Op& op, const MatmulLayout& at) const;
  Result<void> lower_matmul(const Op& op);
  // The most matrices of a weight (and of `up`) that one binding covers; those after them, and their rows of
  // x, y and residual, begin at aligned offsets.
  Result<std::uint64_t> window_matrices(const Op& op, const MatmulLayout& at) const;
  Result<void> lower_batch(const Op& op, const MatmulLayout& at, const MatmulShape& whole);
  Result<void> lower_qkv_append(const Op& op);
  Result<void> lower_feed_forward(const Op& op);
  Result<void> lower_mlp(const Op& op);

  // What rope and the appends share.
  RopeAppendShape rows_shape(const Op& op) const;
  std::array<std::uint32_t, 3> strides_of(const Op& op, const Strides& given, std::uint64_t heads) const;
  RopeAppendShape rope_shape(const Op& op) const;
  RopeAppendShape append_shape(const Op& op, ValueId cache, ValueId table) const;
  RopeAppendShape rope_append_shape(const Op& op) const;
  // Strides of a tensor that is repeated along dimensions of one.
  Strides broadcast_strides(ValueId id) const;
  void lower_attention(const Op& op);
  void lower_linear_attention(const Op& op);

  const Program& program_;
  const Graph& graph_;
  const MemoryMap& map_;
  const Limits& limits_;
  std::uint32_t op_ = 0;
  std::vector<Call> calls_;
};

}  // namespace tessera
