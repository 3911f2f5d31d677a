// matmul and embedding: a matrix in any weight type.
#include <algorithm>

#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;

constexpr OpTensorInfo kMatmulIn[] = {
    {"X", kReals, "(..., k), or (batch..., rows, k) with a W of as many dimensions", false, {}},
    {"W", kWeights, "(n, k), or a matrix for each product: (batch..., n, k)", false, "read in its own type"},
    {"bias", kReals, "(n)", true, "of every product"},
    {"W_up", kWeights, "like W", true, "W's type; makes the product gated"},
    {"bias_up", kReals, "(n)", true, "of every product"},
    {"residual", kReals, "like Y", true, "X's type; added last"}};
constexpr OpTensorInfo kMatmulOut[] = {{"Y", "like X", "like X, with n for k", false, {}}};
constexpr OpAttributeInfo kMatmulAttrs[] = {
    {"act", Kind::choice, "none", "none|gelu_erf|gelu_tanh|silu|relu|relu2|sigmoid",
     "the activation: with W_up, sigmoid makes GLU, silu SwiGLU, gelu GEGLU"},
    {"scale", Kind::number, "1", "finite", "factor of the products"},
    {"precision", Kind::choice, "f32", "f32|mixed",
     "mixed: X and W may be rounded to 16 bits, or X to blocks of 8-bit integers, where that is faster"},
    {"weight_type", Kind::choice, "stored", "stored|F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q5_0|Q5_1",
     "W and W_up are encoded as this type first, on the host"},
    {"layout", Kind::choice, "batch_first", "batch_first|rows_first",
     "of X, Y and residual with a W of (batch, n, k); rows_first: X is (rows..., batch, k)"}};

constexpr OpTensorInfo kEmbeddingIn[] = {{"table", kWeights, "(vocab, d)", false, {}},
                                         {"ids", kIntegers, "any", false, "below vocab"},
                                         {"positions", kReals, "(context, d)", true,
                                          "added by the place of an id in its sequence: ids are (..., n) of "
                                          "one sequence, or (batch, 1)"}};
constexpr OpTensorInfo kEmbeddingOut[] = {{"Y", "F32", "(ids..., d)", false, {}}};
constexpr OpAttributeInfo kEmbeddingAttrs[] = {
    {"scale", Kind::number, "1", "any", "of the table's rows"},
    {"position", Kind::integer, "0", ">= 0", "of a sequence's first id; with positions", 0, kMostCount}};

}  // namespace

ValueId weight_of(OpProgram& p, const Arguments& args, std::string_view name, DType type) {
  return weight_of(p, args, name, type, args.in(name).shape());
}

ValueId weight_of(OpProgram& p, const Arguments& args, std::string_view name, DType type,
                  const std::vector<std::uint64_t>& shape) {
  const OpInput& in = args.in(name);
  if (in.real() == type) return p.weight(std::string(name), type, shape, in.tensor->data);
  std::vector<std::byte> bytes;
  if (args.known(name)) bytes = encode(type, p.floats(name));
  return p.weight(std::string(name), type, shape, {}, std::move(bytes));
}

ValueId bias_of(OpProgram& p, const Arguments& args, std::string_view name, std::uint64_t n) {
  std::string text(name);
  // A plan need not hold zeros.
  if (!args.has(name))
    return p.constant(std::move(text), {n}, std::vector<float>(args.shapes_only() ? 0 : n), {});
  return p.constant(text, {n}, p.floats(name), {text});
}

Result<void> check_bias(const Arguments& args, std::string_view bias, std::uint64_t n) {
  const OpInput* in = args.find(bias);
  if (in == nullptr || (in->rank() == 1 && in->elems == n)) return {};
  return args.refuse(std::string(bias) + " is " + shape_text(in->shape()) + ", it must be (" +
                     std::to_string(n) + ")");
}

const OpInfo kMatmulOp{
    "matmul",
    "Product with a matrix of weights, with bias, activation and gate",
    "Y = act(scale X W^T + bias), with W_up: act(scale X W^T + bias) * (scale X W_up^T + "
    "bias_up); + residual.\n"
    "A W of (batch..., n, k) has a matrix for each of X; its last batch dimension may be a "
    "divisor of X's:\nthen as many products in a row share a matrix, as query heads share a "
    "key head.\n"
    "Sums are F32. X of BF16 and Y like it are converted from and to F32 on the host.",
    kMatmulIn,
    kMatmulOut,
    kMatmulAttrs};
const OpInfo kEmbeddingOp{
    "embedding",
    "Rows of a table",
    "Y[i] = scale * table[ids[i]] + positions[position + i], as F32; of ids (batch, 1), "
    "each takes positions[position].",
    kEmbeddingIn,
    kEmbeddingOut,
    kEmbeddingAttrs};

