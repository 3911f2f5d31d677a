// The walker around the ops: refusals, perturbation, bounds of stored values.
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <fstream>
#include <limits>

#include "reference/bounds.h"
#include "reference/one_op.h"
#include "reference/tensors.h"

namespace tessera::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Bounds, AStoredF16IsOffByHalfAnUlp) {
  EXPECT_EQ(bounds::stored(DType::f16, 1.0, 0), 0x1p-11);
  EXPECT_EQ(bounds::stored(DType::f16, 1.99, 0), 0x1p-11);
  EXPECT_EQ(bounds::stored(DType::f16, -3.0, 0x1p-20), 0x1p-10 + 0x1p-20);
  EXPECT_EQ(bounds::stored(DType::f16, 0x1p-16, 0), 0x1p-25);
  EXPECT_EQ(bounds::stored(DType::f16, 0, 0), 0x1p-25);
  EXPECT_TRUE(std::isinf(bounds::stored(DType::f16, 65505, 0)));
}

TEST(Bounds, WhatOverflowsOrIsNaNMayBeAnything) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isinf(bounds::stored(DType::f32, 4e38, 0)));
  EXPECT_TRUE(std::isinf(bounds::stored(DType::f32, nan, 0)));
  EXPECT_TRUE(std::isinf(bounds::stored(DType::f16, nan, 0)));
  EXPECT_EQ(bounds::stored(DType::f32, 1, 0), 0);
  EXPECT_EQ(bounds::stored(DType::u32, 4e9, 0), 0);
}

