// Builds one graph of a program: each call adds an op and gives its output, shapes inferred.
#pragma once

#include <string>

#include "graph/graph.h"

namespace tessera {

class GraphBuilder {
 public:
  // `dynamic_rows`: a pass may have fewer rows than max_rows (graph.h).
  GraphBuilder(Program& program, std::string name, std::uint32_t max_rows, bool dynamic_rows);

  std::uint32_t max_rows() const { return graph_.max_rows; }

  // `attrs`: embedding_scale, batch
  ValueId embedding(const std::string& name, ValueId tokens, ValueId table, ValueId positions = kNoValue,
                    const OpAttrs& attrs = {});
  ValueId layer_norm(const std::string& name, ValueId x, ValueId weight, ValueId bias, float eps);
  // `out`: an existing output value to write instead of a new activation.
  ValueId rms_norm(const std::string& name, ValueId x, ValueId weight, float eps);
  ValueId matmul(const std::string& name, ValueId x, ValueId weight, ValueId bias = kNoValue,
                 ValueId out = kNoValue);
  // `attrs`: heads, head_dim, rope_dims, rope_adjacent
  ValueId rope(const std::string& name, ValueId x, ValueId table, const OpAttrs& attrs);
  // `attrs`: kv_heads, head_dim, attention (batch, ring, q_strides); `table` of a cache of blocks
  void kv_append(const std::string& name, ValueId x, ValueId cache, const OpAttrs& attrs,
                 ValueId table = kNoValue);
  // Operands of attention that are not always there.
  struct Extras {
    ValueId state = kNoValue, lengths = kNoValue, table = kNoValue;
  };
  ValueId attention(const std::string& name, ValueId q, ValueId k, ValueId v, const AttentionAttrs& attrs,
                    const Extras& extras);
  ValueId add(const std::string& name, ValueId a, ValueId b);
  ValueId activation(const std::string& name, ValueId x, Activation act);
  ValueId glu(const std::string& name, ValueId gate, ValueId up, Activation act);
  void last_row(ValueId x, ValueId out);
  void sample(ValueId logits, ValueId tokens, ValueId sampler);
  void advance();

  // Adds the graph to the program; gives its index.
  std::uint32_t finish();

 private:
  ValueId new_value(const std::string& name, std::uint64_t rows, std::uint64_t dim, bool dynamic_rows);
  ValueId like(const std::string& name, ValueId x, std::uint64_t dim = 0);
  void op(OpKind kind, const std::string& name, const OpAttrs& attrs, std::vector<ValueId> in,
          std::vector<ValueId> out);

  Program& program_;
  Graph graph_;
  bool dynamic_rows_;
};

// Appends a value; gives its id.
ValueId add_value(Program& program, Value value);
ValueId add_value(Program& program, const std::string& name, Storage storage, DType dtype,
                  std::vector<std::uint64_t> shape);

}  // namespace tessera
