#include "graph/graph.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>

#include "graph/fuse.h"
#include "graph/tiny_program.h"
#include "support/golden.h"

namespace tessera::test {
namespace {

// Byte i of a row is its index in the weight plus the weight's first letter.
class LetterWeights : public WeightReader {
 public:
  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] =
          static_cast<std::byte>(first_row * row_bytes(weight) + i + std::size_t(weight.name[0] - 'a') * 64);
    return {};
  }
};

struct Stacked {
  TinyProgram t;
  ValueId all;
  Stacked() {
    const ValueId a = t.weight("a", {3, 2}), b = t.weight("b", {1, 2}), c = t.weight("c", {2, 2});
    all = t.weight("abc", {6, 2});
    t.program.values[all].parts = {a, b, c};
    t.program.weights = std::make_shared<LetterWeights>();
    t.finish();
  }
};

TEST(Names, AreDistinct) {
  std::vector<std::string_view> names;
  for (int kind = 0; kind <= static_cast<int>(OpKind::advance); ++kind)
    names.push_back(name(static_cast<OpKind>(kind)));
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
  EXPECT_THAT(names, testing::Not(testing::Contains("unknown")));
  EXPECT_EQ(name(Activation::gelu_erf), "gelu_erf");
}

TEST(ReadRows, ResolvesStackedParts) {
  Stacked s;
  ASSERT_TRUE(s.t.program.check().ok());
  EXPECT_EQ(row_bytes(s.t.program.values[s.all]), 8u);
  std::vector<std::byte> whole(48), part(24);
  ASSERT_TRUE(read_rows(s.t.program, s.all, 0, whole).ok());
  EXPECT_EQ(static_cast<int>(whole[0]), 0);
  EXPECT_EQ(static_cast<int>(whole[24]), 64);
  EXPECT_EQ(static_cast<int>(whole[32]), 128);
  for (std::uint64_t first = 0; first + 3 <= 6; ++first) {
    ASSERT_TRUE(read_rows(s.t.program, s.all, first, part).ok());
    EXPECT_EQ(std::memcmp(part.data(), whole.data() + first * 8, part.size()), 0) << first;
  }
}

TEST(ReadRows, RefusesWhatIsNotRows) {
  Stacked s;
  std::vector<std::byte> bytes(56);
  EXPECT_FALSE(read_rows(s.t.program, s.all, 0, std::span(bytes).first(5)).ok());
  EXPECT_FALSE(read_rows(s.t.program, s.all, 0, bytes).ok());
  EXPECT_FALSE(read_rows(s.t.program, s.all, 7, std::span(bytes).first(0)).ok());
  EXPECT_FALSE(read_rows(s.t.program, s.t.tokens, 0, std::span(bytes).first(4)).ok());
  EXPECT_FALSE(read_rows(s.t.program, 1000, 0, bytes).ok());
  EXPECT_TRUE(read_rows(s.t.program, s.all, 6, std::span(bytes).first(0)).ok());
}

TEST(ReadRows, AVectorIsRowsOfOneElement) {
  TinyProgram t;
  const ValueId v = t.weight("b", {4});
  t.program.weights = std::make_shared<LetterWeights>();
  std::vector<std::byte> bytes(8);
  ASSERT_TRUE(read_rows(t.program, v, 2, bytes).ok());
  EXPECT_EQ(static_cast<int>(bytes[0]), 64 + 8);
}

TEST(Print, Block) {
  const TinyProgram t = TinyProgram::block(true);
  expect_golden("tests/graph/golden/block.txt", print_all(t.program));
  expect_golden("tests/graph/golden/block_fused.txt", print_all(fuse(t.program)));
}

TEST(Print, AttributesOfAProduct) {
  TinyProgram t;
  t.matmul("product", t.embedding(), 12);
  EXPECT_EQ(print(t.program, t.graph).find("scale="), std::string::npos);
  t.graph.ops.back().attrs.scale = 2.5f;
  t.graph.ops.back().attrs.precision = Precision::mixed;
  EXPECT_THAT(print(t.program, t.graph), testing::HasSubstr(" scale=2.5 precision=mixed"));
}

TEST(Program, FindsGraphs) {
  const TinyProgram t = TinyProgram::block();
  EXPECT_EQ(t.program.find("block"), &t.program.graphs[0]);
  EXPECT_EQ(t.program.find("none"), nullptr);
}

TEST(Program, DynamicRowsFollowTheOutput) {
  const TinyProgram t = TinyProgram::block();
  for (const Op& op : t.program.graphs[0].ops) {
    const bool expected = op.kind != OpKind::last_row && op.kind != OpKind::sample && op.name != "logits";
    EXPECT_EQ(t.program.has_dynamic_rows(op), expected) << op.name;
  }
}

}  // namespace
}  // namespace tessera::test
