// feed_forward and mlp: products one after the other.
#include "base/mlp.h"
#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;

constexpr std::string_view kActs = "none|gelu_erf|gelu_tanh|silu|relu|relu2|sigmoid";
constexpr OpAttributeInfo kWeightType{"weight_type", Kind::choice, "stored",
                                      "stored|F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q5_0|Q5_1",
                                      "matrices are encoded as this type first, on the host"};

constexpr OpTensorInfo kFeedForwardIn[] = {
    {"X", kReals, "(..., k)", false, {}},
    {"W", kWeights, "(hidden, k)", false, "read in its own type"},
    {"bias", kReals, "(hidden)", true, {}},
    {"W_up", kWeights, "(hidden, k)", true, "W's type; makes the block gated"},
    {"bias_up", kReals, "(hidden)", true, {}},
    {"W_down", kWeights, "(n, hidden)", false, {}},
    {"bias_down", kReals, "(n)", true, {}},
    {"residual", kReals, "(..., n)", true, "X's type; added last"}};
constexpr OpTensorInfo kFeedForwardOut[] = {{"Y", "like X", "(..., n)", false, {}}};
constexpr OpAttributeInfo kFeedForwardAttrs[] = {
    {"act", Kind::choice, "relu", kActs,
     "the activation: with W_up, sigmoid makes GLU, silu SwiGLU, gelu GEGLU"},
    {"precision", Kind::choice, "f32", "f32|mixed",
     "mixed: X, H and weights may be rounded to 16 bits, or X and H to blocks of 8-bit integers, where that "
     "is "
     "faster"},
    kWeightType};

constexpr OpTensorInfo matrix(std::string_view name, std::string_view shape, bool optional) {
  return {name, kWeights, shape, optional, optional ? "the type of W1" : "read in its own type"};
}
constexpr OpTensorInfo vector(std::string_view name, std::string_view shape) {
  return {name, kReals, shape, true, {}};
}
constexpr OpTensorInfo kMlpIn[] = {{"X", kReals, "(..., n0)", false, {}},
                                   matrix("W1", "(n1, n0)", false),
                                   vector("bias1", "(n1)"),
                                   matrix("W2", "(n2, n1)", true),
                                   vector("bias2", "(n2)"),
                                   matrix("W3", "(n3, n2)", true),
                                   vector("bias3", "(n3)"),
                                   matrix("W4", "(n4, n3)", true),
                                   vector("bias4", "(n4)"),
                                   matrix("W5", "(n5, n4)", true),
                                   vector("bias5", "(n5)"),
                                   matrix("W6", "(n6, n5)", true),
                                   vector("bias6", "(n6)"),
                                   matrix("W7", "(n7, n6)", true),
                                   vector("bias7", "(n7)"),
                                   matrix("W8", "(n8, n7)", true),
                                   vector("bias8", "(n8)"),
                                   matrix("W9", "(n9, n8)", true),
                                   vector("bias9", "(n9)"),
                                   matrix("W10", "(n10, n9)", true),
                                   vector("bias10", "(n10)"),
                                   matrix("W11", "(n11, n10)", true),
                                   vector("bias11", "(n11)"),
                                   matrix("W12", "(n12, n11)", true),
                                   vector("bias12", "(n12)"),
                                   matrix("W13", "(n13, n12)", true),
                                   vector("bias13", "(n13)"),
                                   matrix("W14", "(n14, n13)", true),
                                   vector("bias14", "(n14)"),
                                   matrix("W15", "(n15, n14)", true),
                                   vector("bias15", "(n15)")};
static_assert(std::size(kMlpIn) == 1 + 2 * kMostMlpLayers);
constexpr OpTensorInfo kMlpOut[] = {{"Y", "like X", "(..., n of the last layer)", false, {}}};
constexpr OpAttributeInfo kMlpAttrs[] = {{"act", Kind::choice, "relu", kActs, "of all layers but the last"},
                                         {"last_act", Kind::choice, "none", kActs, "of the last layer"},
                                         kWeightType};

