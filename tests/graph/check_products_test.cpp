// What feed_forward and mlp take.
#include <gmock/gmock.h>

#include <functional>

#include "base/mlp.h"
#include "graph/graph.h"
#include "graph/tiny_program.h"

namespace tessera::test {
namespace {

constexpr std::uint64_t kRows = 5, kK = 8, kHidden = 12, kN = 4;

// One op, whose operands are changed before it is checked.
struct OneOp {
  TinyProgram t;
  std::string name;

  ValueId given(const std::string& value, std::uint64_t columns, std::uint64_t rows = kRows) {
    return t.value(value, {rows, columns}, Storage::output);
  }
  Op& op() { return t.graph.ops[0]; }
  Value& value(std::string_view wanted) {
    for (Value& v : t.program.values)
      if (v.name == wanted) return v;
    ADD_FAILURE() << wanted;
    return t.program.values[0];
  }
  Result<void> check() {
    t.program.state = t.value("state", {8}, Storage::input, DType::u32);
    t.graph.max_rows = kRows;
    t.program.graphs = {t.graph};
    return t.program.check();
  }
};

struct FeedForward : OneOp {
  FeedForward() {
    const ValueId x = given("x", kK), w = t.weight("w", {kHidden, kK}), up = t.weight("up", {kHidden, kK});
    const ValueId down = t.weight("down", {kN, kHidden}), residual = given("residual", kN);
    t.op(OpKind::feed_forward, "block", {x, w, kNoValue, up, kNoValue, down, kNoValue, residual, kNoValue},
         {given("y", kN)});
  }
};

// 8 -> 12 -> 4, or as many layers of 8.
struct Mlp : OneOp {
  explicit Mlp(std::size_t layers = 2) {
    std::vector<ValueId> in{given("x", kK)};
    OpAttrs attrs;
    std::uint64_t width = kK;
    for (std::size_t i = 0; i < layers; ++i) {
      const std::uint64_t n = layers != 2 ? kK : i == 0 ? kHidden : kN;
      in.push_back(t.weight("w" + std::to_string(i + 1), {n, width}));
      in.push_back(t.weight("bias" + std::to_string(i + 1), {n}));
      attrs.acts.push_back(Activation::relu);
      width = n;
    }
    t.op(OpKind::mlp, "net", std::move(in), {given("y", width)}, attrs);
  }
};

template <typename T>
struct Fault {
  std::function<void(T&)> plant;
  const char* message;
};

template <typename T>
void expect_faults(const std::string& place, const std::vector<Fault<T>>& faults) {
  T good;
  const auto fine = good.check();
  EXPECT_TRUE(fine.ok()) << fine.error().message;
  for (const Fault<T>& fault : faults) {
    T bad;
    fault.plant(bad);
    const auto result = bad.check();
    ASSERT_FALSE(result.ok()) << fault.message;
    EXPECT_EQ(result.error().code, Code::internal);
    EXPECT_EQ(result.error().message, "graph block, op " + place + ": " + fault.message);
  }
}

TEST(CheckFeedForward, NamesWhatDoesNotFit) {
  expect_faults<FeedForward>("block (feed_forward)",
                             {{[](auto& f) { f.op().attrs.scale = 2; }, "takes no scale"},
                              {[](auto& f) {
                                 f.value("down").shape = {kN, kHidden + 1};
                               },
                               "value down is (4,13), expected (4,12)"},
                              {[](auto& f) {
                                 f.value("up").shape = {kHidden - 1, kK};
                               },
                               "value up is (11,8), expected (12,8)"},
                              {[](auto& f) {
                                 f.value("w").shape = {kHidden, kK - 1};
                               },
                               "value w is (12,7), expected (12,8)"},
                              {[](auto& f) {
                                 f.value("y").shape = {kRows - 1, kN};
                               },
                               "value y is (4,4), expected (5,4)"},
                              {[](auto& f) {
                                 f.value("residual").shape = {kRows + 1, kN};
                               },
                               "value residual is (6,4), expected (5,4)"},
                              {[](auto& f) { f.op().in[2] = f.t.constant("bias", {kHidden}); },
                               "has a bias of one of its two matrices alone"},
                              {[](auto& f) { f.op().in[6] = f.t.constant("bias", {kHidden}); },
                               "value bias is (12), expected (4)"}});
}

TEST(CheckMlp, NamesWhatDoesNotFit) {
  expect_faults<Mlp>(
      "net (mlp)",
      {{[](auto& m) { m.op().attrs.scale = 2; }, "takes no scale"},
       {[](auto& m) { m.op().attrs.act = Activation::silu; }, "takes acts, one a layer, not act"},
       {[](auto& m) { m.op().attrs.precision = Precision::mixed; },
        "computes in F32: takes no other precision"},
       {[](auto& m) {
          m.value("w2").shape = {kN, kHidden - 1};
        },
        "value w2 is (4,11), expected (4,12)"},
       {[](auto& m) { m.value("bias1").shape = {kN}; }, "value bias1 is (4), expected (12)"},
       {[](auto& m) {
          m.value("y").shape = {kRows, kN + 1};
        },
        "value y is (5,5), expected (5,4)"},
       {[](auto& m) {
          m.value("y").shape = {kRows - 1, kN};
        },
        "value y is (4,4), expected (5,4)"},
       {[](auto& m) { m.op().attrs.acts.clear(); }, "has 0 layers, takes 1 to 15"},
       {[](auto& m) { m.op().attrs.acts.pop_back(); }, "has 5 inputs and 1 outputs, needs 3 and 1"}});
}

TEST(CheckMlp, TakesUpToFifteenLayers) {
  const auto most = Mlp(kMostMlpLayers).check(), more = Mlp(kMostMlpLayers + 1).check();
  EXPECT_TRUE(most.ok()) << most.error().message;
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().message, "graph block, op net (mlp): has 16 layers, takes 1 to 15");
}

}  // namespace
}  // namespace tessera::test
