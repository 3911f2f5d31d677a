#include <cstdio>

#include "graph/graph.h"
#include "graph/plan.h"

namespace tessera {
namespace {

std::string number(float x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", static_cast<double>(x));
  return text;
}

std::string numbers(const Strides& strides) {
  std::string text;
  for (std::uint64_t s : strides) text += (text.empty() ? "" : ",") + std::to_string(s);
  return text;
}

std::string print_dims(const std::vector<std::uint64_t>& shape, bool dynamic_rows) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ",";
    text += i == 0 && dynamic_rows ? "rows" : std::to_string(shape[i]);
  }
  return text + ")";
}

std::string print_value(const Program& program, ValueId id) {
  if (id == kNoValue) return "-";
  if (id >= program.values.size()) return "%" + std::to_string(id) + " ?";
  const Value& value = program.values[id];
  std::string text = "%" + std::to_string(id) + " " + value.name + " ";
  if (value.dtype != DType::f32) text += std::string(info(value.dtype).name) + " ";
  text += print_shape(value);
  if (!value.parts.empty()) {
    text += " [";
    for (std::size_t i = 0; i < value.parts.size(); ++i)
      text += (i ? " %" : "%") + std::to_string(value.parts[i]) +
              (!value.orders.empty() && value.orders[i].rope_dims ? " in pairs" : "");
    text += "]";
  }
  return text;
}

std::string print_list(const Program& program, const std::vector<ValueId>& ids) {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) text += (i ? ", " : "") + print_value(program, ids[i]);
  return text;
}

std::vector<std::pair<std::string, std::string>> print_attention(const AttentionAttrs& a) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto put = [&](const char* key, std::string text) { out.emplace_back(key, std::move(text)); };
  const auto count = [&](const char* key, std::uint64_t n) { put(key, std::to_string(n)); };
  if (a.batch != 1) count("batch", a.batch);
  count("q_len", a.q_len);
  count("kv_len", a.kv_len);
  count("heads", a.heads);
  count("kv_heads", a.kv_heads);
  count("head_dim", a.head_dim);
  if (a.v_dim != a.head_dim) count("v_dim", a.v_dim);
  put("scale", number(a.scale));
  if (a.softcap != 0) put("softcap", number(a.softcap));
  if (a.score != AttentionScore::dot) put("score", a.score == AttentionScore::cosine ? "cosine" : "additive");
  if (a.causal != Causal::none) put("causal", a.causal == Causal::top_left ? "top_left" : "bottom_right");
  if (a.window_left != kNoWindow) count("window_left", a.window_left);
  if (a.window_right != kNoWindow) count("window_right", a.window_right);
  if (a.prefix_length != 0) count("prefix_length", a.prefix_length);
  if (a.top_k != 0) count("top_k", a.top_k);
  if (a.relative != RelativeBias::none)
    put("relative",
        (a.relative == RelativeBias::distance ? "distance " : "window ") + std::to_string(a.relative_size));
  if (a.precision == Precision::mixed) put("precision", "mixed");
  if (a.heads_first) put("layout", "heads_first");
  if (a.block_size != 0) count("block_size", a.block_size);
  if (a.ring) put("ring", "1");
  if (a.q_block != 0) put("lists", std::to_string(a.q_block) + "x" + std::to_string(a.k_block));
  if (a.user != nullptr)
    put("user", a.user->score.empty() ? "mask" : a.user->mask.empty() ? "score" : "score,mask");
  if (a.scores != AttentionScores::none) {
    const char* kinds[] = {"none", "raw", "capped", "masked", "weights", "average"};
    put("scores", kinds[static_cast<std::size_t>(a.scores)]);
  }
  for (const auto& [key, strides] :
       {std::pair("q_strides", a.q_strides), std::pair("k_strides", a.k_strides),
        std::pair("v_strides", a.v_strides), std::pair("y_strides", a.y_strides)})
    if (strides != Strides{})
      put(key, std::to_string(strides[0]) + "," + std::to_string(strides[1]) + "," +
                   std::to_string(strides[2]) + "," + std::to_string(strides[3]));
  return out;
}

