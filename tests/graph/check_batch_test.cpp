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

// x of (x_outer, x_inner, rows, k) by w of (w_outer, w_inner, n, k).
struct Broadcast : Batch {
  Broadcast(std::uint64_t x_outer, std::uint64_t x_inner, std::uint64_t w_outer, std::uint64_t w_inner) {
    const std::uint64_t outer = std::max(x_outer, w_outer), inner = std::max(x_inner, w_inner);
    value(x).shape = {x_outer, x_inner, kRows, kK};
    for (const ValueId id : {w, up}) value(id).shape = {w_outer, w_inner, kN, kK};
    for (const ValueId id : {bias, up_bias}) {
      value(id).shape = {w_outer, w_inner, kN};
      value(id).data = std::make_shared<const std::vector<float>>(w_outer * w_inner * kN);
    }
    for (const ValueId id : {residual, y}) value(id).shape = {outer, inner, kRows, kN};
  }
};

TEST(CheckBatch, DimensionsOfOneAreBroadcast) {
  for (const std::uint64_t x_outer : {1, 2})
    for (const std::uint64_t x_inner : {1, 3})
      for (const std::uint64_t w_outer : {1, 2})
        for (const std::uint64_t w_inner : {1, 3}) {
          Broadcast b(x_outer, x_inner, w_outer, w_inner);
          const auto good = b.check();
          EXPECT_TRUE(good.ok()) << good.error().message;
          const MatmulLayout at = matmul_layout(b.t.program, b.op());
          const std::uint64_t inner = std::max(x_inner, w_inner);
          EXPECT_EQ(at.inner, inner);
          EXPECT_EQ(at.batch, std::max(x_outer, w_outer) * inner);
          EXPECT_EQ(at.y_batch, kRows * kN);
          for (std::uint64_t i = 0; i < at.batch; ++i) {
            const std::uint64_t x = i / inner % x_outer * x_inner + i % inner % x_inner;
            const std::uint64_t w = i / inner % w_outer * w_inner + i % inner % w_inner;
            EXPECT_EQ(at.x_at(i), x * kRows * kK) << i;
            EXPECT_EQ(at.w_at(i), w * kN) << i;
          }
        }
  Broadcast apart(2, 3, 3, 3);
  apart.refuses("value x is (2,3,5,8), expected (3,3,5,8)");
  Broadcast first(2, 3, 2, 3);
  first.op().attrs.rows_first = true;
  first.refuses("value w is (2,3,7,8), which has too many dimensions");
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
         b.value(b.bias).shape = {2, 7};
         b.value(b.bias).data = std::make_shared<const std::vector<float>>(14);
       },
       "value bias is (2,7), expected (3,7)"},
      {[](Batch& b) {
         b.value(b.bias).shape = {3, 7};
         b.value(b.bias).data = std::make_shared<const std::vector<float>>(21);
       },
       "value up_bias is (7), bias is (3,7)"},
      {[](Batch& b) {
         b.value(b.bias).shape = {3, 7};
         b.value(b.bias).data.reset();
         b.value(b.bias).storage = Storage::weight;
       },
       "value bias must be a constant"},
      {[](Batch& b) {
         b.value(b.w).shape = {1, 1, 3, 7, 8};
       },
       "value w is (1,1,3,7,8), which has too many dimensions"},
      {[](Batch& b) {
         b.value(b.x).shape[0] = 1;
         b.value(b.y).shape[0] = 1;
       },
       "value y is (1,5,7), expected (3,5,7)"},
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
