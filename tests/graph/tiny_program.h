// One transformer block by hand: every kind of op that is not made by fusion.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace tessera::test {

struct TinyProgram {
  static constexpr std::uint64_t kRows = 4, kDim = 8, kHidden = 12, kVocab = 16, kContext = 32;
  static constexpr std::uint32_t kHeads = 4, kKvHeads = 2, kHeadDim = 2;

  Program program;
  Graph graph{"block", kRows, {}};
  bool bias = false;

  ValueId value(std::string name, std::vector<std::uint64_t> shape, Storage storage,
                DType dtype = DType::f32) {
    Value v;
    v.name = std::move(name);
    v.storage = storage;
    v.dtype = dtype;
    v.shape = std::move(shape);
    program.values.push_back(std::move(v));
    return static_cast<ValueId>(program.values.size() - 1);
  }
  ValueId weight(std::string name, std::vector<std::uint64_t> shape, DType dtype = DType::f32) {
    return value(std::move(name), std::move(shape), Storage::weight, dtype);
  }
  ValueId rows(std::string name, std::uint64_t dim) {
    const ValueId id = value(std::move(name), {kRows, dim}, Storage::activation);
    program.values[id].dynamic_rows = true;
    return id;
  }
  ValueId constant(std::string name, std::vector<std::uint64_t> shape, float fill = 0) {
    const ValueId id = value(std::move(name), std::move(shape), Storage::constant);
    Value& v = program.values[id];
    v.data = std::make_shared<const std::vector<float>>(v.elems(), fill);
    return id;
  }
  Op& op(OpKind kind, std::string name, std::vector<ValueId> in, std::vector<ValueId> out,
         OpAttrs attrs = {}) {
    graph.ops.push_back({kind, std::move(name), attrs, std::move(in), std::move(out)});
    return graph.ops.back();
  }
  ValueId matmul(const std::string& name, ValueId x, std::uint64_t n, DType dtype = DType::f32) {
    const std::uint64_t k = program.values[x].last_dim();
    const ValueId w = weight(name + ".weight", {n, k}, dtype);
    const ValueId b = bias ? weight(name + ".bias", {n}) : kNoValue;
    const ValueId y = rows(name, n);
    op(OpKind::matmul, name, {x, w, b, kNoValue, kNoValue, kNoValue}, {y});
    return y;
  }
  ValueId norm(const std::string& name, ValueId x) {
    const ValueId w = weight(name + ".weight", {kDim});
    const ValueId y = rows(name, kDim);
    OpAttrs attrs;
    attrs.eps = 1e-5f;
    op(OpKind::norm, name, {x, w, kNoValue, kNoValue}, {y, kNoValue}, attrs);
    return y;
  }
  ValueId rope(const std::string& name, ValueId x, std::uint32_t heads) {
    OpAttrs attrs = head_attrs(heads, 0);
    attrs.rope_dims = kHeadDim;
    attrs.rope_adjacent = true;
    const ValueId y = rows(name, heads * kHeadDim);
    op(OpKind::rope, name, {x, table, state}, {y}, attrs);
    return y;
  }
  void append(const std::string& name, ValueId x, ValueId cache) {
    op(OpKind::kv_append, name, {x, state, cache, kNoValue}, {cache}, head_attrs(0, kKvHeads));
  }
  ValueId add(const std::string& name, ValueId a, ValueId b) {
    const ValueId y = rows(name, program.values[a].last_dim());
    op(OpKind::add, name, {a, b}, {y});
    return y;
  }
  ValueId act(const std::string& name, ValueId x) {
    OpAttrs attrs;
    attrs.act = Activation::gelu_tanh;
    const ValueId y = rows(name, program.values[x].last_dim());
    op(OpKind::activation, name, {x}, {y}, attrs);
    return y;
  }
  ValueId glu(const std::string& name, ValueId gate, ValueId up) {
    OpAttrs attrs;
    attrs.act = Activation::silu;
    const ValueId y = rows(name, program.values[gate].last_dim());
    op(OpKind::glu, name, {gate, up}, {y}, attrs);
    return y;
  }
  static OpAttrs head_attrs(std::uint32_t heads, std::uint32_t kv_heads) {
    OpAttrs attrs;
    attrs.heads = heads;
    attrs.kv_heads = kv_heads;
    attrs.head_dim = kHeadDim;
    return attrs;
  }