std::vector<std::pair<std::string, std::string>> print_linear(const LinearAttentionAttrs& a) {
  std::vector<std::pair<std::string, std::string>> out{{"rule", std::string(name(a.rule))}};
  const auto count = [&](const char* key, std::uint64_t n) { out.emplace_back(key, std::to_string(n)); };
  if (a.batch != 1) count("batch", a.batch);
  count("len", a.len);
  count("heads", a.heads);
  count("kv_heads", a.kv_heads);
  count("k_dim", a.k_dim);
  count("v_dim", a.v_dim);
  out.emplace_back("scale", number(a.scale));
  if (a.map != FeatureMap::none) out.emplace_back("map", std::string(name(a.map)));
  if (!a.causal) out.emplace_back("causal", "0");
  if (a.normalise) out.emplace_back("epsilon", number(a.epsilon));
  return out;
}

std::string print_attrs(const Op& op) {
  const OpAttrs& a = op.attrs;
  std::string text;
  auto put = [&](std::string_view key, const std::string& value) {
    text += " " + std::string(key) + "=" + value;
  };
  if (a.act != Activation::none) put("act", std::string(name(a.act)));
  if (!a.acts.empty()) {
    std::string acts;
    for (const Activation act : a.acts) acts += (acts.empty() ? "" : ",") + std::string(name(act));
    put("acts", acts);
  }
  if (op.kind == OpKind::matmul || op.kind == OpKind::feed_forward) {
    if (a.scale != 1) put("scale", number(a.scale));
    if (a.precision == Precision::mixed) put("precision", "mixed");
    if (a.rows_first) put("rows_first", "1");
  }
  if (op.kind == OpKind::norm && a.layer_norm) put("layer_norm", "1");
  if (op.kind == OpKind::norm || a.eps != 0) put("eps", number(a.eps));
  if (a.heads) put("heads", std::to_string(a.heads));
  if (a.kv_heads) put("kv_heads", std::to_string(a.kv_heads));
  if (a.head_dim) put("head_dim", std::to_string(a.head_dim));
  if (a.rope_dims) {
    put("rope_dims", std::to_string(a.rope_dims));
    put("pairs", a.rope_adjacent ? "adjacent" : "half");
  }
  if (op.kind == OpKind::embedding) {
    if (a.embedding_scale != 1) put("scale", number(a.embedding_scale));
    if (a.batch) put("batch", "1");
  }
  if (op.kind == OpKind::rope || op.kind == OpKind::kv_append || op.kind == OpKind::rope_append ||
      op.kind == OpKind::qkv_append) {
    const AttentionAttrs& form = a.attention;
    if (a.table_by_row) put("table_by_row", "1");
    if (form.batch > 1) put("batch", std::to_string(form.batch));
    if (form.v_dim != 0 && form.v_dim != a.head_dim) put("v_dim", std::to_string(form.v_dim));
    if (form.block_size) put("block_size", std::to_string(form.block_size));
    if (form.ring) put("ring", "1");
    if (form.heads_first) put("heads_first", "1");
    if (form.q_strides != Strides{}) put("x_strides", numbers(form.q_strides));
    if (form.y_strides != Strides{}) put("y_strides", numbers(form.y_strides));
  }
  if (op.kind == OpKind::advance) put("chunk", std::to_string(a.chunk));
  if (op.kind == OpKind::attention) {
    for (const auto& [key, value] : print_attention(a.attention)) put(key, value);
  }
  if (op.kind == OpKind::linear_attention)
    for (const auto& [key, value] : print_linear(a.linear)) put(key, value);
  return text;
}

}  // namespace

std::string print_shape(const std::vector<std::uint64_t>& shape) { return print_dims(shape, false); }

std::string print_shape(const Value& value) { return print_dims(value.shape, value.dynamic_rows); }

std::string print(const Program& program, const Graph& graph) {
  std::string text = "graph " + graph.name + ", max_rows=" + std::to_string(graph.max_rows) + "\n";
  for (const Op& op : graph.ops)
    text += print_list(program, op.out) + " = " + std::string(name(op.kind)) + "(" +
            print_list(program, op.in) + ")" + print_attrs(op) + "\n";
  return text;
}

std::string print(const Program& program, const Plan& plan) {
  std::string text = "arena " + std::to_string(plan.arena_bytes) + " bytes\n";
  for (const Placement& p : plan.placements) {
    text += "[" + std::to_string(p.offset) + ", " + std::to_string(p.offset + p.bytes) + ") ops " +
            std::to_string(p.first_op) + ".." + std::to_string(p.last_op) + " ";
    text += p.value == kNoValue ? "scratch"
                                : "%" + std::to_string(p.value) + " " +
                                      (p.value < program.values.size() ? program.values[p.value].name : "?");
    text += "\n";
  }
  return text;
}

}  // namespace tessera
