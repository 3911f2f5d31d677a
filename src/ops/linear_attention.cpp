#include <cmath>

#include "ops/builders.h"
#include "ops/op_program.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;
using Shape = std::vector<std::uint64_t>;

constexpr OpTensorInfo kIn[] = {
    {"query", kReals, "(batch, len, q_heads*k_dim)", false, {}},
    {"key", kReals, "(batch, len, kv_heads*k_dim)", false,
     "of length 1 for delta and gated_delta, or the state grows"},
    {"value", kReals, "(batch, len, kv_heads*v_dim)", false, {}},
    {"past_state", kReals, "(batch, kv_heads, k_dim, v_dim)", true,
     "S before the first row; zeros without it"},
    {"decay", kReals, "(batch, len, kv_heads*k_dim) or (batch, len, kv_heads)", true,
     "g, mostly negative: of each row of the state, or of all. For gated and gated_delta"},
    {"beta", kReals, "(batch, len, kv_heads) or (batch, len, 1)", true, "for delta and gated_delta"},
    {"past_normaliser", kReals, "(batch, kv_heads, k_dim)", true,
     "z before the first row; zeros without it"}};

constexpr OpTensorInfo kOut[] = {
    {"output", "like query", "(batch, len, q_heads*v_dim)", false, {}},
    {"present_state", "like past_state, or query", "(batch, kv_heads, k_dim, v_dim)", true,
     "S after the last row; made whenever past_state is there"},
    {"present_normaliser", "like past_normaliser, or query", "(batch, kv_heads, k_dim)", true,
     "z after the last row; made whenever past_normaliser is there"}};

constexpr OpAttributeInfo kAttrs[] = {
    {"update_rule", Kind::choice, "gated_delta", "linear|gated|delta|gated_delta",
     "how a row changes the state"},
    {"q_num_heads", Kind::integer, "", ">= 1", "q_heads, a multiple of kv_num_heads", 1, kMostCount},
    {"kv_num_heads", Kind::integer, "", ">= 1", "kv_heads", 1, kMostCount},
    {"scale", Kind::number, "0", "finite", "of the output; 0: 1/sqrt(k_dim), with normalise 1"},
    {"chunk_size", Kind::integer, "64", ">= 1", "ONNX's hint, which changes nothing", 1, kMostCount},
    {"feature_map", Kind::choice, "none", "none|elu_plus_one|relu|exp",
     "f of queries and keys; elu_plus_one: x + 1 where x > 0, else exp(x). Delta rules have none"},
    {"normalise", Kind::integer, "0", "0 or 1", "divide by z . f(q) + epsilon; not with delta rules", 0, 1},
    {"epsilon", Kind::number, "1e-06", ">= 0", "with normalise", 0},
    {"is_causal", Kind::integer, "1", "0 or 1", "0, of update_rule linear: every row sees all rows", 0, 1}};

UpdateRule parse_rule(std::string_view text) {
  for (const UpdateRule rule : {UpdateRule::linear, UpdateRule::gated, UpdateRule::delta})
    if (name(rule) == text) return rule;
  return UpdateRule::gated_delta;
}
FeatureMap parse_map(std::string_view text) {
  for (const FeatureMap map : {FeatureMap::elu_plus_one, FeatureMap::relu, FeatureMap::exp})
    if (name(map) == text) return map;
  return FeatureMap::none;
}

class LinearAttentionBuilder {
 public:
  explicit LinearAttentionBuilder(const Arguments& args) : args_(args), p_(args, "linear_attention") {}

