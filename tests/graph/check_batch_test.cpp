// What a matmul of several matrices takes.
#include <gmock/gmock.h>

#include <functional>

#include "graph/fuse.h"
#include "graph/graph.h"
#include "graph/tiny_program.h"

namespace tessera::test {
namespace {

constexpr std::uint64_t kBatch = 3, kRows = 5, kN = 7, kK = 8;

// x -> y with bias, gate and residual; everything of it by name.
struct Batch {
  TinyProgram t;
  bool rows_first;
  ValueId x, w, bias, up, up_bias, residual, y;

  explicit Batch(bool first = false) : rows_first(first) {
    x = given("x", kK);
    w = t.weight("w", {kBatch, kN, kK});
    bias = t.constant("bias", {kN});
    up = t.weight("up", {kBatch, kN, kK});
    up_bias = t.constant("up_bias", {kN});
    residual = given("residual", kN);
    y = given("y", kN);
    t.program.state = t.value("state", {8}, Storage::input, DType::u32);
    OpAttrs attrs;
    attrs.rows_first = first;
    attrs.act = Activation::silu;
    t.op(OpKind::matmul, "product", {x, w, bias, up, up_bias, residual, kNoValue}, {y}, attrs);
    t.graph.max_rows = kRows;
  }
  ValueId given(const std::string& name, std::uint64_t columns) {
    std::vector<std::uint64_t> shape{kBatch, kRows, columns};
    if (rows_first) std::swap(shape[0], shape[1]);
    return t.value(name, shape, Storage::output);
  }
  Value& value(ValueId id) { return t.program.values[id]; }
  Op& op() { return t.graph.ops[0]; }
  Result<void> check() {
    t.program.graphs = {t.graph};
    return t.program.check();
  }
  void refuses(const std::string& message) {
    const auto result = check();
    ASSERT_FALSE(result.ok()) << message;
    EXPECT_EQ(result.error().code, Code::internal);
    EXPECT_THAT(result.error().message, testing::StartsWith("graph block, op product (matmul): " + message));
  }
};

TEST(CheckBatch, TakesBothLayouts) {
  for (const bool rows_first : {false, true}) {
    Batch b(rows_first);
    const auto good = b.check();
    EXPECT_TRUE(good.ok()) << good.error().message;
    const std::string shape = rows_first ? "5,3,8" : "3,5,8";
    EXPECT_THAT(print(b.t.program, b.t.graph),
                testing::ContainsRegex("matmul.%[0-9]+ x ." + shape + "., %[0-9]+ w .3,7,8.,"));
    EXPECT_EQ(print(b.t.program, b.t.graph).find("rows_first=1") != std::string::npos, rows_first);
  }
}

TEST(CheckBatch, LiesAsTheLayoutSays) {
  Batch first(false), rows(true);
  const MatmulLayout a = matmul_layout(first.t.program, first.op()),
                     b = matmul_layout(rows.t.program, rows.op());
  for (const MatmulLayout& at : {a, b}) {
    EXPECT_EQ(at.batch, kBatch);
    EXPECT_EQ(at.rows, kRows);
    EXPECT_EQ(at.n, kN);
    EXPECT_EQ(at.k, kK);
    EXPECT_EQ(at.w_batch, kN);
  }
  EXPECT_EQ(a.x_row, kK);
  EXPECT_EQ(a.x_batch, kRows * kK);
  EXPECT_EQ(a.y_row, kN);
  EXPECT_EQ(a.y_batch, kRows * kN);
  EXPECT_EQ(b.x_row, kBatch * kK);
  EXPECT_EQ(b.x_batch, kK);
  EXPECT_EQ(b.y_row, kBatch * kN);
  EXPECT_EQ(b.y_batch, kN);
}

TEST(CheckBatch, DynamicRowsComeFirst) {
  for (const bool rows_first : {false, true}) {
    Batch b(rows_first);
    for (const ValueId id : {b.x, b.residual, b.y}) b.value(id).dynamic_rows = true;
    if (!rows_first) {
      b.refuses("value y (rows,5,7) has dynamic rows, which come first");
      continue;
    }
    const auto good = b.check();
    EXPECT_TRUE(good.ok()) << good.error().message;
    b.value(b.residual).dynamic_rows = false;
    b.refuses("values residual and y do not both have dynamic rows");
  }
}

TEST(CheckBatch, Faults) {
  const std::pair<std::function<void(Batch&)>, const char*> faults[] = {
      {[](Batch& b) {
         b.value(b.x).shape = {15, 8};
       },
       "value x is (15,8), expected 3 dimensions"},
      {[](Batch& b) { b.value(b.x).shape[0] = 4; }, "value x is (4,5,8), expected (3,5,8)"},
      {[](Batch& b) { b.value(b.x).dtype = DType::bf16; }, "value x is BF16, activations must be F32 or F16"},
      {[](Batch& b) { b.value(b.x).shape[2] = 9; }, "value w is (3,7,8), expected (3,7,9)"},
      {[](Batch& b) { b.value(b.up).shape[0] = 2; }, "value up is (2,7,8), expected (3,7,8)"},
      {[](Batch& b) {
         b.value(b.up).shape = {7, 8};
       },
       "value up is (7,8), expected (3,7,8)"},
      {[](Batch& b) { b.value(b.y).shape[1] = 4; }, "value y is (3,4,7), expected (3,5,7)"},
      {[](Batch& b) {
         b.value(b.residual).shape = {15, 7};
       },
       "value residual is (15,7), expected (3,5,7)"},
      {[](Batch& b) { b.value(b.residual).dtype = DType::f16; }, "value residual is F16, expected F32"},
      {[](Batch& b) {
         b.value(b.bias).shape = {3, 7};
         b.value(b.bias).data = std::make_shared<const std::vector<float>>(21);
       },
       "value bias is (3,7), expected (7)"},
      {[](Batch& b) { b.op().attrs.rows_first = true; }, "value x is (3,5,8), expected (3,3,8)"},
      {[](Batch& b) { b.op().in[6] = b.bias; }, "several products with one matrix each take no norm"},
      {[](Batch& b) {
         b.op().attrs.rows_first = true;
         b.value(b.w).shape = {7, 8};
         b.value(b.x).shape = {15, 8};
       },
       "rows_first is of several matrices"}};
  for (const auto& [plant, message] : faults) {
    Batch b;
    plant(b);
    b.refuses(message);
  }
}

TEST(CheckBatch, StacksAreOfMatrices) {
  Batch b;
  const ValueId all = b.t.weight("all", {2 * kBatch, kN, kK});
  b.value(all).parts = {b.w, b.up};
  const auto result = b.check();
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, testing::HasSubstr("part w (3,7,8) cannot be stacked in (6,7,8)"));
}

// Two in a row, the first with an activation, are no feed_forward.
TEST(CheckBatch, IsNotFused) {
  Batch b;
  const ValueId h = b.t.value("h", {kBatch, kRows, kK}, Storage::activation);
  b.op() = {OpKind::matmul, "first", {}, {b.x, b.t.weight("v", {kBatch, kK, kK})}, {h}};
  b.op().in.resize(7, kNoValue);
  b.op().attrs.act = Activation::relu;
  b.t.op(OpKind::matmul, "second", {h, b.w, kNoValue, kNoValue, kNoValue, kNoValue, kNoValue}, {b.y});
  const auto good = b.check();
  ASSERT_TRUE(good.ok()) << good.error().message;
  const Program fused = fuse(b.t.program);
  EXPECT_EQ(print(fused, fused.graphs[0]), print(b.t.program, b.t.graph));
}

}  // namespace
}  // namespace tessera::test
