// softmax, rms_norm, layer_norm, activation, glu, add: f32 on the device, other types converted by the host.
#include <algorithm>

#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;

constexpr std::string_view kLikeX = "like X";

constexpr OpTensorInfo kSoftmaxIn[] = {{"input", kReals, "any", false, {}}};
constexpr OpTensorInfo kSoftmaxOut[] = {{"output", "like input", "like input", false, {}}};
constexpr OpAttributeInfo kSoftmaxAttrs[] = {
    {"axis", Kind::integer, "-1", "-rank to rank-1", "the dimension that sums to 1"}};

constexpr OpTensorInfo kRmsIn[] = {{"X", kReals, "any", false, {}},
                                   {"scale", kReals, "X's from axis on", false, {}}};
constexpr OpTensorInfo kLayerIn[] = {{"X", kReals, "any", false, {}},
                                     {"Scale", kReals, "X's from axis on", false, {}},
                                     {"B", kReals, "like Scale", true, {}}};
constexpr OpTensorInfo kNormOut[] = {{"Y", kLikeX, kLikeX, false, {}}};
constexpr OpAttributeInfo kNormAttrs[] = {
    {"axis", Kind::integer, "-1", "-rank to rank-1",
     "the first dimension that is normalised with those after it"},
    {"epsilon", Kind::number, "1e-05", ">= 0", "added to the mean of squares", 0}};

constexpr std::string_view kActs = "gelu_erf|gelu_tanh|silu|relu|relu2|sigmoid";
constexpr OpTensorInfo kActivationIn[] = {{"X", kReals, "any", false, {}}};
constexpr OpAttributeInfo kActivationAttrs[] = {{"act", Kind::choice, "gelu_erf", kActs, "the function"}};

constexpr OpTensorInfo kGluIn[] = {{"gate", kReals, "any", false, {}},
                                   {"up", kReals, "like gate", false, {}}};
constexpr OpTensorInfo kGluOut[] = {{"Y", "like gate", "like gate", false, {}}};
constexpr OpAttributeInfo kGluAttrs[] = {{"act", Kind::choice, "silu", kActs, "the function of the gate"}};

constexpr OpTensorInfo kAddIn[] = {{"A", kReals, "any", false, {}}, {"B", kReals, "like A", false, {}}};
constexpr OpTensorInfo kAddOut[] = {{"C", "like A", "like A", false, {}}};

// (rows, columns) for kernels that see elements alone.
std::vector<std::uint64_t> as_rows(const OpInput& input) {
  const std::uint64_t columns = input.rank() == 0 ? 1 : input.shape().back();
  return {input.elems / columns, columns};
}

Result<BuiltOp> build_norm(const Arguments& args, bool layer, std::string_view scale_name) {
  const OpInput& x = args.in("X");
  TSR_TRY(const std::size_t axis, axis_of(args, "axis", "X"));
  const std::span<const std::uint64_t> tail = std::span(x.shape()).subspan(axis);
  const std::uint64_t dim = *product(tail);
  for (const std::string_view name : {scale_name, std::string_view("B")}) {
    const OpInput* input = args.find(name);
    if (input != nullptr && !std::ranges::equal(input->shape(), tail))
      return args.refuse(std::string(name) + " is " + shape_text(input->shape()) + ", X from axis " +
                         std::to_string(axis) + " on is " + shape_text(tail));
  }
  OpProgram p(args, layer ? "layer_norm" : "rms_norm");
  const std::vector<std::uint64_t> shape{x.elems / dim, dim};
  const ValueId in = p.given("X", DType::f32, shape);
  const ValueId scale = bias_of(p, args, scale_name, dim);
  const ValueId bias = args.has("B") ? bias_of(p, args, "B", dim) : kNoValue;
  const ValueId y = p.add("Y", Storage::output, DType::f32, shape);
  OpAttrs attrs;
  attrs.layer_norm = layer;
  attrs.eps = static_cast<float>(args.number("epsilon"));
  p.op(OpKind::norm, attrs, {in, scale, bias, kNoValue}, {y, kNoValue});
  p.output("Y", x.type(), x.shape(), y);
  return p.finish({});
}

// One or two inputs of one shape, element by element.
Result<BuiltOp> build_elements(const Arguments& args, OpKind kind, Activation act, std::string_view a,
                               std::string_view b, std::string_view out) {
  const OpInput& first = args.in(a);
  if (!b.empty() && args.in(b).shape() != first.shape())
    return args.refuse(std::string(b) + " is " + shape_text(args.in(b).shape()) + ", " + std::string(a) +
                       " is " + shape_text(first.shape()));
  OpProgram p(args, std::string(name(kind)));
  std::vector<ValueId> in{p.given(a, DType::f32, as_rows(first))};
  if (!b.empty()) in.push_back(p.given(b, DType::f32, as_rows(first)));
  const ValueId y = p.add(std::string(out), Storage::output, DType::f32, as_rows(first));
  OpAttrs attrs;
  attrs.act = act;
  p.op(kind, attrs, std::move(in), {y});
  p.output(std::string(out), first.type(), first.shape(), y);
  return p.finish({});
}

}  // namespace