  Result<BuiltOp> run() {
    TSR_CHECK(sizes());
    TSR_CHECK(rule());
    std::vector<ValueId> in(static_cast<std::size_t>(LinearIn::count), kNoValue);
    for (const auto& [name, which] :
         {std::pair("query", LinearIn::q), {"key", LinearIn::k}, {"value", LinearIn::v}})
      in[static_cast<std::size_t>(which)] = p_.given(name, args_.in(name).real(), rows(name));
    for (const auto& [name, which] : {std::pair("decay", LinearIn::decay), {"beta", LinearIn::beta}})
      if (args_.has(name)) in[static_cast<std::size_t>(which)] = p_.given(name, DType::f32, rows(name));
    for (const auto& [name, which] :
         {std::pair("past_state", LinearIn::past), {"past_normaliser", LinearIn::past_normaliser}})
      if (args_.has(name))
        in[static_cast<std::size_t>(which)] = p_.given(name, DType::f32, args_.in(name).shape());

    const OpInput& query = args_.in("query");
    const ValueId y = p_.add("output", Storage::output, query.real(),
                             {rows("query")[0], std::uint64_t{a_.heads} * a_.v_dim});
    // The state goes on in its own memory: a host that records a step keeps it there.
    ValueId present = in[static_cast<std::size_t>(LinearIn::past)];
    if (present == kNoValue && args_.wants("present_state"))
      present = state_output("present_state", state_shape());
    ValueId normaliser = kNoValue;
    if (args_.has("past_normaliser") || args_.wants("present_normaliser"))
      normaliser = state_output("present_normaliser", normaliser_shape());
    OpAttrs attrs;
    attrs.linear = a_;
    p_.op(OpKind::linear_attention, attrs, std::move(in), {y, present, normaliser});
    p_.output("output", query.type(), {a_.batch, a_.len, std::uint64_t{a_.heads} * a_.v_dim}, y);
    if (present != kNoValue) p_.output("present_state", type_of("past_state"), state_shape(), present);
    if (normaliser != kNoValue)
      p_.output("present_normaliser", type_of("past_normaliser"), normaliser_shape(), normaliser);
    return p_.finish({});
  }

 private:
  Shape rows(std::string_view name) const {
    const Shape& shape = args_.in(name).shape();
    return {shape[0] * shape[1], shape[2]};
  }
  Shape state_shape() const { return {a_.batch, a_.kv_heads, a_.k_dim, a_.v_dim}; }
  Shape normaliser_shape() const { return {a_.batch, a_.kv_heads, a_.k_dim}; }
  std::string_view type_of(std::string_view past) const {
    return args_.in(args_.has(past) ? past : "query").type();
  }
  ValueId state_output(std::string name, Shape shape) {
    return p_.add(std::move(name), Storage::output, DType::f32, std::move(shape));
  }

  // Elements a head of a tensor of three dimensions.
  Result<std::uint32_t> head_dim(std::string_view name, std::string_view heads_name) const {
    const Shape& shape = args_.in(name).shape();
    const auto heads = static_cast<std::uint64_t>(args_.integer(heads_name));
    if (heads == 0) return args_.refuse(std::string(heads_name) + " is needed");
    if (shape.size() != 3)
      return args_.refuse(std::string(name) + " is " + shape_text(shape) +
                          ", it must be (batch, len, heads*dim)");
    const Shape& query = args_.in("query").shape();
    if (shape[0] != query[0] || shape[1] != query[1])
      return args_.refuse(std::string(name) + " is " + shape_text(shape) + ", query is " + shape_text(query) +
                          ": batch and len must be equal");
    if (shape[2] % heads != 0)
      return args_.refuse(std::string(name) + " has rows of " + std::to_string(shape[2]) +
                          ", no multiple of " + std::string(heads_name) + " " + std::to_string(heads));
    if (shape[2] / heads > 0xffffffffu)
      return args_.unsupported(std::string(name) + " has heads that are too long");
    return static_cast<std::uint32_t>(shape[2] / heads);
  }

  Result<void> sizes() {
    TSR_TRY(a_.k_dim, head_dim("query", "q_num_heads"));
    TSR_TRY(const std::uint32_t key_dim, head_dim("key", "kv_num_heads"));
    TSR_TRY(a_.v_dim, head_dim("value", "kv_num_heads"));
    if (a_.k_dim != key_dim) return args_.differ("query", a_.k_dim, "key", key_dim, "elements a head");
    if (a_.k_dim > kMaxStateRows)
      return args_.unsupported("query has heads of " + std::to_string(a_.k_dim) + " elements, at most " +
                               std::to_string(kMaxStateRows) + " are taken");
    a_.heads = static_cast<std::uint32_t>(args_.integer("q_num_heads"));
    a_.kv_heads = static_cast<std::uint32_t>(args_.integer("kv_num_heads"));
    if (a_.heads % a_.kv_heads != 0)
      return args_.refuse("q_num_heads is " + std::to_string(a_.heads) + ", no multiple of kv_num_heads " +
                          std::to_string(a_.kv_heads));
    const Shape& query = args_.in("query").shape();
    if (query[0] > 0xffffffffu || query[1] > 0xffffffffu) return args_.unsupported("query has too many rows");
    a_.batch = static_cast<std::uint32_t>(query[0]);
    a_.len = static_cast<std::uint32_t>(query[1]);
    TSR_CHECK(expect("past_state", state_shape()));
    return expect("past_normaliser", normaliser_shape());
  }

