#include "schedule/lower.h"

#include "schedule/lower_op.h"

namespace tessera {
namespace {

static_assert(kNormOnLoadRows <= kMatmulFewRows);

// What works on rows: lookups, norms, elements, and the steps of a decoder.
class RowsLowering : OpLowering {
 public:
  explicit RowsLowering(const OpLowering& op) : OpLowering(op) {}

  Result<void> run() {
    switch (op_.kind) {
      case OpKind::embedding: return lower_embedding();
      case OpKind::norm: lower_norm(); break;
      case OpKind::add: lower_elementwise(Elementwise::add, op_.in[1]); break;
      case OpKind::activation: lower_elementwise(Elementwise::activation, kNoValue); break;
      case OpKind::glu: lower_elementwise(Elementwise::glu, op_.in[1]); break;
      case OpKind::softmax: {
        const std::vector<std::uint64_t>& shape = value(op_.in[0]).shape;
        emit(SoftmaxShape{.outer = u32(shape[0]), .n = u32(shape[1]), .inner = u32(shape[2])},
             {{op_.in[0]}, {op_.out[0]}});
        break;
      }
      case OpKind::last_row:
        emit(LastRowCall{dim(op_.in[0]), op_.in[2] != kNoValue},
             {{op_.in[0]}, {op_.in[1]}, {op_.in[2]}, {op_.out[0]}});
        break;
      case OpKind::sample:
        emit(SampleCall{dim(op_.in[0]), u32(value(op_.in[1]).elems())},
             {{op_.in[0]}, {op_.in[1]}, {op_.in[2]}, {op_.in[3]}});
        break;
      default: emit(AdvanceCall{}, {{op_.in[0]}}); break;
    }
    return {};
  }

 private:
  Result<void> lower_embedding() {
    const ValueId table = op_.in[2], positions = op_.in[3];
    TSR_TRY(const std::uint64_t window, window_rows(table));
    const std::uint64_t vocab = value(table).shape[0];
    for (std::uint64_t first = 0; first < vocab; first += window) {
      const std::uint64_t count = std::min(window, vocab - first);
      emit(EmbeddingShape{.rows = rows(op_.out[0]),
                          .dim = dim(op_.out[0]),
                          .type = value(table).dtype,
                          .first = u32(first),
                          .count = u32(count),
                          .batch = op_.attrs.batch,
                          .positions = positions != kNoValue,
                          .scale = op_.attrs.embedding_scale},
           {{op_.in[0]}, {op_.in[1]}, {table, first, count}, {op_.out[0]}, {positions}});
    }
    return {};
  }

  void lower_norm() {
    const NormShape shape{.rows = rows(op_.out[0]),
                          .dim = dim(op_.out[0]),
                          .dynamic_rows = value(op_.out[0]).dynamic_rows,
                          .layer_norm = op_.attrs.layer_norm,
                          .bias = op_.in[2] != kNoValue,
                          .residual = op_.in[3] != kNoValue,
                          .eps = op_.attrs.eps};
    emit(shape, {{op_.in[0]},
                 {op_.in[1]},
                 {op_.in[2]},
                 {op_.in[3]},
                 {op_.out[0]},
                 {op_.out.size() > 1 ? op_.out[1] : kNoValue},
                 state()});
  }

  void lower_elementwise(Elementwise kind, ValueId b) {
    emit(ElementwiseShape{.rows = rows(op_.out[0]),
                          .dim = dim(op_.out[0]),
                          .dynamic_rows = value(op_.out[0]).dynamic_rows,
                          .kind = kind,
                          .act = static_cast<std::uint32_t>(op_.attrs.act)},
         {{op_.in[0]}, {b}, {op_.out[0]}, state()});
  }
};

Result<void> lower_op(OpKind kind, const OpLowering& op) {
  switch (kind) {
    case OpKind::matmul:
    case OpKind::feed_forward:
    case OpKind::mlp: return lower_products(op);
    case OpKind::rope:
    case OpKind::kv_append:
    case OpKind::rope_append:
    case OpKind::qkv_append:
    case OpKind::attention: return lower_heads(op);
    case OpKind::embedding:
    case OpKind::norm:
    case OpKind::add:
    case OpKind::activation:
    case OpKind::glu:
    case OpKind::softmax:
    case OpKind::last_row:
    case OpKind::sample:
    case OpKind::advance: break;
  }
  return RowsLowering(op).run();
}

}  // namespace

Result<std::vector<Call>> lower(const Program& program, const Graph& graph, const MemoryMap& map,
                                const Limits& limits) {
  std::vector<Call> calls;
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i)
    TSR_CHECK(lower_op(graph.ops[i].kind, {program, map, limits, graph.ops[i], i, calls}));
  return calls;
}

}  // namespace tessera
