// matmul and embedding: a matrix in any weight type.
#include <algorithm>

#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;

constexpr OpTensorInfo kMatmulIn[] = {
    {"X", kReals, "(..., k), or (batch..., rows, k) with a W of matrices", false, {}},
    {"W", kWeights, "(n, k), or matrices: (batch..., n, k)", false, "read in its own type"},
    {"bias", kReals, "(n), or one for each matrix: (batch..., n) with W's", true, {}},
    {"W_up", kWeights, "like W", true, "W's type; makes the product gated"},
    {"bias_up", kReals, "(n), or one for each matrix: (batch..., n) with W's", true, {}},
    {"residual", kReals, "like Y", true, "X's type; added last"}};
constexpr OpTensorInfo kMatmulOut[] = {
    {"Y", "like X", "(..., n), or (batch..., rows, n) with batch dimensions broadcast", false, {}}};
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
    {"position", Kind::integer, "0", ">= 0", "of a sequence's first id; with positions", 0, 4294967295.0}};

}  // namespace

ValueId weight_of(OpProgram& p, const Arguments& args, std::string_view name, DType type) {
  return weight_of(p, args, name, type, args.in(name).shape());
}

ValueId weight_of(OpProgram& p, const Arguments& args, std::string_view name, DType type,
                  const std::vector<std::uint64_t>& shape) {
  const OpInput& in = args.in(name);
  if (in.real() == type) return p.weight(std::string(name), type, shape, in.tensor->data);
  std::vector<std::byte> bytes;
  if (!args.shapes_only()) bytes = encode(type, p.floats(name));
  return p.weight(std::string(name), type, shape, {}, std::move(bytes));
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
    "Batch dimensions of X and of a W of (batch..., n, k) are broadcast as numpy.matmul has it: aligned at\n"
    "the last, a missing one or one of 1 is repeated. W's last may also be a divisor of X's: then as many\n"
    "products in a row share a matrix, as query heads share a key head. Dimensions that X alone, W alone or\n"
    "both have may come in two runs, and one more of X's at the end.\n"
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

// Dimensions in a row that X alone, W alone or both have.
struct Level {
  std::uint64_t extent = 1;
  bool x = true, w = true;
};

// What a matmul multiplies: X of (levels..., rows, k), 1 for a level that it does not have, by W of
// (levels..., n, k) likewise; with rows_first X is (rows, level, k). The op's Y is `y`.
struct MatmulSizes {
  std::vector<Level> levels = {};
  std::uint64_t rows = 0, n = 0, k = 0;
  bool rows_first = false;
  std::vector<std::uint64_t> y = {};

  std::vector<std::uint64_t> activations(std::uint64_t columns, bool of_x) const {
    std::vector<std::uint64_t> shape;
    for (const Level& level : levels) shape.push_back(level.x || !of_x ? level.extent : 1);
    shape.insert(rows_first ? shape.begin() : shape.end(), rows);
    shape.push_back(columns);
    return shape;
  }
  std::vector<std::uint64_t> matrices() const {
    std::vector<std::uint64_t> shape;
    for (const Level& level : levels) shape.push_back(level.w ? level.extent : 1);
    shape.insert(shape.end(), {n, k});
    return shape;
  }

  void add(const Level& level) {
    if (level.extent == 1) return;
    if (!levels.empty() && levels.back().x == level.x && levels.back().w == level.w)
      levels.back().extent *= level.extent;
    else
      levels.push_back(level);
  }
};

using Dims = std::span<const std::uint64_t>;

// Aligned at the last, from the first on; false where they do not fit.
bool add_batch(Dims x, Dims w, MatmulSizes& s) {
  const std::size_t rank = std::max(x.size(), w.size());
  const auto dim = [rank](Dims of, std::size_t i) {
    return i + of.size() < rank ? 1 : of[i + of.size() - rank];
  };
  for (std::size_t i = 0; i < rank; ++i) {
    const std::uint64_t x_dim = dim(x, i), w_dim = dim(w, i), both = std::min(x_dim, w_dim);
    if (x_dim != w_dim && both != 1 && (i + 1 < rank || x_dim % w_dim != 0)) return false;
    s.y.push_back(std::max(x_dim, w_dim));
    s.add({both, true, true});
    s.add({x_dim / both, true, false});
    s.add({w_dim / both, false, true});
  }
  return true;
}

// Sizes of a W of several matrices.
Result<void> add_matrices(const Arguments& args, MatmulSizes& s) {
  const std::vector<std::uint64_t>& x = args.in("X").shape();
  const std::vector<std::uint64_t>& w = args.in("W").shape();
  const auto refuse = [&](const std::string& why) {
    return args.refuse("X is " + shape_text(x) + ", W is " + shape_text(w) + ": " + why);
  };
  if (s.rows_first) {
    if (w.size() != 3 || x.size() < 3 || w[0] != x[x.size() - 2])
      return refuse("with layout rows_first they must be (rows..., batch, k) and (batch, n, k)");
    s.add({w[0], true, true});
    s.rows = args.in("X").elems / s.k / w[0];
    s.y.assign(x.begin(), x.end() - 1);
    s.y.push_back(s.n);
    return {};
  }
  if (!add_batch(Dims(x).first(x.size() < 2 ? 0 : x.size() - 2), Dims(w).first(w.size() - 2), s))
    return refuse("batch dimensions must be equal or 1, or W's last a divisor of X's");
  s.rows = x.size() < 2 ? 1 : x[x.size() - 2];
  if (x.size() > 1) s.y.push_back(s.rows);
  s.y.push_back(s.n);
  if (!s.levels.empty() && !s.levels.back().w) {  // further rows by the same matrix
    s.rows *= s.levels.back().extent;
    s.levels.pop_back();
  }
  if (s.levels.size() > 2)
    return refuse("batch dimensions that X alone, W alone or both have come in " +
                  std::to_string(s.levels.size()) + " runs, they may in 2");
  return {};
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
  if (w.rank() > 2) {
    TSR_CHECK(add_matrices(args, s));
    return s;
  }
  if (args.given("layout")) return args.refuse("layout is of a W of (batch, n, k), W has 2 dimensions");
  s.rows = x.elems / s.k;
  s.y = x.shape();
  s.y.back() = s.n;
  return s;
}

// A bias of every product, or of each matrix of W.
Result<void> check_biases(const Arguments& args, std::string_view bias) {
  const OpInput* in = args.find(bias);
  const std::vector<std::uint64_t>& w = args.in("W").shape();
  const std::vector<std::uint64_t> each(w.begin(), w.end() - 1), one{each.back()};
  if (in == nullptr || in->shape() == one || in->shape() == each) return {};
  return args.refuse(std::string(bias) + " is " + shape_text(in->shape()) + ", it must be " +
                     shape_text(one) + (each == one ? "" : " or " + shape_text(each)));
}

Result<void> check_gate(const Arguments& args) {
  const OpInput &w = args.in("W"), *up = args.find("W_up");
  if (up != nullptr && (up->shape() != w.shape() || up->type() != w.type()))
    return args.refuse("W_up is " + std::string(up->type()) + " " + shape_text(up->shape()) + ", W is " +
                       std::string(w.type()) + " " + shape_text(w.shape()));
  if (args.has("bias_up") && up == nullptr) return args.refuse("bias_up needs W_up");
  TSR_CHECK(check_biases(args, "bias"));
  return check_biases(args, "bias_up");
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
  TSR_CHECK(check_gate(args));
  const OpInput& x = args.in("X");
  const std::string wanted = args.choice("weight_type");
  const DType type = wanted == "stored" ? args.in("W").real() : *parse_dtype(wanted);
  if (s.k % info(type).block_elems != 0)
    return args.refuse("W has rows of " + std::to_string(s.k) + ", which are no whole blocks of " + wanted);
  TSR_CHECK(check_residual(args, s.y));

  OpProgram p(args, "matmul");
  const DType io = x.type() == "F16" ? DType::f16 : DType::f32;
  const std::vector<std::uint64_t> y_shape = s.activations(s.n, false), w_shape = s.matrices();
  // Of two matrices both have a bias, or none, and both one of all products or neither.
  const bool any_bias = args.has("bias") || args.has("bias_up"), gated = args.has("W_up");
  const auto several = [&](std::string_view name) { return args.has(name) && args.in(name).rank() > 1; };
  std::vector<std::uint64_t> bias_shape{s.n};
  if (several("bias") || several("bias_up")) bias_shape.assign(w_shape.begin(), w_shape.end() - 1);
  const auto bias = [&](std::string_view name, bool there) {
    if (!there) return kNoValue;
    const std::vector<float> one = args.has(name) ? p.floats(name) : std::vector<float>(s.n);
    const std::uint64_t elems = product(bias_shape).value_or(0);
    std::vector<float> all;
    while (all.size() < elems) all.insert(all.end(), one.begin(), one.end());
    return p.constant(std::string(name), bias_shape, std::move(all));
  };
  std::vector<ValueId> operands{p.given("X", io, s.activations(s.k, true)),
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
  attrs.rows_first = s.rows_first && !s.levels.empty();
  if (args.choice("precision") == "mixed") attrs.precision = Precision::mixed;
  p.op(OpKind::matmul, attrs, std::move(operands), {y});
  p.output("Y", x.type(), s.y, y);
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
  // A sequence's tokens lie at their positions.
  const std::uint64_t before = places.batch ? 0 : places.position;
  tokens.insert(tokens.begin(), before, 0);
  OpProgram p(args, "embedding");
  const ValueId words = p.words("ids", {before + ids.elems}, std::move(tokens));
  const ValueId matrix = weight_of(p, args, "table", table.real());
  const ValueId y = p.add("Y", Storage::output, DType::f32, {ids.elems, d});
  const OpInput* rows = args.find("positions");
  const ValueId added =
      rows == nullptr ? kNoValue : p.constant("positions", rows->shape(), p.floats("positions"));
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
