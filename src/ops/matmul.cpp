// matmul and embedding: a matrix in any weight type.
#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;

constexpr OpTensorInfo kMatmulIn[] = {{"X", kReals, "(..., k)", false, {}},
                                      {"W", kWeights, "(n, k)", false, "read in its own type"},
                                      {"bias", kReals, "(n)", true, {}},
                                      {"W_up", kWeights, "(n, k)", true, "W's type; makes the product gated"},
                                      {"bias_up", kReals, "(n)", true, {}},
                                      {"residual", kReals, "(..., n)", true, "X's type; added last"}};
constexpr OpTensorInfo kMatmulOut[] = {{"Y", "like X", "(..., n)", false, {}}};
constexpr OpAttributeInfo kMatmulAttrs[] = {
    {"act", Kind::choice, "none", "none|gelu_erf|gelu_tanh|silu|relu|relu2|sigmoid",
     "the activation: with W_up, sigmoid makes GLU, silu SwiGLU, gelu GEGLU"},
    {"scale", Kind::number, "1", "finite", "factor of the products"},
    {"precision", Kind::choice, "f32", "f32|mixed",
     "mixed: X and W may be rounded to 16 bits, or X to blocks of 8-bit integers, where that is faster"},
    {"weight_type", Kind::choice, "stored", "stored|F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q5_0|Q5_1",
     "W and W_up are encoded as this type first, on the host"}};

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
  const OpInput& in = args.in(name);
  if (in.real() == type) return p.weight(std::string(name), type, in.shape(), in.tensor->data);
  std::vector<std::byte> bytes;
  if (!args.shapes_only()) bytes = encode(type, p.floats(name));
  return p.weight(std::string(name), type, in.shape(), {}, std::move(bytes));
}

Result<void> check_bias(const Arguments& args, std::string_view bias, std::uint64_t n) {
  const OpInput* in = args.find(bias);
  if (in == nullptr || (in->rank() == 1 && in->elems == n)) return {};
  return args.refuse(std::string(bias) + " is " + shape_text(in->shape()) + ", it must be (" +
                     std::to_string(n) + ")");
}

const OpInfo kMatmulOp{"matmul",
                       "Product with a matrix of weights, with bias, activation and gate",
                       "Y = act(scale X W^T + bias), with W_up: act(scale X W^T + bias) * (scale X W_up^T + "
                       "bias_up); + residual.\n"
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

Result<BuiltOp> build_matmul(const Arguments& args) {
  const OpInput &x = args.in("X"), &w = args.in("W");
  if (w.rank() != 2) return args.refuse("W is " + shape_text(w.shape()) + ", it must be (n, k)");
  const std::uint64_t n = w.shape()[0], k = w.shape()[1];
  if (x.rank() == 0 || x.shape().back() != k)
    return args.refuse("X is " + shape_text(x.shape()) + ", W is " + shape_text(w.shape()) +
                       ": their last dimensions must be equal");
  const OpInput* up = args.find("W_up");
  if (up != nullptr && (up->shape() != w.shape() || up->type() != w.type()))
    return args.refuse("W_up is " + std::string(up->type()) + " " + shape_text(up->shape()) + ", W is " +
                       std::string(w.type()) + " " + shape_text(w.shape()));
  if (args.has("bias_up") && up == nullptr) return args.refuse("bias_up needs W_up");
  TSR_CHECK(check_bias(args, "bias", n));
  TSR_CHECK(check_bias(args, "bias_up", n));
  const std::string wanted = args.choice("weight_type");
  const DType type = wanted == "stored" ? w.real() : *parse_dtype(wanted);
  if (k % info(type).block_elems != 0)
    return args.refuse("W has rows of " + std::to_string(k) + ", which are no whole blocks of " + wanted);

  const OpInput* residual = args.find("residual");
  std::vector<std::uint64_t> shape = x.shape();
  shape.back() = n;
  if (residual != nullptr && (residual->shape() != shape || residual->type() != x.type()))
    return args.refuse("residual is " + std::string(residual->type()) + " " + shape_text(residual->shape()) +
                       ", it must be " + std::string(x.type()) + " " + shape_text(shape));

  OpProgram p(args, "matmul");
  const std::uint64_t rows = x.elems / k;
  const DType io = x.type() == "F16" ? DType::f16 : DType::f32;
  const ValueId in = p.given("X", io, {rows, k});
  // Of two matrices both have a bias, or none.
  const bool any_bias = args.has("bias") || args.has("bias_up");
  const auto bias = [&](std::string_view name, bool there) {
    if (!there) return kNoValue;
    return p.constant(std::string(name), {n}, args.has(name) ? p.floats(name) : std::vector<float>(n));
  };
  std::vector<ValueId> operands{in,
                                weight_of(p, args, "W", type),
                                bias("bias", any_bias),
                                up != nullptr ? weight_of(p, args, "W_up", type) : kNoValue,
                                bias("bias_up", any_bias && up != nullptr),
                                residual != nullptr ? p.given("residual", io, {rows, n}) : kNoValue,
                                kNoValue};
  const ValueId y = p.add("Y", Storage::output, io, {rows, n});
  OpAttrs attrs;
  attrs.act = parse_activation(args.choice("act"));
  attrs.scale = static_cast<float>(args.number("scale"));
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
