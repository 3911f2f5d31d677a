#include "models/builder.h"

namespace tessera {

ValueId add_value(Program& program, Value value) {
  program.values.push_back(std::move(value));
  return static_cast<ValueId>(program.values.size() - 1);
}

ValueId add_value(Program& program, const std::string& name, Storage storage, DType dtype,
                  std::vector<std::uint64_t> shape) {
  Value value;
  value.name = name;
  value.storage = storage;
  value.dtype = dtype;
  value.shape = std::move(shape);
  return add_value(program, std::move(value));
}

GraphBuilder::GraphBuilder(Program& program, std::string name, std::uint32_t max_rows, bool dynamic_rows)
    : program_(program), dynamic_rows_(dynamic_rows) {
  graph_.name = std::move(name);
  graph_.max_rows = max_rows;
}

ValueId GraphBuilder::new_value(const std::string& name, std::uint64_t rows, std::uint64_t dim,
                                bool dynamic_rows) {
  Value value;
  value.name = name;
  value.shape = {rows, dim};
  value.dynamic_rows = dynamic_rows;
  return add_value(program_, std::move(value));
}

// The rows of `x`; `dim` columns, or as many as x when 0.
ValueId GraphBuilder::like(const std::string& name, ValueId x, std::uint64_t dim) {
  const Value& value = program_.values[x];
  return new_value(name, value.shape[0], dim ? dim : value.last_dim(), value.dynamic_rows);
}

void GraphBuilder::op(OpKind kind, const std::string& name, const OpAttrs& attrs, std::vector<ValueId> in,
                      std::vector<ValueId> out) {
  graph_.ops.push_back({kind, name, attrs, std::move(in), std::move(out)});
}

ValueId GraphBuilder::embedding(const std::string& name, ValueId tokens, ValueId table, ValueId positions,
                                const OpAttrs& attrs) {
  const std::uint64_t rows = attrs.batch ? program_.values[tokens].shape[0] : graph_.max_rows;
  const ValueId out = new_value(name, rows, program_.values[table].last_dim(), dynamic_rows_);
  op(OpKind::embedding, name, attrs, {tokens, program_.state, table, positions}, {out});
  return out;
}

ValueId GraphBuilder::layer_norm(const std::string& name, ValueId x, ValueId weight, ValueId bias,
                                 float eps) {
  const ValueId out = like(name, x);
  OpAttrs attrs;
  attrs.layer_norm = true;
  attrs.eps = eps;
  op(OpKind::norm, name, attrs, {x, weight, bias, kNoValue}, {out, kNoValue});
  return out;
}

ValueId GraphBuilder::rms_norm(const std::string& name, ValueId x, ValueId weight, float eps) {
  const ValueId out = like(name, x);
  OpAttrs attrs;
  attrs.eps = eps;
  op(OpKind::norm, name, attrs, {x, weight, kNoValue, kNoValue}, {out, kNoValue});
  return out;
}

ValueId GraphBuilder::matmul(const std::string& name, ValueId x, ValueId weight, ValueId bias, ValueId out) {
  if (out == kNoValue) out = like(name, x, program_.values[weight].shape[0]);
  op(OpKind::matmul, name, {}, {x, weight, bias, kNoValue, kNoValue, kNoValue, kNoValue}, {out});
  return out;
}

ValueId GraphBuilder::rope(const std::string& name, ValueId x, ValueId table, const OpAttrs& attrs) {
  const ValueId out = like(name, x);
  op(OpKind::rope, name, attrs, {x, table, program_.state}, {out});
  return out;
}

void GraphBuilder::kv_append(const std::string& name, ValueId x, ValueId cache, const OpAttrs& attrs,
                             ValueId table) {
  op(OpKind::kv_append, name, attrs, {x, program_.state, cache, table}, {cache});
}

ValueId GraphBuilder::attention(const std::string& name, ValueId q, ValueId k, ValueId v,
                                const AttentionAttrs& attrs, const Extras& extras) {
  const ValueId out = like(name, q, std::uint64_t{attrs.heads} * attrs.v_dim);
  std::vector<ValueId> in(static_cast<std::size_t>(AttentionIn::count), kNoValue);
  const auto set = [&](AttentionIn which, ValueId id) { in[static_cast<std::size_t>(which)] = id; };
  set(AttentionIn::q, q);
  set(AttentionIn::k, k);
  set(AttentionIn::v, v);
  set(AttentionIn::state, extras.state);
  set(AttentionIn::lengths, extras.lengths);
  set(AttentionIn::table, extras.table);
  OpAttrs all;
  all.attention = attrs;
  op(OpKind::attention, name, all, std::move(in), {out, kNoValue, kNoValue});
  return out;
}

ValueId GraphBuilder::add(const std::string& name, ValueId a, ValueId b) {
  const ValueId out = like(name, a);
  op(OpKind::add, name, {}, {a, b}, {out});
  return out;
}

ValueId GraphBuilder::activation(const std::string& name, ValueId x, Activation act) {
  const ValueId out = like(name, x);
  OpAttrs attrs;
  attrs.act = act;
  op(OpKind::activation, name, attrs, {x}, {out});
  return out;
}

ValueId GraphBuilder::glu(const std::string& name, ValueId gate, ValueId up, Activation act) {
  const ValueId out = like(name, gate);
  OpAttrs attrs;
  attrs.act = act;
  op(OpKind::glu, name, attrs, {gate, up}, {out});
  return out;
}

void GraphBuilder::last_row(ValueId x, ValueId out) {
  op(OpKind::last_row, "last_row", {}, {x, program_.state, kNoValue}, {out});
}

void GraphBuilder::sample(ValueId logits, ValueId tokens, ValueId sampler) {
  op(OpKind::sample, "sample", {}, {logits, tokens, program_.state, sampler}, {tokens, program_.state});
}

void GraphBuilder::advance() {
  OpAttrs attrs;
  attrs.chunk = graph_.max_rows;
  op(OpKind::advance, "advance", attrs, {program_.state}, {program_.state});
}

std::uint32_t GraphBuilder::finish() {
  program_.graphs.push_back(std::move(graph_));
  return static_cast<std::uint32_t>(program_.graphs.size() - 1);
}

}  // namespace tessera
