// Attention weights as outputs: what one wants to see of a program that was built to be run.
#pragma once

#include <span>
#include <vector>

#include "graph/graph.h"

namespace tessera {

struct AttentionOutput {
  std::uint32_t op = 0;               // of the graph; an attention without an output of scores
  std::uint32_t head = 0, heads = 1;  // the heads [head, head + heads)
};

// The ops of `graph` that are attentions, in their order.
std::vector<std::uint32_t> attention_ops(const Program& program, std::uint32_t graph);

// Gives each of `wanted` (at least one) an output f32 (batch, heads, q_len, kv_len) of its weights, and ends
// the graph with the last of these ops. The values, in the order of `wanted`. Before fuse().
std::vector<ValueId> keep_attention_weights(Program& program, std::uint32_t graph,
                                            std::span<const AttentionOutput> wanted);

}  // namespace tessera
