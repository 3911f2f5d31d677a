#include "graph/attention_outputs.h"

#include <algorithm>

namespace tessera {

std::vector<std::uint32_t> attention_ops(const Program& program, std::uint32_t graph) {
  std::vector<std::uint32_t> out;
  const std::vector<Op>& ops = program.graphs[graph].ops;
  for (std::uint32_t i = 0; i < ops.size(); ++i)
    if (ops[i].kind == OpKind::attention) out.push_back(i);
  return out;
}

std::vector<ValueId> keep_attention_weights(Program& program, std::uint32_t graph,
                                            std::span<const AttentionOutput> wanted) {
  std::vector<Op>& ops = program.graphs[graph].ops;
  std::vector<ValueId> out;
  std::uint32_t last = 0;
  for (const AttentionOutput& w : wanted) {
    Op& op = ops[w.op];
    AttentionAttrs& a = op.attrs.attention;
    a.scores = AttentionScores::weights;
    a.score_head = w.head;
    a.score_heads = w.heads;
    Value value;
    value.name = op.name + "_weights";
    value.storage = Storage::output;
    value.shape = {a.batch, w.heads, a.q_len, a.kv_len};
    out.push_back(static_cast<ValueId>(program.values.size()));
    program.values.push_back(std::move(value));
    op.out[2] = out.back();
    last = std::max(last, w.op);
  }
  ops.resize(last + 1);
  return out;
}

}  // namespace tessera
