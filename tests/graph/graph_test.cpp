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

// A row is its index in the weight, plus 100 by letter of its name.
class NumberedWeights : public WeightReader {
 public:
  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    for (std::size_t i = 0; i < out.size() / 4; ++i) {
      const std::uint32_t row = static_cast<std::uint32_t>(first_row + i) + number(weight.name[0]);
      std::memcpy(&out[i * 4], &row, 4);
    }
    return {};
  }
  static std::uint32_t number(char letter) { return static_cast<std::uint32_t>(letter - 'a') * 100; }
};

struct Ordered {
  const char* name;
  std::vector<RowOrder> orders;
  std::vector<std::uint32_t> rows;  // as they come: a has 0..23, b 100..111, c 200..203
};

const std::vector<Ordered>& ordered() {
  static const std::vector<Ordered> all{
      {"as they are",
       {{12, 0}, {12, 0}, {}},
       {0,  1,  2,  3,  4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,
        20, 21, 22, 23, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 200, 201, 202, 203}},
      {"halves of 8 of 12",
       {{12, 8}, {12, 8}, {}},
       {0,  1,  4,  5,  2,   3,   6,   7,   8,   9,   10,  11,  12,  13,  16,  17,  14,  15,  18,  19,
        20, 21, 22, 23, 100, 101, 104, 105, 102, 103, 106, 107, 108, 109, 110, 111, 200, 201, 202, 203}},
      {"halves of 12, and b as it is",
       {{12, 12}, {12, 0}, {}},
       {0,  1,  6,  7,  2,   3,   8,   9,   4,   5,   10,  11,  12,  13,  18,  19,  14,  15,  20,  21,
        16, 17, 22, 23, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 200, 201, 202, 203}},
      {"a as it is, and heads of b of 4",
       {{}, {4, 4}, {}},
       {0,  1,  2,  3,  4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,
        20, 21, 22, 23, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 200, 201, 202, 203}},
      {"one head of 24",
       {{24, 16}, {12, 4}, {4, 4}},
       {0,  1,  8,  9,  2,   3,   10,  11,  4,   5,   12,  13,  6,   7,   14,  15,  16,  17,  18,  19,
        20, 21, 22, 23, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 200, 201, 202, 203}},
  };
  return all;
}

TEST(ReadRows, EveryWindowOfAnOrderedStack) {
  for (const Ordered& o : ordered()) {
    SCOPED_TRACE(o.name);
    TinyProgram t;
    const ValueId a = t.weight("a", {24, 1}), b = t.weight("b", {12, 1}), c = t.weight("c", {4, 1});
    const ValueId all = t.weight("abc", {40, 1});
    t.program.values[all].parts = {a, b, c};
    t.program.values[all].orders = o.orders;
    t.program.weights = std::make_shared<NumberedWeights>();
    const auto sound = t.finish().check();
    ASSERT_TRUE(sound.ok()) << sound.error().message;
    for (std::uint32_t first = 0; first <= 40; ++first)
      for (std::uint32_t n = 0; first + n <= 40; ++n) {
        std::vector<std::uint32_t> got(n);
        ASSERT_TRUE(read_rows(t.program, all, first, std::as_writable_bytes(std::span(got))).ok());
        ASSERT_EQ(got, std::vector(o.rows.begin() + first, o.rows.begin() + first + n))
            << n << " rows from " << first;
      }
  }
}

// Two rows that turn together are two places apart, and each row comes once.
TEST(RowOrder, PutsPairsIntoFours) {
  for (const std::uint32_t head_dim : {4u, 8u, 20u, 64u, 128u})
    for (std::uint32_t rope_dims = 4; rope_dims <= head_dim; rope_dims += 4) {
      const RowOrder order{head_dim, rope_dims};
      std::vector<bool> seen(head_dim * 3);
      for (std::uint64_t row = 0; row < seen.size(); ++row) {
        const std::uint64_t from = order.source(row), d = row % head_dim;
        ASSERT_LT(from, seen.size());
        EXPECT_FALSE(seen[from]) << from;
        seen[from] = true;
        EXPECT_EQ(from / head_dim, row / head_dim);
        if (d >= rope_dims) {
          EXPECT_EQ(from, row);
        } else if (d % 4 < 2) {
          EXPECT_EQ(order.source(row + 2), from + rope_dims / 2);
        }
      }
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