namespace {

// What a matmul multiplies: `batch` products with a matrix each, of (batch, rows, k), with rows_first of
// (rows, batch, k).
struct MatmulSizes {
  std::uint64_t batch = 1, rows = 0, n = 0, k = 0;
  bool rows_first = false;

  std::vector<std::uint64_t> activations(std::uint64_t columns) const {
    if (batch == 1) return {rows, columns};
    return rows_first ? std::vector{rows, batch, columns} : std::vector{batch, rows, columns};
  }
};

// The matrices of W that take `x`'s products in turn; nullopt when its dimensions do not say how.
std::optional<std::uint64_t> matrices_of(const std::vector<std::uint64_t>& x,
                                         const std::vector<std::uint64_t>& w, bool rows_first) {
  if (rows_first)
    return w.size() == 3 && x.size() > 2 && w[0] == x[x.size() - 2] ? std::optional(w[0]) : std::nullopt;
  if (w.size() != x.size()) return std::nullopt;
  const std::size_t last = x.size() - 3;
  if (!std::equal(w.begin(), w.begin() + static_cast<std::ptrdiff_t>(last), x.begin()) ||
      x[last] % w[last] != 0)
    return std::nullopt;
  return product(std::span(w).first(last + 1));
}

Result<MatmulSizes> matmul_sizes(const Arguments& args) {
  const OpInput &x = args.in("X"), &w = args.in("W");
  const std::vector<std::uint64_t>& shape = w.shape();
  if (w.rank() < 2)
    return args.refuse("W is " + shape_text(shape) + ", it must be (n, k) or (batch..., n, k)");
  MatmulSizes s{.n = shape[w.rank() - 2], .k = shape.back()};
  if (x.rank() == 0 || x.shape().back() != s.k)
    return args.refuse("X is " + shape_text(x.shape()) + ", W is " + shape_text(shape) +
                       ": their last dimensions must be equal");
  s.rows_first = args.choice("layout") == "rows_first";
  if (w.rank() == 2) {
    if (args.given("layout")) return args.refuse("layout is of a W of (batch, n, k), W has 2 dimensions");
  } else {
    const auto matrices = matrices_of(x.shape(), shape, s.rows_first);
    if (!matrices)
      return args.refuse("X is " + shape_text(x.shape()) + ", W is " + shape_text(shape) +
                         (s.rows_first ? ": with layout rows_first they must be (rows..., batch, k) and "
                                         "(batch, n, k)"
                                       : ": W's batch dimensions must be X's, or the last a divisor of X's"));
    s.batch = *matrices;
  }
  s.rows = x.elems / s.k / s.batch;
  return s;
}

Result<void> check_gate(const Arguments& args, const MatmulSizes& s) {
  const OpInput &w = args.in("W"), *up = args.find("W_up");
  if (up != nullptr && (up->shape() != w.shape() || up->type() != w.type()))
    return args.refuse("W_up is " + std::string(up->type()) + " " + shape_text(up->shape()) + ", W is " +
                       std::string(w.type()) + " " + shape_text(w.shape()));
  if (args.has("bias_up") && up == nullptr) return args.refuse("bias_up needs W_up");
  TSR_CHECK(check_bias(args, "bias", s.n));
  return check_bias(args, "bias_up", s.n);
}

Result<void> check_residual(const Arguments& args, const std::vector<std::uint64_t>& shape) {
  const OpInput* residual = args.find("residual");
  const std::string_view type = args.in("X").type();
  if (residual == nullptr || (residual->shape() == shape && residual->type() == type)) return {};
  return args.refuse("residual is " + std::string(residual->type()) + " " + shape_text(residual->shape()) +
                     ", it must be " + std::string(type) + " " + shape_text(shape));
}

}  // namespace