  Result<void> expect(std::string_view name, const Shape& shape) const {
    const OpInput* input = args_.find(name);
    if (input == nullptr || input->shape() == shape) return {};
    return args_.refuse(std::string(name) + " is " + shape_text(input->shape()) + ", it must be " +
                        shape_text(shape));
  }

  // A tensor that some rules need: (batch, len, one of two widths); whether it is the first.
  Result<bool> of_rule(std::string_view name, bool needed, std::uint64_t first, std::uint64_t second) const {
    const std::string rule = "update_rule " + args_.choice("update_rule");
    if (args_.has(name) != needed)
      return args_.refuse(rule + (needed ? " needs " : " takes no ") + std::string(name));
    if (!needed) return false;
    const Shape& shape = args_.in(name).shape();
    const Shape wide{a_.batch, a_.len, first}, narrow{a_.batch, a_.len, second};
    if (shape == wide) return true;
    if (shape == narrow) return false;
    return args_.refuse(std::string(name) + " is " + shape_text(shape) + ", it must be " + shape_text(wide) +
                        " or " + shape_text(narrow));
  }

  Result<void> rule() {
    a_.rule = parse_rule(args_.choice("update_rule"));
    a_.map = parse_map(args_.choice("feature_map"));
    a_.normalise = args_.integer("normalise") != 0;
    a_.causal = args_.integer("is_causal") != 0;
    a_.epsilon = static_cast<float>(args_.number("epsilon"));
    const auto scale = static_cast<float>(args_.number("scale"));
    a_.scale = scale != 0 ? scale : a_.normalise ? 1 : 1 / std::sqrt(static_cast<float>(a_.k_dim));
    TSR_TRY(a_.decay_by_dim,
            of_rule("decay", is_gated(a_.rule), std::uint64_t{a_.kv_heads} * a_.k_dim, a_.kv_heads));
    TSR_TRY(a_.beta_by_head, of_rule("beta", is_delta(a_.rule), a_.kv_heads, 1));
    if (is_delta(a_.rule) && (a_.map != FeatureMap::none || a_.normalise))
      return args_.refuse(std::string(a_.normalise ? "normalise" : "feature_map") +
                          " is not for update_rule " + args_.choice("update_rule"));
    if (!a_.causal && a_.rule != UpdateRule::linear)
      return args_.refuse("is_causal=0 is for update_rule linear, not " + args_.choice("update_rule"));
    if (!a_.normalise && (args_.has("past_normaliser") || args_.wants("present_normaliser")))
      return args_.refuse(std::string(args_.has("past_normaliser") ? "past" : "present") +
                          "_normaliser needs normalise=1");
    return {};
  }

  const Arguments& args_;
  OpProgram p_;
  LinearAttentionAttrs a_;
};

}  // namespace

const OpInfo kLinearAttentionOp{
    "linear_attention",
    "Attention through a state that is updated row by row",
    "S'_t = exp(g_t) S_(t-1)                     gated and gated_delta; else S' = S\n"
    "u_t = v_t, or beta_t (v_t - S'_t^T k_t)     delta and gated_delta\n"
    "S_t = S'_t + f(k_t) u_t^T\n"
    "output_t = scale S_t^T f(q_t), divided by z_t . f(q_t) + epsilon with normalise; z goes as S with u = "
    "1\n"
    "A denominator of 0 gives zeros. Query head h reads the state of KV head h / (q_heads / kv_heads).\n"
    "States and sums are F32 for tensors of any type.",
    kIn,
    kOut,
    kAttrs};

Result<BuiltOp> build_linear_attention(const Arguments& args) { return LinearAttentionBuilder(args).run(); }

}  // namespace tessera