  ValueId tokens = value("tokens", {kContext + 1}, Storage::input, DType::u32);
  ValueId state = value("state", {8}, Storage::input, DType::u32);
  ValueId sampler = value("sampler", {8}, Storage::input, DType::u32);
  ValueId table = constant("rope_table", {kContext, kHeadDim / 2, 2});
  ValueId k_cache = value("k_cache", {kKvHeads, kContext, kHeadDim}, Storage::cache, DType::f16);
  ValueId v_cache = value("v_cache", {kKvHeads, kContext, kHeadDim}, Storage::cache, DType::f16);
  ValueId logits = value("logits", {1, kVocab}, Storage::output);

  TinyProgram() { program.state = state; }

  ValueId embedding() {
    const ValueId x = rows("x", kDim);
    op(OpKind::embedding, "x", {tokens, state, weight("embd", {kVocab, kDim}, DType::f16), kNoValue}, {x});
    return x;
  }
  // The types of the three matrices may differ.
  ValueId attention(ValueId h, DType q_type = DType::f32, DType k_type = DType::f32) {
    const ValueId q = matmul("attn_q", h, kHeads * kHeadDim, q_type);
    const ValueId k = matmul("attn_k", h, kKvHeads * kHeadDim, k_type);
    const ValueId v = matmul("attn_v", h, kKvHeads * kHeadDim, q_type);
    const ValueId q_rope = rope("q_rope", q, kHeads);
    const ValueId k_rope = rope("k_rope", k, kKvHeads);
    append("k_append", k_rope, k_cache);
    append("v_append", v, v_cache);
    return attend(q_rope);
  }
  ValueId attend(ValueId q) {
    OpAttrs attrs;
    AttentionAttrs& a = attrs.attention;
    a.q_len = kRows;
    a.kv_len = static_cast<std::uint32_t>(program.values[k_cache].shape[1]);
    a.heads = kHeads;
    a.kv_heads = kKvHeads;
    a.head_dim = a.v_dim = kHeadDim;
    a.scale = 0.5f;
    a.causal = Causal::bottom_right;
    a.cache = true;
    const ValueId y = rows("attn", kHeads * kHeadDim);
    std::vector<ValueId> in(static_cast<std::size_t>(AttentionIn::count), kNoValue);
    in[0] = q;
    in[1] = k_cache;
    in[2] = v_cache;
    in[3] = state;
    op(OpKind::attention, "attn", in, {y, kNoValue, kNoValue}, attrs);
    return y;
  }
  ValueId last_row(ValueId x) {
    const ValueId y = value("last", {1, kDim}, Storage::activation);
    op(OpKind::last_row, "last", {x, state, kNoValue}, {y});
    return y;
  }
  void head(ValueId x) {
    const ValueId w = weight("output", {kVocab, kDim});
    op(OpKind::matmul, "logits", {x, w, kNoValue, kNoValue, kNoValue, kNoValue}, {logits});
    op(OpKind::sample, "sample", {logits, tokens, state, sampler}, {tokens, state});
  }
  // Ends the graph.
  Program& finish() {
    program.graphs.push_back(std::move(graph));
    graph = {"next", kRows, {}};
    return program;
  }

  // A whole block: attention, gated feed-forward, and a plain one with an activation.
  static TinyProgram block(bool bias = false) {
    TinyProgram t;
    t.bias = bias;
    ValueId x = t.embedding();
    x = t.add("attn_sum", x, t.matmul("attn_out", t.attention(t.norm("attn_norm", x)), kDim));
    ValueId h = t.norm("ffn_norm", x);
    const ValueId gate = t.matmul("ffn_gate", h, kHidden), up = t.matmul("ffn_up", h, kHidden);
    x = t.add("ffn_sum", x, t.matmul("ffn_down", t.glu("ffn_hidden", gate, up), kDim));
    h = t.norm("mlp_norm", x);
    h = t.act("mlp_hidden", t.matmul("mlp_up", h, kHidden));
    x = t.add("mlp_sum", x, t.matmul("mlp_down", h, kDim));
    t.head(t.last_row(x));
    t.finish();
    return t;
  }
};

inline std::string print_all(const Program& program) {
  std::string text;
  for (const Graph& graph : program.graphs) text += print(program, graph);
  return text;
}

inline std::size_t count(const Graph& graph, OpKind kind) {
  std::size_t n = 0;
  for (const Op& op : graph.ops) n += op.kind == kind;
  return n;
}

}  // namespace tessera::test