TEST(Bounds, EveryConstantIsDerivedInTheDocs) {
  const auto read = [](const std::string& path) {
    std::ifstream in(TESSERA_SOURCE_DIR + path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string header = read("/src/reference/bounds.h"), docs = read("/docs/verification.md");
  const std::string start = "inline constexpr double ";
  int count = 0;
  for (std::size_t at = header.find(start); at != std::string::npos; at = header.find(start, at + 1)) {
    const std::size_t first = at + start.size();
    const std::string constant = header.substr(first, header.find(' ', first) - first);
    EXPECT_THAT(docs, HasSubstr("`" + constant + "`"));
    ++count;
  }
  EXPECT_GT(count, 10);
}

TEST(Bounds, GammaGrowsWithTheLengthAndEnds) {
  EXPECT_NEAR(bounds::gamma(1024), 1024 * 0x1p-24, 1e-8);
  EXPECT_TRUE(std::isinf(bounds::gamma(0x1p24)));
}

// A stale output element may hold NaN: it must not be read.
TEST(Walker, OnlyTheRowsOfThePassAreComputed) {
  Bench b;
  const ValueId x = b.given({3, 2}, true), y = b.given({3, 2}, true), sum = b.activation({3, 2}, true);
  b.op(OpKind::add, {}, {x, y}, {sum});
  b.graph().max_rows = 3;
  b.write(x, std::vector<float>{1, 2, 3, 4, 5, 6});
  b.write(y, std::vector<float>{10, 20, 30, 40, 50, 60});
  b.write(sum, std::vector<float>(6, -1));
  b.write_state({.position = 0, .rows = 2});
  EXPECT_EQ(b.run()[0].expected.size(), 4u);
  EXPECT_THAT(b.read<float>(sum, 6), ElementsAre(11, 22, 33, 44, -1, -1));
}

TEST(Walker, AdvanceMovesOn) {
  Bench b;
  OpAttrs attrs;
  attrs.chunk = 4;
  b.graph().max_rows = 4;
  b.op(OpKind::advance, attrs, {b.state()}, {b.state()});
  b.write_state({.position = 5, .rows = 3, .status = 1, .token = 9, .remaining = 5});
  for (const auto& [position, rows, remaining] :
       {std::array{8u, 4u, 1u}, std::array{12u, 1u, 0u}, std::array{13u, 0u, 0u}, std::array{13u, 0u, 0u}}) {
    b.run();
    const StepState after = b.read_state();
    EXPECT_EQ(after.position, position);
    EXPECT_EQ(after.rows, rows);
    EXPECT_EQ(after.remaining, remaining);
    EXPECT_EQ(after.status, 1u);
    EXPECT_EQ(after.token, 9u);
  }
}

TEST(Walker, RefusesWhatDoesNotFitAndNamesTheOp) {
  Bench b;
  const ValueId tokens = b.add("tokens", Storage::input, DType::u32, {5}, false);
  const ValueId table = b.weight({2, 2}, {1, 2, 3, 4}), x = b.activation({2, 2}, true);
  b.op(OpKind::embedding, {}, {tokens, b.state(), table, kNoValue}, {x});
  b.graph().max_rows = 2;
  const auto refusal = [&](StepState state) {
    b.write_state(state);
    const auto done = b.walker().run(0);
    EXPECT_FALSE(done.ok());
    return done.ok() ? "" : done.error().message;
  };
  EXPECT_THAT(refusal({.position = 4, .rows = 2}), HasSubstr("the_op: position 4 and 2 rows exceed"));
  EXPECT_THAT(refusal({.position = 0, .rows = 3}), HasSubstr("the_op: 3 rows, but graph g takes at most 2"));
  b.write(tokens, std::vector<std::uint32_t>{0, 7, 0, 0, 0});
  EXPECT_THAT(refusal({.position = 0, .rows = 2}), HasSubstr("token 7 at position 1"));
  EXPECT_EQ(b.walker().run(3).error().code, Code::invalid_argument);
  EXPECT_EQ(b.walker().run_op(0, 9, false).error().code, Code::invalid_argument);
  std::vector<std::byte> bytes(8);
  EXPECT_THAT(b.walker().write(tokens, 16, bytes).error().message, HasSubstr("tokens"));
  EXPECT_EQ(b.walker().read(table, 0, bytes).error().code, Code::invalid_argument);
  EXPECT_EQ(b.walker().read(99, 0, bytes).error().code, Code::invalid_argument);
}

TEST(Walker, ThereIsNoLastRowOfTooManyOrNone) {
  Bench b;
  const ValueId x = b.given({2, 2}, true), y = b.activation({1, 2});
  b.op(OpKind::last_row, {}, {x, b.state(), kNoValue}, {y});
  b.graph().max_rows = 2;
  for (std::uint32_t rows : {0u, 3u}) {
    b.write_state({.position = 0, .rows = rows});
    EXPECT_EQ(b.walker().run(0).error().code, Code::invalid_argument);
  }
}

// With a gate, biases, a residual and a norm; and precision mixed only widens its bound.
TEST(FeedForward, IsTheOpsThatItIsMadeOf) {
  constexpr std::uint64_t kRows = 2, kDim = 3, kHidden = 4;
  const auto wave = [](std::size_t n, float step) {
    std::vector<float> out(n);
    for (std::size_t i = 0; i < n; ++i) out[i] = std::sin(step * static_cast<float>(i + 1));
    return out;
  };
  std::vector<float> expected;
  std::vector<double> bounds;
  for (const int form : {0, 1, 2}) {  // apart, the op, the op in precision mixed
    Bench b;
    const ValueId x = b.given({kRows, kDim}), residual = b.given({kRows, kDim});
    const ValueId norm = b.constant({kDim}, wave(kDim, 0.3f));
    const ValueId gate = b.weight({kHidden, kDim}, wave(kHidden * kDim, 0.7f));
    const ValueId gate_bias = b.constant({kHidden}, wave(kHidden, 0.2f));
    const ValueId up = b.weight({kHidden, kDim}, wave(kHidden * kDim, 1.1f));
    const ValueId up_bias = b.constant({kHidden}, wave(kHidden, 0.5f));
    const ValueId down = b.weight({kDim, kHidden}, wave(kDim * kHidden, 1.7f));
    const ValueId down_bias = b.constant({kDim}, wave(kDim, 0.9f)), y = b.activation({kRows, kDim});
    OpAttrs attrs;
    attrs.eps = 1e-5f;
    attrs.act = Activation::silu;
    if (form == 0) {
      const ValueId n = b.activation({kRows, kDim}), h = b.activation({kRows, kHidden});
      b.op(OpKind::norm, attrs, {x, norm, kNoValue, kNoValue}, {n, kNoValue});
      b.op(OpKind::matmul, attrs, {n, gate, gate_bias, up, up_bias, kNoValue, kNoValue}, {h});
      b.op(OpKind::matmul, {}, {h, down, down_bias, kNoValue, kNoValue, residual, kNoValue}, {y});
    } else {
      if (form == 2) attrs.precision = Precision::mixed;
      b.op(OpKind::feed_forward, attrs, {x, gate, gate_bias, up, up_bias, down, down_bias, residual, norm},
           {y});
    }
    b.write(x, wave(kRows * kDim, 2.3f));
    b.write(residual, wave(kRows * kDim, 3.1f));
    if (form == 0) {
      ASSERT_TRUE(b.walker().run(0).ok());
      expected = b.read<float>(y, kRows * kDim);
      continue;
    }
    const auto out = b.run();
    ASSERT_EQ(out.size(), 1u);
    for (std::size_t i = 0; i < kRows * kDim; ++i) {
      EXPECT_NEAR(out[0].expected[i], double{expected[i]}, 1e-6) << i;
      EXPECT_GT(out[0].bound[i], form == 1 ? 0 : 100 * bounds[i]) << i;
      EXPECT_LT(out[0].bound[i], form == 1 ? 1e-4 : 1) << i;
    }
    bounds = out[0].bound;
  }
}

// A weight decoded row by row gives what one that is kept gives.
TEST(Tensors, RowsAreTheSameKeptOrNot) {
  Bench b;
  std::vector<float> data(3 * 64);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i % 17) - 8;
  std::vector<std::byte> file(file_bytes(data.size(), info(DType::q8_0)));
  encode_row(DType::q8_0, data, file);
  const ValueId w = b.weight(DType::q8_0, {3, 64}, file), x = b.given({1, 64}), y = b.activation({1, 3});
  b.op(OpKind::matmul, {}, {x, w, kNoValue, kNoValue, kNoValue, kNoValue, kNoValue}, {y});
  Tensors kept(b.program()), not_kept(b.program(), 0);
  for (std::uint64_t first : {0u, 1u}) {
    std::vector<float> rows[2];
    int i = 0;
    for (Tensors* tensors : {&kept, &not_kept}) {
      const auto use = [&](std::uint64_t, std::span<const float> row) {
        rows[i].insert(rows[i].end(), row.begin(), row.end());
      };
      ASSERT_TRUE(tensors->for_rows(w, first, 2, use).ok());
      ++i;
    }
    EXPECT_EQ(rows[0].size(), 128u);
    EXPECT_EQ(rows[0], rows[1]);
  }
}

TEST(Walker, RefusesABadProgram) {
  Bench b;
  auto program = std::make_shared<Program>(b.program());
  program->graphs[0].ops.push_back({OpKind::add, "bad", {}, {}, {}});
  EXPECT_FALSE(ReferenceWalker::create(program).ok());
}

// Keys past the context, or of a window that a row does not see, are not looked at.
TEST(Attention, OneKeyGivesItsValueAndTheWindowHides) {
  Bench b;
  const ValueId q = b.given({1, 2});
  const ValueId k = b.add("k", Storage::cache, DType::f32, {1, 4, 2}, false);
  const ValueId v = b.add("v", Storage::cache, DType::f32, {1, 4, 2}, false);
  const ValueId o = b.activation({1, 2});
  OpAttrs attrs;
  attrs.attention = {.kv_len = 4,
                     .head_dim = 2,
                     .v_dim = 2,
                     .causal = Causal::bottom_right,
                     .window_left = 0,
                     .cache = true};
  std::vector<ValueId> in(static_cast<std::size_t>(AttentionIn::count), kNoValue);
  in[0] = q;
  in[1] = k;
  in[2] = v;
  in[3] = b.state();
  b.op(OpKind::attention, attrs, in, {o, kNoValue, kNoValue});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  b.write(q, std::vector<float>{3, -7});
  b.write(k, std::vector<float>{nan, nan, 100, 100, nan, nan, nan, nan});
  b.write(v, std::vector<float>{nan, nan, 5, 6, nan, nan, nan, nan});
  b.write_state({.position = 1, .rows = 1});
  b.run();
  EXPECT_THAT(b.read<float>(o, 2), ElementsAre(5, 6));
}

TEST(Perturb, MovesByTheBoundWithSignsOfTheSeed) {
  Bench b;
  const ValueId x = b.given({1, 64}), y = b.given({1, 64}), sum = b.activation({1, 64});
  b.op(OpKind::add, {}, {x, y}, {sum});
  b.write(x, std::vector<float>(64, 1));
  b.write(y, std::vector<float>(64, 2));
  const auto moved = [&](double fraction, std::uint64_t seed) {
    b.walker().perturb(fraction, seed);
    EXPECT_TRUE(b.walker().run(0).ok());
    return b.read<float>(sum, 64);
  };
  const std::vector<float> one = moved(1, 1);
  int up = 0;
  for (float f : one) {
    EXPECT_NEAR(std::fabs(f - 3), 3 * 0x1p-23, 0x1p-23);
    up += f > 3;
  }
  EXPECT_GT(up, 16);
  EXPECT_LT(up, 48);
  EXPECT_EQ(moved(1, 1), one);
  EXPECT_NE(moved(1, 2), one);
  EXPECT_EQ(moved(0, 1), std::vector<float>(64, 3));
}

TEST(Perturb, ToleranceOfARunIsTheLargestMovement) {
  Bench b;
  const ValueId x = b.given({1, 2}), y = b.given({1, 2}), sum = b.activation({1, 2});
  b.op(OpKind::add, {}, {x, y}, {sum});
  const auto drive = [&](Walker& walker) -> Result<std::vector<float>> {
    const std::vector<float> one{1, 1};
    std::vector<float> out(2);
    TSR_CHECK(walker.write(x, 0, bytes_of(one)));
    TSR_CHECK(walker.write(y, 0, bytes_of(one)));
    TSR_CHECK(walker.run(0));
    TSR_CHECK(walker.read(sum, 0, std::as_writable_bytes(std::span(out))));
    return out;
  };
  const auto program = std::make_shared<const Program>(b.program());
  const auto tolerance = run_tolerance(program, drive);
  ASSERT_TRUE(tolerance.ok()) << tolerance.error().message;
  EXPECT_NEAR(*tolerance, 2 * 2 * 0x1p-23, 0x1p-24);
}

}  // namespace
}  // namespace tessera::test
