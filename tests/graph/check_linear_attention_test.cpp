// What linear_attention takes.
#include <gmock/gmock.h>

#include <cmath>
#include <functional>

#include "graph/tiny_program.h"

namespace tessera::test {
namespace {

// Two sequences of 3 rows, 4 heads over 2; k_dim 5, v_dim 6; gated_delta with every operand.
struct Linear {
  Linear() {
    const auto rows = [&](const char* name, std::uint64_t columns) {
      return t.value(name, {6, columns}, Storage::output);
    };
    const ValueId past = t.value("past", {2, 2, 5, 6}, Storage::output);
    const std::vector<ValueId> in{rows("q", 20),     rows("k", 10),   rows("v", 12), past,
                                  rows("decay", 10), rows("beta", 2), kNoValue};
    OpAttrs attrs;
    attrs.linear = {.batch = 2, .len = 3, .heads = 4, .kv_heads = 2, .k_dim = 5, .v_dim = 6};
    attrs.linear.rule = UpdateRule::gated_delta;
    attrs.linear.decay_by_dim = attrs.linear.beta_by_head = true;
    t.op(OpKind::linear_attention, "linear", in,
         {rows("y", 24), t.value("present", {2, 2, 5, 6}, Storage::output), kNoValue}, attrs);
  }
  Op& op() { return t.graph.ops[0]; }
  LinearAttentionAttrs& attrs() { return op().attrs.linear; }
  Value& value(std::string_view wanted) {
    for (Value& v : t.program.values)
      if (v.name == wanted) return v;
    ADD_FAILURE() << wanted;
    return t.program.values[0];
  }
  // Rule linear, normalised, with a past normaliser that is written elsewhere.
  void make_normalised() {
    attrs().rule = UpdateRule::linear;
    attrs().normalise = true;
    op().in[4] = op().in[5] = kNoValue;
    op().in[6] = t.value("past_z", {2, 2, 5}, Storage::output);
    op().out[2] = t.value("z", {2, 2, 5}, Storage::output);
  }
  Result<void> check() {
    t.program.state = t.value("state", {8}, Storage::input, DType::u32);
    t.program.graphs = {t.graph};
    return t.program.check();
  }

  TinyProgram t;
};

TEST(CheckLinearAttention, TakesWhatFits) {
  using Change = std::function<void(Linear&)>;
  for (const Change& change :
       std::vector<Change>{[](Linear&) {}, [](Linear& l) { l.make_normalised(); },
                           [](Linear& l) {
                             l.make_normalised();
                             l.attrs().causal = false;
                             l.op().in[0] = l.op().out[0] = kNoValue;
                           },
                           [](Linear& l) { l.op().out[1] = l.op().in[3]; },  // in place
                           [](Linear& l) {
                             l.attrs().shared_keys = true;
                             l.value("k").shape = {3, 10};
                           },
                           [](Linear& l) {
                             l.value("q").dtype = DType::f16;
                             l.value("y").dtype = DType::bf16;
                           }}) {
    Linear good;
    change(good);
    const auto result = good.check();
    EXPECT_TRUE(result.ok()) << result.error().message;
  }
}

TEST(CheckLinearAttention, NamesWhatDoesNotFit) {
  struct Fault {
    std::function<void(Linear&)> plant;
    const char* message;
  };
  const Fault faults[] = {
      {[](auto& l) { l.attrs().len = 0; }, "batch or len is 0"},
      {[](auto& l) { l.attrs().kv_heads = 0; }, "heads or kv_heads is 0"},
      {[](auto& l) { l.attrs().kv_heads = 3; }, "heads is no multiple of kv_heads"},
      {[](auto& l) { l.attrs().v_dim = 0; }, "k_dim or v_dim is 0"},
      {[](auto& l) { l.attrs().k_dim = 513; }, "k_dim is above 512"},
      {[](auto& l) { l.attrs().scale = std::nanf(""); }, "scale is not finite"},
      {[](auto& l) { l.attrs().epsilon = -1; }, "epsilon is negative or not finite"},
      {[](auto& l) { l.attrs().map = FeatureMap::exp; }, "a delta rule has no feature map and no normaliser"},
      {[](auto& l) { l.attrs().normalise = true; }, "a delta rule has no feature map and no normaliser"},
      {[](auto& l) { l.attrs().causal = false; }, "only the rule linear need not be causal"},
      {[](auto& l) { l.op().in[4] = kNoValue; }, "a decay and a gated rule come together"},
      {[](auto& l) { l.op().in[5] = kNoValue; }, "a beta and a delta rule come together"},
      {[](auto& l) { l.op().in[0] = kNoValue; }, "queries and their output come together"},
      {[](auto& l) { l.op().in[0] = l.op().out[0] = l.op().out[1] = kNoValue; },
       "has neither an output nor a state to give"},
      {[](auto& l) {
         l.op().out[2] = l.t.value("z", {2, 2, 5}, Storage::output);
       },
       "a normaliser needs normalise"},
      {[](auto& l) {
         l.value("q").shape = {6, 10};
       },
       "value q is (6,10), expected (6,20)"},
      {[](auto& l) { l.value("k").dtype = DType::u32; }, "value k is U32, expected F32"},
      {[](auto& l) { l.value("v").dynamic_rows = true; },
       "value v has dynamic rows, but not max_rows of them"},
      {[](auto& l) { l.attrs().decay_by_dim = false; }, "value decay is (6,10), expected (6,2)"},
      {[](auto& l) { l.attrs().beta_by_head = false; }, "value beta is (6,2), expected (6,1)"},
      {[](auto& l) {
         l.value("past").shape = {2, 2, 6, 5};
       },
       "value past is (2,2,6,5), expected (2,2,5,6)"},
      {[](auto& l) { l.value("present").dtype = DType::f16; }, "value present is F16, expected F32"},
      {[](auto& l) {
         l.make_normalised();
         l.value("z").shape = {2, 2, 6};
       },
       "value z is (2,2,6), expected (2,2,5)"},
      {[](auto& l) {
         l.make_normalised();
         l.op().out[2] = l.op().in[6];
       },
       "the normaliser must not be written in place"}};
  for (const Fault& fault : faults) {
    Linear bad;
    fault.plant(bad);
    const auto result = bad.check();
    ASSERT_FALSE(result.ok()) << fault.message;
    EXPECT_EQ(result.error().message,
              std::string("graph block, op linear (linear_attention): ") + fault.message);
  }
}

TEST(CheckLinearAttention, Prints) {
  Linear l;
  EXPECT_TRUE(l.check().ok());
  EXPECT_EQ(print(l.t.program, l.t.program.graphs[0]),
            "graph block, max_rows=4\n%13 y (6,24), %14 present (2,2,5,6), - = linear_attention(%8 q (6,20), "
            "%9 k (6,10), %10 v (6,12), %7 past (2,2,5,6), %11 decay (6,10), %12 beta (6,2), -) "
            "rule=gated_delta batch=2 len=3 heads=4 kv_heads=2 k_dim=5 v_dim=6 scale=1\n");
}

}  // namespace
}  // namespace tessera::test
