#include "graph/graph.h"

#include <algorithm>

#include "base/cache_row.h"

namespace tessera {

std::string_view name(OpKind kind) {
  switch (kind) {
    case OpKind::embedding: return "embedding";
    case OpKind::norm: return "norm";
    case OpKind::matmul: return "matmul";
    case OpKind::feed_forward: return "feed_forward";
    case OpKind::mlp: return "mlp";
    case OpKind::rope: return "rope";
    case OpKind::kv_append: return "kv_append";
    case OpKind::rope_append: return "rope_append";
    case OpKind::qkv_append: return "qkv_append";
    case OpKind::attention: return "attention";
    case OpKind::linear_attention: return "linear_attention";
    case OpKind::add: return "add";
    case OpKind::activation: return "activation";
    case OpKind::glu: return "glu";
    case OpKind::softmax: return "softmax";
    case OpKind::last_row: return "last_row";
    case OpKind::sample: return "sample";
    case OpKind::advance: return "advance";
  }
  return "unknown";
}

std::string_view name(Activation act) {
  switch (act) {
    case Activation::none: return "none";
    case Activation::silu: return "silu";
    case Activation::gelu_tanh: return "gelu_tanh";
    case Activation::gelu_erf: return "gelu_erf";
    case Activation::relu: return "relu";
    case Activation::relu2: return "relu2";
    case Activation::sigmoid: return "sigmoid";
  }
  return "unknown";
}

std::string_view name(UpdateRule rule) {
  switch (rule) {
    case UpdateRule::linear: return "linear";
    case UpdateRule::gated: return "gated";
    case UpdateRule::delta: return "delta";
    case UpdateRule::gated_delta: return "gated_delta";
  }
  return "unknown";
}

std::string_view name(FeatureMap map) {
  switch (map) {
    case FeatureMap::none: return "none";
    case FeatureMap::elu_plus_one: return "elu_plus_one";
    case FeatureMap::relu: return "relu";
    case FeatureMap::exp: return "exp";
  }
  return "unknown";
}

std::uint64_t RowOrder::source(std::uint64_t row) const {
  if (rope_dims == 0 || row % head_dim >= rope_dims) return row;
  const std::uint64_t d = row % head_dim, pair = d / 4 * 2 + d % 2;
  return row - d + pair + (d % 4 < 2 ? 0 : rope_dims / 2);
}

std::uint64_t Value::elems() const {
  std::uint64_t n = 1;
  for (std::uint64_t dim : shape) n *= dim;
  return n;
}

const Graph* Program::find(std::string_view graph) const {
  auto at = std::ranges::find(graphs, graph, &Graph::name);
  return at == graphs.end() ? nullptr : &*at;
}

bool Program::uses(ValueId value) const {
  const auto in = [&](const std::vector<ValueId>& ids) { return std::ranges::find(ids, value) != ids.end(); };
  for (const Graph& graph : graphs)
    if (std::ranges::any_of(graph.ops, [&](const Op& op) { return in(op.in) || in(op.out); })) return true;
  return false;
}

bool Program::has_dynamic_rows(const Op& op) const {
  const std::vector<ValueId>& ids = op.kind == OpKind::kv_append ? op.in : op.out;
  return !ids.empty() && ids[0] < values.size() && values[ids[0]].dynamic_rows;
}

std::uint64_t row_bytes(const Value& weight) {
  const std::uint64_t k = weight.shape.size() < 2 ? 1 : weight.last_dim();
  return file_bytes(k, info(weight.dtype));
}

std::uint64_t row_count(const Value& weight) {
  return weight.shape.size() < 2 ? weight.elems() : weight.elems() / weight.last_dim();
}

MatmulLayout matmul_layout(const Program& program, const Op& op) {
  const Value &x = program.values[op.in[0]], &w = program.values[op.in[1]];
  const std::size_t rank = w.shape.size();
  MatmulLayout p{.n = w.shape[rank - 2], .k = w.last_dim()};
  if (rank == 2) {
    p.rows = x.shape[0];
    p.x_row = p.k;
    p.y_row = p.n;
    return p;
  }
  const bool rows_first = op.attrs.rows_first;
  p.batch = w.shape[0];
  p.rows = x.shape[rows_first ? 0 : 1];
  p.x_row = rows_first ? p.batch * p.k : p.k;
  p.y_row = rows_first ? p.batch * p.n : p.n;
  p.x_batch = rows_first ? p.k : p.rows * p.k;
  p.y_batch = rows_first ? p.n : p.rows * p.n;
  p.w_batch = p.n;
  return p;
}

std::uint64_t value_bytes(const Value& value) {
  if (value.storage != Storage::cache) return file_bytes(value.elems(), info(value.dtype));
  return value.elems() / value.last_dim() * cache_row_bytes(value.dtype, value.last_dim());
}

Result<void> read_rows(const Program& program, ValueId weight, std::uint64_t first,
                       std::span<std::byte> out) {
  if (weight >= program.values.size() || !program.weights)
    return Error{Code::internal, "read_rows: value " + std::to_string(weight) + " cannot be read"};
  const Value& value = program.values[weight];
  const std::uint64_t bytes = row_bytes(value);
  if (value.storage != Storage::weight || value.shape.empty() || bytes == 0 || out.size() % bytes != 0 ||
      first > row_count(value) || out.size() / bytes > row_count(value) - first)
    return Error{Code::internal, "read_rows: " + std::to_string(out.size()) + " bytes from row " +
                                     std::to_string(first) + " are not rows of weight " + value.name + " " +
                                     print_shape(value)};
  if (value.parts.empty()) return program.weights->read(value, first, out);
  for (std::size_t i = 0; i < value.parts.size() && !out.empty(); ++i) {
    const ValueId part = value.parts[i];
    const std::uint64_t rows = program.values[part].shape[0];
    if (first >= rows) {
      first -= rows;
      continue;
    }
    const std::uint64_t take = std::min<std::uint64_t>(rows - first, out.size() / bytes);
    const RowOrder order = value.orders.empty() ? RowOrder{} : value.orders[i];
    if (order.rope_dims == 0)
      TSR_CHECK(read_rows(program, part, first, out.first(take * bytes)));
    else
      for (std::uint64_t row = 0; row < take; ++row)
        TSR_CHECK(read_rows(program, part, order.source(first + row), out.subspan(row * bytes, bytes)));
    out = out.subspan(take * bytes);
    first = 0;
  }
  return {};
}

void set_precision(Program& program, Precision precision) {
  for (Graph& graph : program.graphs)
    for (Op& op : graph.ops) {
      if (op.kind == OpKind::matmul || op.kind == OpKind::feed_forward) op.attrs.precision = precision;
      if (op.kind == OpKind::attention) op.attrs.attention.precision = precision;
    }
}

}  // namespace tessera