// The type that a matrix is used in; its rows are whole blocks of it.
Result<DType> type_of(const Arguments& args, std::string_view name) {
  const OpInput& in = args.in(name);
  const std::string wanted = args.choice("weight_type");
  const DType type = wanted == "stored" ? in.real() : *parse_dtype(wanted);
  if (in.shape()[1] % info(type).block_elems != 0)
    return args.refuse(std::string(name) + " has rows of " + std::to_string(in.shape()[1]) +
                       ", which are no whole blocks of " + std::string(info(type).name));
  return type;
}

// `name` is (n, k); what says where k comes from.
Result<void> check_matrix(const Arguments& args, std::string_view name, std::uint64_t k,
                          const std::string& what) {
  const OpInput& in = args.in(name);
  if (in.rank() == 2 && in.shape()[1] == k) return {};
  return args.refuse(std::string(name) + " is " + shape_text(in.shape()) + ", it must be (n, " +
                     std::to_string(k) + "): " + what);
}

Result<std::uint64_t> columns_of_x(const Arguments& args) {
  const OpInput& x = args.in("X");
  if (x.rank() == 0) return args.refuse("X has no dimensions");
  return x.shape().back();
}

Result<void> check_feed_forward(const Arguments& args) {
  TSR_TRY(const std::uint64_t k, columns_of_x(args));
  TSR_CHECK(check_matrix(args, "W", k, "X has rows of that length"));
  const OpInput &w = args.in("W"), *up = args.find("W_up");
  const std::uint64_t hidden = w.shape()[0];
  if (up != nullptr && (up->shape() != w.shape() || up->type() != w.type()))
    return args.refuse("W_up is " + std::string(up->type()) + " " + shape_text(up->shape()) + ", W is " +
                       std::string(w.type()) + " " + shape_text(w.shape()));
  if (args.has("bias_up") && up == nullptr) return args.refuse("bias_up needs W_up");
  TSR_CHECK(check_matrix(args, "W_down", hidden, "W has as many rows"));
  const std::uint64_t n = args.in("W_down").shape()[0];
  TSR_CHECK(check_bias(args, "bias", hidden));
  TSR_CHECK(check_bias(args, "bias_up", hidden));
  TSR_CHECK(check_bias(args, "bias_down", n));
  const OpInput &x = args.in("X"), *residual = args.find("residual");
  std::vector<std::uint64_t> shape = x.shape();
  shape.back() = n;
  if (residual != nullptr && (residual->shape() != shape || residual->type() != x.type()))
    return args.refuse("residual is " + std::string(residual->type()) + " " + shape_text(residual->shape()) +
                       ", it must be " + std::string(x.type()) + " " + shape_text(shape));
  return {};
}

DType io_of(const Arguments& args) { return args.in("X").type() == "F16" ? DType::f16 : DType::f32; }

}  // namespace

const OpInfo kFeedForwardOp{
    "feed_forward",
    "The feed-forward block of a transformer, plain or gated",
    "Y = H W_down^T + bias_down [+ residual], H = act(X W^T + bias), with W_up times (X W_up^T + bias_up).\n"
    "In one kernel, which never writes H, where that is faster on the device; else two products. Sums are "
    "F32. X of BF16 and Y like it are converted from and to F32 on the host.",
    kFeedForwardIn,
    kFeedForwardOut,
    kFeedForwardAttrs};
const OpInfo kMlpOp{
    "mlp",
    "A small network of any widths in one dispatch",
    "H = act(H W^T + bias), layer after layer, from X to Y.\n"
    "Activations stay on chip where they fit; else it is a product a layer. Sums are F32. X of "
    "BF16 and Y like it are converted from and to F32 on the host.",
    kMlpIn,
    kMlpOut,
    kMlpAttrs};

