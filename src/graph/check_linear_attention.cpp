#include <cmath>

#include "graph/check.h"

namespace tessera {
namespace {

class LinearAttentionChecker : OpCheck {
 public:
  LinearAttentionChecker(const Program& program, const Graph& graph, const Op& op)
      : OpCheck(program, graph, op), a_(op.attrs.linear) {}

  std::string run() {
    sizes();
    if (error_.empty()) forms();
    if (error_.empty()) rows();
    if (error_.empty()) states();
    return error_;
  }

 private:
  bool has(LinearIn which) const { return has_in(static_cast<std::size_t>(which)); }
  ValueId id_of(LinearIn which) const { return op_.in[static_cast<std::size_t>(which)]; }

  void sizes() {
    if (a_.batch == 0 || a_.len == 0) reject("batch or len is 0");
    if (a_.heads == 0 || a_.kv_heads == 0) reject("heads or kv_heads is 0");
    if (a_.k_dim == 0 || a_.v_dim == 0) reject("k_dim or v_dim is 0");
    if (a_.k_dim > kMaxStateRows) reject("k_dim is above " + std::to_string(kMaxStateRows));
    if (error_.empty() && a_.heads % a_.kv_heads != 0) reject("heads is no multiple of kv_heads");
    if (!std::isfinite(a_.scale)) reject("scale is not finite");
    if (!std::isfinite(a_.epsilon) || a_.epsilon < 0) reject("epsilon is negative or not finite");
  }

  void forms() {
    if (is_delta(a_.rule) && (a_.map != FeatureMap::none || a_.normalise))
      reject("a delta rule has no feature map and no normaliser");
    if (!a_.causal && a_.rule != UpdateRule::linear) reject("only the rule linear need not be causal");
    if (has(LinearIn::decay) != is_gated(a_.rule)) reject("a decay and a gated rule come together");
    if (has(LinearIn::beta) != is_delta(a_.rule)) reject("a beta and a delta rule come together");
    if (has(LinearIn::q) != (op_.out[0] != kNoValue)) reject("queries and their output come together");
    if (op_.out[0] == kNoValue && op_.out[1] == kNoValue) reject("has neither an output nor a state to give");
    if (!a_.normalise && (has(LinearIn::past_normaliser) || op_.out[2] != kNoValue))
      reject("a normaliser needs normalise");
  }

  void expect_elements(ValueId id, std::uint64_t rows, std::uint64_t columns) {
    if (id == kNoValue) return;
    const Value& v = value(id);
    const bool real = v.dtype == DType::f32 || v.dtype == DType::f16 || v.dtype == DType::bf16;
    expect_rows(id, rows, columns, real ? v.dtype : DType::f32);
    if (v.dynamic_rows) reject("value " + v.name + " must not have dynamic rows");
  }

  void rows() {
    const std::uint64_t heads = a_.heads, kv_heads = a_.kv_heads, all = std::uint64_t{a_.batch} * a_.len;
    expect_elements(id_of(LinearIn::q), all, heads * a_.k_dim);
    expect_elements(id_of(LinearIn::k), a_.shared_keys ? a_.len : all, kv_heads * a_.k_dim);
    expect_elements(id_of(LinearIn::v), all, kv_heads * a_.v_dim);
    expect_elements(op_.out[0], all, heads * a_.v_dim);
    if (has(LinearIn::decay))
      expect(id_of(LinearIn::decay), {all, kv_heads * (a_.decay_by_dim ? a_.k_dim : 1)});
    if (has(LinearIn::beta)) expect(id_of(LinearIn::beta), {all, a_.beta_by_head ? kv_heads : 1});
  }

  void states() {
    const Shape state{a_.batch, a_.kv_heads, a_.k_dim, a_.v_dim}, normaliser{a_.batch, a_.kv_heads, a_.k_dim};
    if (has(LinearIn::past)) expect(id_of(LinearIn::past), state);
    if (op_.out[1] != kNoValue) expect(op_.out[1], state);
    if (has(LinearIn::past_normaliser)) expect(id_of(LinearIn::past_normaliser), normaliser);
    if (op_.out[2] != kNoValue) expect(op_.out[2], normaliser);
    // All tiles of a head read it, and one writes it.
    if (op_.out[2] != kNoValue && op_.out[2] == id_of(LinearIn::past_normaliser))
      reject("the normaliser must not be written in place");
  }

  const LinearAttentionAttrs& a_;
};

}  // namespace

std::string check_linear_attention(const Program& program, const Graph& graph, const Op& op) {
  return LinearAttentionChecker(program, graph, op).run();
}

}  // namespace tessera
