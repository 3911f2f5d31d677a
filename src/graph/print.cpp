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
      text += (i ? " %" : "%") + std::to_string(value.parts[i]);
    text += "]";
  }
  return text;
}

std::string print_list(const Program& program, const std::vector<ValueId>& ids) {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) text += (i ? ", " : "") + print_value(program, ids[i]);
  return text;
}

std::string print_attrs(const Op& op) {
  const OpAttrs& a = op.attrs;
  std::string text;
  auto put = [&](std::string_view key, const std::string& value) {
    text += " " + std::string(key) + "=" + value;
  };
  if (a.act != Activation::none) put("act", std::string(name(a.act)));
  if (op.kind == OpKind::norm) {
    if (a.layer_norm) put("layer_norm", "1");
    put("eps", number(a.eps));
  }
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
  if (op.kind == OpKind::attention) {
    put("scale", number(a.scale));
    if (a.causal) put("causal", "1");
    if (a.window) put("window", std::to_string(a.window));
  }
  return text;
}

}  // namespace

std::string print_shape(const Value& value) {
  std::string text = "(";
  for (std::size_t i = 0; i < value.shape.size(); ++i) {
    if (i) text += ",";
    text += i == 0 && value.dynamic_rows ? "rows" : std::to_string(value.shape[i]);
  }
  return text + ")";
}

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
