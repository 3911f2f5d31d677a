#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "graph/fuse.h"
#include "graph/graph.h"
#include "graph/tiny_program.h"

namespace tessera::test {
namespace {

TEST(Check, AcceptsTheBlockFusedAndUnfused) {
  for (bool bias : {false, true}) {
    const TinyProgram t = TinyProgram::block(bias);
    const auto plain = t.program.check();
    EXPECT_TRUE(plain.ok()) << plain.error().message;
    const auto fused = fuse(t.program).check();
    EXPECT_TRUE(fused.ok()) << fused.error().message;
  }
}

struct Fault {
  const char* name;
  std::function<void(TinyProgram&)> plant;
  const char* message;  // a part of it
};

Op& find_op(TinyProgram& t, std::string_view name) {
  for (Op& op : t.program.graphs[0].ops)
    if (op.name == name) return op;
  ADD_FAILURE() << name;
  return t.program.graphs[0].ops[0];
}
Value& find_value(TinyProgram& t, std::string_view name) {
  for (Value& value : t.program.values)
    if (value.name == name) return value;
  ADD_FAILURE() << name;
  return t.program.values[0];
}

class CheckFault : public testing::TestWithParam<Fault> {};

TEST_P(CheckFault, IsNamed) {
  TinyProgram t = TinyProgram::block(true);
  GetParam().plant(t);
  const auto result = t.program.check();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::internal);
  EXPECT_THAT(result.error().message, testing::HasSubstr(GetParam().message));
}

std::vector<Fault> faults() {
  return {
      Fault{"no_state", [](TinyProgram& t) { t.program.state = kNoValue; }, "no state"},
      Fault{"zero_dim", [](TinyProgram& t) { find_value(t, "ffn_up.weight").shape[0] = 0; },
            "ffn_up.weight: shape (0,8) has a zero"},
      Fault{"no_shape", [](TinyProgram& t) { find_value(t, "ffn_up.weight").shape.clear(); },
            "ffn_up.weight: has no shape"},
      Fault{"block", [](TinyProgram& t) { find_value(t, "ffn_up.weight").dtype = DType::q8_0; },
            "ffn_up.weight: shape (12,8) does not fit blocks of Q8_0"},
      Fault{"constant", [](TinyProgram& t) { find_value(t, "rope_table").data = nullptr; },
            "rope_table: a constant needs"},
      Fault{"dynamic_weight", [](TinyProgram& t) { find_value(t, "embd").dynamic_rows = true; },
            "embd: only"},
      Fault{"zero_rows", [](TinyProgram& t) { t.program.graphs[0].max_rows = 0; }, "max_rows is 0"},
      Fault{"inputs", [](TinyProgram& t) { find_op(t, "attn_sum").in.pop_back(); },
            "op attn_sum (add): has 1 inputs and 1 outputs, needs 2 and 1"},
      Fault{"absent", [](TinyProgram& t) { find_op(t, "attn_q").in[1] = kNoValue; },
            "op attn_q (matmul): input 1 is absent"},
      Fault{"range", [](TinyProgram& t) { find_op(t, "attn_q").out[0] = 9999; },
            "output 0 is absent or out of range"},
      Fault{"weight_shape",
            [](TinyProgram& t) {
              find_value(t, "attn_q.weight").shape = {8, 4};
            },
            "value attn_q.weight is (8,4), expected (8,8)"},
      Fault{"bias_shape", [](TinyProgram& t) { find_value(t, "ffn_up.bias").shape = {3}; },
            "value ffn_up.bias is (3), expected (12)"},
      Fault{"bias_type", [](TinyProgram& t) { find_value(t, "ffn_up.bias").dtype = DType::f16; },
            "value ffn_up.bias is F16, expected F32"},
      Fault{"bias_of_none", [](TinyProgram& t) { find_op(t, "attn_q").in[4] = find_op(t, "attn_q").in[2]; },
            "second matrix"},
      Fault{"product_scale",
            [](TinyProgram& t) { find_op(t, "attn_q").attrs.scale = std::numeric_limits<float>::infinity(); },
            "op attn_q (matmul): scale is not finite"},
      Fault{"product_residual",
            [](TinyProgram& t) { find_op(t, "attn_q").in[5] = find_op(t, "attn_k").out[0]; },
            "value attn_k is (rows,4), expected (4,8)"},
      Fault{"product_type", [](TinyProgram& t) { find_value(t, "attn_q").dtype = DType::bf16; },
            "op attn_q (matmul): value attn_q is BF16, activations must be F32 or F16"},
      Fault{"u32_weight", [](TinyProgram& t) { find_value(t, "attn_q.weight").dtype = DType::u32; },
            "must not be U32"},
      Fault{"activation_weight",
            [](TinyProgram& t) { find_value(t, "attn_q.weight").storage = Storage::input; },
            "value attn_q.weight must be a weight or a constant"},
      Fault{"norm_weight", [](TinyProgram& t) { find_value(t, "ffn_norm.weight").shape = {9}; },
            "op ffn_norm (norm): value ffn_norm.weight is (9), expected (8)"},
      Fault{"residual_without_sum",
            [](TinyProgram& t) { find_op(t, "ffn_norm").in[3] = find_op(t, "ffn_norm").in[0]; },
            "residual and sum must come together"},
      Fault{
          "eps",
          [](TinyProgram& t) { find_op(t, "ffn_norm").attrs.eps = std::numeric_limits<float>::quiet_NaN(); },
          "eps"},
      Fault{"rope_dims", [](TinyProgram& t) { find_op(t, "q_rope").attrs.rope_dims = 3; }, "rope_dims"},
      Fault{"rope_table", [](TinyProgram& t) { find_op(t, "q_rope").in[1] = find_op(t, "x").in[2]; },
            "value embd is (16,8), expected 3 dimensions"},
      Fault{"state", [](TinyProgram& t) { find_op(t, "q_rope").in[2] = t.sampler; },
            "value sampler is not the program's state"},
      Fault{"heads", [](TinyProgram& t) { find_op(t, "attn").attrs.attention.kv_heads = 3; },
            "multiple of kv_heads"},
      Fault{"scale",
            [](TinyProgram& t) {
              find_op(t, "attn").attrs.attention.scale = std::numeric_limits<float>::infinity();
            },
            "scale"},
      Fault{"head_dim", [](TinyProgram& t) { find_op(t, "attn").attrs.attention.head_dim = 0; },
            "head_dim is 0"},
      Fault{"lists", [](TinyProgram& t) { find_op(t, "attn").attrs.attention.q_block = 4; },
            "block lists and the sizes of their blocks come together"},
      Fault{"relative",
            [](TinyProgram& t) { find_op(t, "attn").attrs.attention.relative = RelativeBias::distance; },
            "a relative bias and its kind come together"},
      Fault{"vector",
            [](TinyProgram& t) { find_op(t, "attn").attrs.attention.score = AttentionScore::additive; },
            "additive scores and their vector come together"},
      Fault{"cache_type", [](TinyProgram& t) { find_value(t, "v_cache").dtype = DType::f32; },
            "value v_cache is F32, expected F16"},
      Fault{"cache_storage", [](TinyProgram& t) { find_value(t, "v_cache").storage = Storage::input; },
            "value v_cache must be a cache"},
      Fault{"not_in_place", [](TinyProgram& t) { find_op(t, "k_append").out[0] = t.v_cache; },
            "value v_cache must be written in place"},
      Fault{"mixed_rows", [](TinyProgram& t) { find_value(t, "attn_out").dynamic_rows = false; },
            "do not both have dynamic rows"},
      Fault{"dynamic_last", [](TinyProgram& t) { find_value(t, "last").dynamic_rows = true; },
            "dynamic rows"},
      Fault{"dynamic_logits", [](TinyProgram& t) { find_value(t, "logits").dynamic_rows = true; },
            "dynamic rows"},
      Fault{"tokens", [](TinyProgram& t) { find_value(t, "tokens").dtype = DType::f32; },
            "value tokens must be an input of U32"},
      Fault{"activation_type", [](TinyProgram& t) { find_value(t, "attn_out").dtype = DType::f16; },
            "value attn_out is F16, expected F32"},
      Fault{"order",
            [](TinyProgram& t) { std::swap(t.program.graphs[0].ops[1], t.program.graphs[0].ops[2]); },
            "op attn_q: reads attn_norm before it is written"},
      Fault{"twice",
            [](TinyProgram& t) {
              auto& ops = t.program.graphs[0].ops;
              ops.insert(ops.begin() + 2, Op(ops[1]));
            },
            "writes attn_norm a second time"}};
}

INSTANTIATE_TEST_SUITE_P(Planted, CheckFault, testing::ValuesIn(faults()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(Check, StackedParts) {
  TinyProgram t;
  const ValueId a = t.weight("a", {3, 4}), b = t.weight("b", {2, 4}, DType::f16);
  const ValueId all = t.weight("ab", {5, 4});
  t.program.values[all].parts = {a, b};
  EXPECT_THAT(t.program.check().error().message,
              testing::HasSubstr("part b (2,4) cannot be stacked in (5,4)"));
  t.program.values[b].dtype = DType::f32;
  EXPECT_TRUE(t.program.check().ok());
  t.program.values[all].shape[0] = 6;
  EXPECT_THAT(t.program.check().error().message, testing::HasSubstr("its parts have 5 rows"));
  t.program.values[all].parts = {all};
  EXPECT_THAT(t.program.check().error().message, testing::HasSubstr("must come before"));
}

TEST(Check, OrdersOfStackedParts) {
  TinyProgram t;
  const ValueId a = t.weight("a", {24, 4}), b = t.weight("b", {12, 4});
  const ValueId all = t.weight("ab", {36, 4});
  Value& stack = t.program.values[all];
  stack.parts = {a, b};
  for (const std::vector<RowOrder>& sound :
       {std::vector<RowOrder>{}, {{12, 8}, {12, 12}}, {{24, 24}, {4, 4}}, {{}, {12, 4}}, {{7, 0}, {}}}) {
    stack.orders = sound;
    EXPECT_TRUE(t.program.check().ok()) << t.program.check().error().message;
  }
  for (const std::vector<RowOrder>& few : {std::vector<RowOrder>{{12, 8}}, {{12, 8}, {12, 8}, {}}}) {
    stack.orders = few;
    EXPECT_THAT(t.program.check().error().message, testing::HasSubstr("ab: has orders of rows, but not one"));
  }
  struct Bad {
    std::vector<RowOrder> orders;
    const char* message;
  };
  for (const Bad& bad : {Bad{{{12, 16}, {}}, "rows of part a are not heads of 12 of which 16 turn"},
                         Bad{{{12, 8}, {12, 6}}, "rows of part b are not heads of 12 of which 6 turn"},
                         Bad{{{6, 4}, {12, 8}}, "rows of part a are not heads of 6 of which 4 turn"},
                         Bad{{{16, 8}, {12, 8}}, "rows of part a are not heads of 16 of which 8 turn"},
                         Bad{{{24, 8}, {24, 8}}, "rows of part b are not heads of 24 of which 8 turn"},
                         Bad{{{12, 8}, {0, 4}}, "rows of part b are not heads of 0 of which 4 turn"}}) {
    stack.orders = bad.orders;
    const auto result = t.program.check();
    ASSERT_FALSE(result.ok()) << bad.message;
    EXPECT_EQ(result.error().code, Code::internal);
    EXPECT_THAT(result.error().message, testing::HasSubstr(bad.message));
  }
  t.program.values[all].parts.clear();
  stack.orders = {{12, 8}};
  EXPECT_THAT(t.program.check().error().message, testing::HasSubstr("ab: has orders of rows, but not one"));
}

}  // namespace
}  // namespace tessera::test