const OpInfo kSoftmaxOp{"softmax",
                        "Softmax along one axis",
                        "output_i = exp(input_i - max) / sum_j exp(input_j - max); a slice of nothing but "
                        "-infinity gives zeros.\nF16 and BF16 are converted from and to F32 on the host.",
                        kSoftmaxIn,
                        kSoftmaxOut,
                        kSoftmaxAttrs};
const OpInfo kRmsNormOp{
    "rms_norm",
    "RMSNormalization",
    "Y = X / sqrt(mean(X^2) + epsilon) * scale, the mean over the dimensions from axis on.\n"
    "F16 and BF16 are converted from and to F32 on the host.",
    kRmsIn,
    kNormOut,
    kNormAttrs};
const OpInfo kLayerNormOp{
    "layer_norm",
    "LayerNormalization",
    "Y = (X - mean) / sqrt(variance + epsilon) * Scale + B, both over the dimensions from "
    "axis on.\nF16 and BF16 are converted from and to F32 on the host.",
    kLayerIn,
    kNormOut,
    kNormAttrs};
const OpInfo kActivationOp{
    "activation",
    "An activation function, element by element",
    "gelu_erf: X Phi(X), Phi the normal distribution's; gelu_tanh: its tanh form; silu: X / "
    "(1 + exp(-X));\nrelu: max(X, 0); relu2: max(X, 0)^2; sigmoid: 1 / (1 + exp(-X)).\nF16 and BF16 are "
    "converted from and to F32 on the host.",
    kActivationIn,
    kNormOut,
    kActivationAttrs};
const OpInfo kGluOp{"glu",
                    "A gated linear unit's product",
                    "Y = act(gate) * up. F16 and BF16 are converted from and to F32 on the host.",
                    kGluIn,
                    kGluOut,
                    kGluAttrs};
const OpInfo kAddOp{"add",
                    "The sum of two tensors of one shape",
                    "C = A + B. F16 and BF16 are converted from and to F32 on the host.",
                    kAddIn,
                    kAddOut,
                    {}};

Activation parse_activation(std::string_view text) {
  for (Activation act : {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf, Activation::relu,
                         Activation::relu2, Activation::sigmoid})
    if (name(act) == text) return act;
  return Activation::none;
}

Result<std::size_t> axis_of(const Arguments& args, std::string_view attribute, std::string_view input) {
  const auto rank = static_cast<std::int64_t>(args.in(input).rank());
  const std::int64_t axis = args.integer(attribute);
  if (axis < -rank || axis >= rank)
    return args.refuse(std::string(attribute) + " is " + std::to_string(axis) + ", " + std::string(input) +
                       " has " + std::to_string(rank) + " dimensions");
  return static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
}

Result<BuiltOp> build_softmax(const Arguments& args) {
  const OpInput& x = args.in("input");
  TSR_TRY(const std::size_t axis, axis_of(args, "axis", "input"));
  const std::span<const std::uint64_t> shape = x.shape();
  const std::vector<std::uint64_t> three{*product(shape.first(axis)), shape[axis],
                                         *product(shape.subspan(axis + 1))};
  OpProgram p(args, "softmax");
  const ValueId in = p.given("input", DType::f32, three);
  const ValueId y = p.add("output", Storage::output, DType::f32, three);
  p.op(OpKind::softmax, {}, {in}, {y});
  p.output("output", x.type(), x.shape(), y);
  return p.finish({});
}

Result<BuiltOp> build_rms_norm(const Arguments& args) { return build_norm(args, false, "scale"); }
Result<BuiltOp> build_layer_norm(const Arguments& args) { return build_norm(args, true, "Scale"); }
Result<BuiltOp> build_activation(const Arguments& args) {
  return build_elements(args, OpKind::activation, parse_activation(args.choice("act")), "X", {}, "Y");
}
Result<BuiltOp> build_glu(const Arguments& args) {
  return build_elements(args, OpKind::glu, parse_activation(args.choice("act")), "gate", "up", "Y");
}
Result<BuiltOp> build_add(const Arguments& args) {
  return build_elements(args, OpKind::add, Activation::none, "A", "B", "C");
}

}  // namespace tessera
