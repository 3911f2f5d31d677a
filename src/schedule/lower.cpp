#include "schedule/lowering.h"

#include <algorithm>

namespace tessera {

Result<std::vector<Call>> Lowering::run() {
  for (op_ = 0; op_ < graph_.ops.size(); ++op_) TSR_CHECK(lower_op(graph_.ops[op_]));
  return std::move(calls_);
}

Result<void> Lowering::lower_op(const Op& op) {
  switch (op.kind) {
    case OpKind::embedding: return lower_embedding(op);
    case OpKind::norm: lower_norm(op); break;
    case OpKind::matmul: return lower_matmul(op);
    case OpKind::qkv_append: return lower_qkv_append(op);
    case OpKind::feed_forward: return lower_feed_forward(op);
    case OpKind::mlp: return lower_mlp(op);
    case OpKind::rope:
      emit(RopeCall{rope_shape(op)}, {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.out[0]}});
      break;
    case OpKind::kv_append:
      emit(KvAppendCall{append_shape(op, op.in[2], op.in[3])},
           {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.in[3]}});
      break;
    case OpKind::rope_append:
      emit(rope_append_shape(op),
           {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.out[0]}, {op.in[3]}, {op.in[4]}, {op.in[5]}});
      break;
    case OpKind::attention: lower_attention(op); break;
    case OpKind::linear_attention: lower_linear_attention(op); break;
    case OpKind::add: lower_elementwise(op, Elementwise::add, op.in[1]); break;
    case OpKind::activation: lower_elementwise(op, Elementwise::activation, kNoValue); break;
    case OpKind::glu: lower_elementwise(op, Elementwise::glu, op.in[1]); break;
    case OpKind::softmax: {
      const std::vector<std::uint64_t>& shape = value(op.in[0]).shape;
      emit(SoftmaxShape{.outer = u32(shape[0]), .n = u32(shape[1]), .inner = u32(shape[2])},
           {{op.in[0]}, {op.out[0]}});
      break;
    }
    case OpKind::last_row:
      emit(LastRowCall{dim(op.in[0]), op.in[2] != kNoValue},
           {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.out[0]}});
      break;
    case OpKind::sample:
      emit(SampleCall{dim(op.in[0]), u32(value(op.in[1]).elems())},
           {{op.in[0]}, {op.in[1]}, {op.in[2]}, {op.in[3]}});
      break;
    case OpKind::advance: emit(AdvanceCall{op.attrs.chunk}, {{op.in[0]}}); break;
  }
  return {};
}

Result<void> Lowering::lower_embedding(const Op& op) {
  const ValueId table = op.in[2], positions = op.in[3];
  TSR_TRY(const std::uint64_t window, window_rows(table));
  const std::uint64_t vocab = value(table).shape[0];
  for (std::uint64_t first = 0; first < vocab; first += window) {
    const std::uint64_t count = std::min(window, vocab - first);
    emit(EmbeddingShape{.rows = rows(op.out[0]),
                        .dim = dim(op.out[0]),
                        .type = value(table).dtype,
                        .first = u32(first),
                        .count = u32(count),
                        .batch = op.attrs.batch,
                        .positions = positions != kNoValue,
                        .scale = op.attrs.embedding_scale},
         {{op.in[0]}, {op.in[1]}, {table, first, count}, {op.out[0]}, {positions}});
  }
  return {};
}

void Lowering::lower_norm(const Op& op) {
  const NormShape shape{.rows = rows(op.out[0]),
                        .dim = dim(op.out[0]),
                        .dynamic_rows = value(op.out[0]).dynamic_rows,
                        .layer_norm = op.attrs.layer_norm,
                        .bias = op.in[2] != kNoValue,
                        .residual = op.in[3] != kNoValue,
                        .eps = op.attrs.eps};
  emit(shape, {{op.in[0]},
               {op.in[1]},
               {op.in[2]},
               {op.in[3]},
               {op.out[0]},
               {op.out.size() > 1 ? op.out[1] : kNoValue},
               state()});
}

void Lowering::lower_elementwise(const Op& op, Elementwise kind, ValueId b) {
  emit(ElementwiseShape{.rows = rows(op.out[0]),
                        .dim = dim(op.out[0]),
                        .dynamic_rows = value(op.out[0]).dynamic_rows,
                        .kind = kind,
                        .act = static_cast<std::uint32_t>(op.attrs.act)},
       {{op.in[0]}, {b}, {op.out[0]}, state()});
}

Result<std::vector<Call>> lower(const Program& program, const Graph& graph, const MemoryMap& map,
                                const Limits& limits) {
  return Lowering(program, graph, map, limits).run();
}

}  // namespace tessera
