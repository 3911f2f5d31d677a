// Pass 1: ops to calls. A call is one dispatch of a kernel family with its operands in binding order; an op
// becomes several calls where a weight is larger than a binding.
#pragma once

#include <variant>
#include <vector>

#include "schedule/memory_map.h"

namespace tessera {

// A value, or some rows of a weight, or a value from some byte on, or nothing (an absent optional tensor).
struct Operand {
  ValueId value = kNoValue;
  std::uint64_t first_row = 0;
  std::uint64_t rows = 0;  // 0: the whole value
  // Of weights that lie in one buffer: all from the start of `value` to the end of this.
  ValueId last = kNoValue;
  std::uint64_t from_byte = 0;  // of no weight
};

struct RopeCall : RopeAppendShape {};
struct KvAppendCall : RopeAppendShape {};
struct LastRowCall {
  std::uint32_t dim = 0;
  bool residual = false;
};
struct AdvanceCall {
  std::uint32_t chunk = 0;
};
struct SampleCall {
  std::uint32_t vocab = 0, context = 0;
};

struct Call {
  std::uint32_t op = 0;  // index in the graph
  std::variant<EmbeddingShape, NormShape, MatmulShape, QkvShape, FeedForwardShape, MlpShape, RopeAppendShape,
               RopeCall, KvAppendCall, AttentionShape, LinearAttentionShape, ElementwiseShape, SoftmaxShape,
               LastRowCall, AdvanceCall, SampleCall>
      shape;
  std::vector<Operand> operands;
};

Result<std::vector<Call>> lower(const Program& program, const Graph& graph, const MemoryMap& map,
                                const Limits& limits);

}  // namespace tessera