Result<BuiltOp> build_feed_forward(const Arguments& args) {
  TSR_CHECK(check_feed_forward(args));
  TSR_TRY(const DType type, type_of(args, "W"));
  TSR_TRY(const DType down_type, type_of(args, "W_down"));
  const OpInput& x = args.in("X");
  const std::uint64_t k = x.shape().back(), rows = x.elems / k;
  const std::uint64_t hidden = args.in("W").shape()[0], n = args.in("W_down").shape()[0];
  OpProgram p(args, "feed_forward");
  const DType io = io_of(args);
  // Of two matrices both have a bias, or none.
  const bool any_bias = args.has("bias") || args.has("bias_up"), gated = args.has("W_up");
  const auto bias = [&](std::string_view name, std::uint64_t size, bool there) {
    if (!there) return kNoValue;
    return bias_of(p, args, name, size);
  };
  std::vector<ValueId> operands{p.given("X", io, {rows, k}),
                                weight_of(p, args, "W", type),
                                bias("bias", hidden, any_bias),
                                gated ? weight_of(p, args, "W_up", type) : kNoValue,
                                bias("bias_up", hidden, any_bias && gated),
                                weight_of(p, args, "W_down", down_type),
                                bias("bias_down", n, args.has("bias_down")),
                                args.has("residual") ? p.given("residual", io, {rows, n}) : kNoValue,
                                kNoValue};
  const ValueId y = p.add("Y", Storage::output, io, {rows, n});
  OpAttrs attrs;
  attrs.act = parse_activation(args.choice("act"));
  if (args.choice("precision") == "mixed") attrs.precision = Precision::mixed;
  p.op(OpKind::feed_forward, attrs, std::move(operands), {y});
  std::vector<std::uint64_t> shape = x.shape();
  shape.back() = n;
  p.output("Y", x.type(), std::move(shape), y);
  return p.finish({});
}

namespace {

// Layers that are there, each fit for the one before.
Result<std::size_t> count_layers(const Arguments& args) {
  TSR_TRY(std::uint64_t width, columns_of_x(args));
  std::size_t layers = 0;
  for (std::size_t i = 0; i < kMostMlpLayers; ++i) {
    const std::string_view name = kMlpIn[1 + 2 * i].name, bias = kMlpIn[2 + 2 * i].name;
    if (!args.has(name)) {
      if (args.has(bias)) return args.refuse(std::string(bias) + " needs " + std::string(name));
      continue;
    }
    if (layers != i)
      return args.refuse(std::string(name) + " needs " + std::string(kMlpIn[1 + 2 * layers].name));
    const std::string before =
        i == 0 ? "X has rows of that length" : std::string(kMlpIn[2 * i - 1].name) + " has as many rows";
    TSR_CHECK(check_matrix(args, name, width, before));
    if (args.in(name).type() != args.in("W1").type())
      return args.refuse(std::string(name) + " is " + std::string(args.in(name).type()) + ", W1 is " +
                         std::string(args.in("W1").type()));
    width = args.in(name).shape()[0];
    TSR_CHECK(check_bias(args, bias, width));
    TSR_CHECK(type_of(args, name));
    ++layers;
  }
  return layers;
}

}  // namespace

Result<BuiltOp> build_mlp(const Arguments& args) {
  TSR_TRY(const std::size_t layers, count_layers(args));
  TSR_TRY(const DType type, type_of(args, "W1"));
  const OpInput& x = args.in("X");
  const std::uint64_t k = x.shape().back(), rows = x.elems / k;
  OpProgram p(args, "mlp");
  std::vector<ValueId> operands{p.given("X", io_of(args), {rows, k})};
  OpAttrs attrs;
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string_view name = kMlpIn[1 + 2 * i].name, bias = kMlpIn[2 + 2 * i].name;
    operands.push_back(weight_of(p, args, name, type));
    operands.push_back(args.has(bias) ? bias_of(p, args, bias, args.in(name).shape()[0]) : kNoValue);
    attrs.acts.push_back(parse_activation(args.choice(i + 1 == layers ? "last_act" : "act")));
  }
  std::vector<std::uint64_t> shape = x.shape();
  shape.back() = args.in(kMlpIn[2 * layers - 1].name).shape()[0];
  const ValueId y = p.add("Y", Storage::output, io_of(args), {rows, shape.back()});
  p.op(OpKind::mlp, attrs, std::move(operands), {y});
  p.output("Y", x.type(), std::move(shape), y);
  return p.finish({});
}

}  // namespace tessera