Result<BuiltOp> build_matmul(const Arguments& args) {
  TSR_TRY(const MatmulSizes s, matmul_sizes(args));
  TSR_CHECK(check_gate(args, s));
  const OpInput& x = args.in("X");
  const std::string wanted = args.choice("weight_type");
  const DType type = wanted == "stored" ? args.in("W").real() : *parse_dtype(wanted);
  if (s.k % info(type).block_elems != 0)
    return args.refuse("W has rows of " + std::to_string(s.k) + ", which are no whole blocks of " + wanted);
  std::vector<std::uint64_t> shape = x.shape();
  shape.back() = s.n;
  TSR_CHECK(check_residual(args, shape));

  OpProgram p(args, "matmul");
  const DType io = x.type() == "F16" ? DType::f16 : DType::f32;
  const std::vector<std::uint64_t> x_shape = s.activations(s.k), y_shape = s.activations(s.n);
  std::vector<std::uint64_t> w_shape{s.n, s.k};
  if (s.batch != 1) w_shape.insert(w_shape.begin(), s.batch);
  // Of two matrices both have a bias, or none.
  const bool any_bias = args.has("bias") || args.has("bias_up"), gated = args.has("W_up");
  const auto bias = [&](std::string_view name, bool there) {
    if (!there) return kNoValue;
    return bias_of(p, args, name, s.n);
  };
  std::vector<ValueId> operands{p.given("X", io, x_shape),
                                weight_of(p, args, "W", type, w_shape),
                                bias("bias", any_bias),
                                gated ? weight_of(p, args, "W_up", type, w_shape) : kNoValue,
                                bias("bias_up", any_bias && gated),
                                args.has("residual") ? p.given("residual", io, y_shape) : kNoValue,
                                kNoValue};
  const ValueId y = p.add("Y", Storage::output, io, y_shape);
  OpAttrs attrs;
  attrs.act = parse_activation(args.choice("act"));
  attrs.scale = static_cast<float>(args.number("scale"));
  attrs.rows_first = s.rows_first && s.batch != 1;
  if (args.choice("precision") == "mixed") attrs.precision = Precision::mixed;
  p.op(OpKind::matmul, attrs, std::move(operands), {y});
  p.output("Y", x.type(), std::move(shape), y);
  return p.finish({});
}

namespace {

// How the ids lie in sequences. Without positions they are one.
struct Places {
  bool batch = false;          // an id of each of several sequences
  std::uint32_t position = 0;  // of a sequence's first id
};

Result<Places> places_of(const Arguments& args, std::uint64_t d) {
  const OpInput &ids = args.in("ids"), *positions = args.find("positions");
  if (positions == nullptr) {
    if (args.given("position")) return args.refuse("position needs positions");
    return Places{};
  }
  if (positions->rank() != 2 || positions->shape()[1] != d)
    return args.refuse("positions is " + shape_text(positions->shape()) + ", it must be (context, " +
                       std::to_string(d) + ")");
  const std::uint64_t n = ids.rank() == 0 ? 1 : ids.shape().back();
  if (n != 1 && n != ids.elems)
    return args.refuse("ids is " + shape_text(ids.shape()) +
                       ": with positions it must be one sequence (..., n), or (batch, 1)");
  const auto first = static_cast<std::uint64_t>(args.integer("position"));
  if (first + n > positions->shape()[0])
    return args.refuse("position is " + std::to_string(first) + " and ids has " + std::to_string(n) +
                       " of a sequence, positions has " + std::to_string(positions->shape()[0]) + " rows");
  return Places{n != ids.elems, static_cast<std::uint32_t>(first)};
}

}  // namespace

Result<BuiltOp> build_embedding(const Arguments& args) {
  const OpInput &table = args.in("table"), &ids = args.in("ids");
  if (table.rank() != 2)
    return args.refuse("table is " + shape_text(table.shape()) + ", it must be (vocab, d)");
  const std::uint64_t vocab = table.shape()[0], d = table.shape()[1];
  TSR_TRY(std::vector<std::uint32_t> tokens,
          args.words("ids", vocab - 1, "the table has " + std::to_string(vocab) + " rows"));
  TSR_TRY(const Places places, places_of(args, d));
  // A sequence's tokens lie at their positions, with room for as many as there are.
  const OpInput* rows = args.find("positions");
  const std::uint64_t room = rows == nullptr || places.batch ? ids.elems : rows->shape()[0];
  if (args.known("ids")) {
    tokens.insert(tokens.begin(), places.batch ? 0 : places.position, 0);
    tokens.resize(room);
  }
  OpProgram p(args, "embedding");
  const ValueId words = p.words("ids", {room}, std::move(tokens), {"ids"});
  const ValueId matrix = weight_of(p, args, "table", table.real());
  const ValueId y = p.add("Y", Storage::output, DType::f32, {ids.elems, d});
  const ValueId added = rows == nullptr
                            ? kNoValue
                            : p.constant("positions", rows->shape(), p.floats("positions"), {"positions"});
  OpAttrs attrs;
  attrs.embedding_scale = static_cast<float>(args.number("scale"));
  attrs.batch = places.batch;
  p.op(OpKind::embedding, attrs, {words, p.state(), matrix, added}, {y});
  std::vector<std::uint64_t> shape = ids.shape();
  shape.push_back(d);
  p.output("Y", "F32", std::move(shape), y);
  return p.finish({.position = places.position, .rows = static_cast<std::uint32_t>(ids.elems)}, ids.elems);
}

}  // namespace tessera
