#include <bit>
#include <cmath>

#include "kernels/data.h"
#include "support/gpu_fixture.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

// A block with its numbers, and what y is in double.
class Block {
 public:
  FeedForwardShape shape;
  std::vector<float> x, bias, up_bias, down_bias, residual;
  TestWeights w, up, down;
  std::uint32_t live_rows;

  explicit Block(const FeedForwardShape& s, std::uint32_t live = 0)
      : shape(s), live_rows(live != 0 ? live : s.rows) {
    x = rounded(s.x_type, random_floats(std::size_t{s.rows} * s.k, 1 + s.k));
    std::fill(x.begin() + std::ptrdiff_t{live_rows} * s.k, x.end(), std::nanf(""));
    w = make_weights(s.type, s.hidden, s.k, 2);
    if (s.gated) up = make_weights(s.type, s.hidden, s.k, 3);
    down = make_weights(s.down_type, s.n, s.hidden, 4);
    bias = random_floats(s.hidden, 5);
    up_bias = random_floats(s.hidden, 6);
    down_bias = random_floats(s.n, 7);
    residual = rounded(s.y_type, random_floats(std::size_t{s.rows} * s.n, 8));
  }

  std::string what() const {
    return std::string(info(shape.type).name) + " rows " + std::to_string(shape.rows) + " k " +
           std::to_string(shape.k) + " hidden " + std::to_string(shape.hidden) + " n " +
           std::to_string(shape.n) + " act " + std::to_string(shape.act) + (shape.gated ? " gated" : "") +
           (shape.bias ? " bias" : "") + (shape.down_bias ? " down_bias" : "") +
           (shape.residual ? " residual" : "");
  }

  static Bytes stored(DType type, const std::vector<float>& values) {
    if (type == DType::f32) return to_bytes(values);
    std::vector<std::uint16_t> halves((values.size() + 1) / 2 * 2);
    for (std::size_t i = 0; i < values.size(); ++i) halves[i] = f32_to_f16(values[i]);
    return to_bytes(halves);
  }

  struct Value {
    double value = 0, bound = 0;
  };
  // A row of y. A sum of n terms is off by (n + 8) 2^-24 of their magnitudes, and by what its operands are.
  std::vector<Value> expected(std::uint32_t row) const {
    std::vector<double> in(x.begin() + std::ptrdiff_t{row} * shape.k,
                           x.begin() + std::ptrdiff_t{row + 1} * shape.k);
    const std::vector<double> exact(in.size());
    std::vector<double> hidden(shape.hidden), off(shape.hidden);
    for (std::uint32_t u = 0; u < shape.hidden; ++u) {
      const Value gate = dot(in, exact, w.values, u, shape.bias ? &bias : nullptr);
      Value h{activate(shape.act, gate.value), activation_bound(shape.act, gate.value, gate.bound)};
      if (shape.gated) {
        const Value other = dot(in, exact, up.values, u, shape.bias ? &up_bias : nullptr);
        h = {h.value * other.value, std::abs(h.value) * other.bound + std::abs(other.value) * h.bound +
                                        h.bound * other.bound + std::abs(h.value * other.value) * 0x1p-24};
      }
      hidden[u] = h.value;
      off[u] = h.bound;
    }
    std::vector<Value> out;
    for (std::uint32_t n = 0; n < shape.n; ++n) {
      Value y = dot(hidden, off, down.values, n, shape.down_bias ? &down_bias : nullptr);
      if (shape.residual) {
        y.value += residual[std::size_t{row} * shape.n + n];
        y.bound += 0x1p-24 * std::abs(y.value);
      }
      if (shape.y_type == DType::f16) y.bound += std::max(0x1p-11 * (std::abs(y.value) + y.bound), 0x1p-25);
      out.push_back(y);
    }
    return out;
  }

 private:
  static std::vector<float> rounded(DType type, std::vector<float> values) {
    if (type == DType::f16)
      for (float& v : values) v = f16_to_f32(f32_to_f16(v));
    return values;
  }
  static Value dot(const std::vector<double>& a, const std::vector<double>& off,
                   const std::vector<float>& weights, std::uint32_t n, const std::vector<float>* b) {
    double magnitude = 0, operands = 0;
    Value out;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double weight = weights[n * a.size() + i];
      out.value += a[i] * weight;
      magnitude += std::abs(a[i] * weight);
      operands += off[i] * std::abs(weight);
    }
    if (b != nullptr) {
      out.value += (*b)[n];
      magnitude += std::abs((*b)[n]);
    }
    out.bound = (static_cast<double>(a.size()) + 8) * 0x1p-24 * (magnitude + operands) + operands;
    return out;
  }
};

// Each case runs fused, on a software driver in the form for GPUs too, and as two products.
class FeedForwardGpu : public GpuTest {
 protected:
  // Bytes of y; empty where the device has no such form.
  Bytes run(Block& b, const Target& target, bool may_refuse = false, std::uint32_t slices = 1) {
    auto choice = choose_feed_forward(b.shape, target);
    if (may_refuse && !choice) return {};
    EXPECT_TRUE(choice) << choice.error().message;
    if (!choice) return {};
    Bytes x = Block::stored(b.shape.x_type, b.x), bias = to_bytes(b.bias), up_bias = to_bytes(b.up_bias);
    Bytes down_bias = to_bytes(b.down_bias), residual = Block::stored(b.shape.y_type, b.residual);
    Bytes state = state_bytes(7, b.live_rows);
    const std::size_t elems = std::size_t{b.shape.rows} * b.shape.n;
    Bytes y = poisoned(b.shape.y_type == DType::f16 ? (elems + 1) / 2 : elems);
    EXPECT_TRUE(run_call(*device_, choice->dispatches, choice->scratch,
                         {&x, &b.w.device, b.shape.gated ? &b.up.device : nullptr, &bias, &up_bias,
                          &b.down.device, &down_bias, &y, &state, &residual},
                         slices))
        << b.what();
    return y;
  }

  // In the form that the device chooses itself.
  void check_chosen(const FeedForwardShape& shape, const Target& target) {
    Block b(shape);
    compare(b, run(b, target), "chosen");
  }

  void compare(const Block& b, const Bytes& bytes, const std::string& form) {
    const bool half = b.shape.y_type == DType::f16;
    const auto words = from_bytes<std::uint32_t>(bytes);
    const auto halves = from_bytes<std::uint16_t>(bytes);
    for (std::uint32_t row = 0; row < b.shape.rows; ++row) {
      const auto expected = row < b.live_rows ? b.expected(row) : std::vector<Block::Value>{};
      for (std::uint32_t n = 0; n < b.shape.n; ++n) {
        const std::size_t i = std::size_t{row} * b.shape.n + n;
        if (row >= b.live_rows) {
          ASSERT_EQ(half ? halves[i] : words[i],
                    half ? (i % 2 == 0 ? kPoison & 0xffff : kPoison >> 16) : kPoison)
              << form << " " << b.what() << ": y[" << row << "," << n << "] was touched";
          continue;
        }
        const double y = half ? f16_to_f32(halves[i]) : std::bit_cast<float>(words[i]);
        ASSERT_LE(std::abs(y - expected[n].value), expected[n].bound)
            << form << " " << b.what() << ": y[" << row << "," << n << "] is " << y << ", not "
            << expected[n].value;
      }
    }
  }

  void check(const FeedForwardShape& shape, std::uint32_t live = 0, std::uint32_t slices = 1) {
    Block b(shape, live);
    Target t = target_of(*device_);
    const bool software = t.caps.software;
    for (const std::string form : {"feed_forward_fused", "gpu", "feed_forward_products"}) {
      if (form == "gpu" && !software) continue;
      if (form == "feed_forward_products" && ran_[form] >= kProductRuns) continue;
      t.caps.software = software && form != "gpu";
      t.form = form == "gpu" ? "feed_forward_fused" : form;
      const Bytes y = run(b, t, form != "feed_forward_products", slices);
      if (y.empty()) continue;
      ++ran_[form];
      compare(b, y, form);
      if (HasFatalFailure()) return;
    }
  }

  // Products are tested by themselves too.
  static constexpr int kProductRuns = 4;
  std::map<std::string, int> ran_;
};

FeedForwardShape shape_of(DType type, std::uint32_t rows, std::uint32_t k, std::uint32_t hidden,
                          std::uint32_t n) {
  FeedForwardShape s;
  s.type = s.down_type = type;
  s.rows = rows;
  s.k = k;
  s.hidden = hidden;
  s.n = n;
  return s;
}

std::uint32_t whole(DType type) { return std::max(info(type).block_elems, 32u); }

TEST_F(FeedForwardGpu, AwkwardSizes) {
  // By rows, k, hidden, n: each size of each meets others.
  constexpr std::uint32_t kShapes[][4] = {{1, 1, 1, 1},    {1, 37, 129, 33}, {7, 3, 5, 7},    {7, 8, 31, 1},
                                          {17, 1, 31, 33}, {17, 37, 5, 1},   {65, 3, 129, 7}, {65, 8, 1, 33},
                                          {2, 61, 61, 61}, {64, 5, 32, 67}};
  for (const auto& s : kShapes) check(shape_of(DType::f32, s[0], s[1], s[2], s[3]));
  EXPECT_GT(ran_["feed_forward_fused"], 0);
}

TEST_F(FeedForwardGpu, EveryTypePlainAndGated) {
  Sweep sweep;
  for (const DType type : kWeightTypes)
    for (const std::uint32_t rows : {3u, 35u})
      for (const bool gated : {false, true}) {
        if (rows == 3 && gated == (static_cast<std::uint32_t>(type) % 2 == 0)) continue;
        const std::uint32_t block = info(type).block_elems;
        FeedForwardShape s = shape_of(type, rows, whole(type), block > 1 ? 3 * block : 67, 35);
        s.gated = gated;
        s.act = gated ? 1 : 2;
        if (sweep.next()) check(s);
      }
}

TEST_F(FeedForwardGpu, TilesAndTheirNeighbours) {
  Sweep sweep;
  for (const std::uint32_t rows : {15u, 16u, 17u, 33u})
    for (const std::uint32_t hidden : {127u, 128u, 129u})
      if (sweep.next()) check(shape_of(DType::f16, rows, 64, hidden, 32));
  for (const std::uint32_t n : {63u, 65u, 128u, 129u, 255u}) {
    FeedForwardShape s = shape_of(DType::q8_0, 19, 64, 160, n);
    s.gated = n % 4 == 1;
    if (sweep.next()) check(s);
  }
}

TEST_F(FeedForwardGpu, EveryActivation) {
  Sweep sweep;
  for (std::uint32_t act = 0; act <= 6; ++act)
    for (const bool gated : {false, true}) {
      FeedForwardShape s = shape_of(DType::f32, 11, 30, 37, 29);
      s.act = act;
      s.gated = gated;
      s.bias = true;
      if (sweep.next()) check(s);
    }
}

TEST_F(FeedForwardGpu, EveryPartOfTheEpilogue) {
  Sweep sweep;
  for (const std::uint32_t rows : {20u})
    for (std::uint32_t part = 0; part < 16; ++part) {
      FeedForwardShape s = shape_of(DType::f16, rows, 21, 45, 19);
      s.gated = (part & 1) != 0;
      s.bias = (part & 2) != 0;
      s.down_bias = (part & 4) != 0;
      s.residual = (part & 8) != 0;
      s.act = 3;
      if (sweep.next()) check(s);
    }
}

TEST_F(FeedForwardGpu, HalfActivations) {
  for (const std::uint32_t k : {32u, 33u})
    for (const bool x : {false, true})
      for (const bool y : {false, true}) {
        FeedForwardShape s = shape_of(DType::f32, 9, k, 40, 21);
        s.x_type = x ? DType::f16 : DType::f32;
        s.y_type = y ? DType::f16 : DType::f32;
        s.residual = k == 33;
        check(s);
      }
}

TEST_F(FeedForwardGpu, RowsFromTheState) {
  for (const std::uint32_t live : {1u, 16u, 40u, 70u}) {
    FeedForwardShape s = shape_of(DType::f32, 70, 24, 65, 34);
    s.dynamic_rows = true;
    s.residual = true;
    check(s, live);
  }
}

// A hidden dimension far larger than y is divided among workgroups.
TEST_F(FeedForwardGpu, PartsOfTheHiddenDimension) {
  for (const DType type : {DType::f32, DType::q4_0}) {
    FeedForwardShape s = shape_of(type, 5, 32, 1056, 9);
    s.dynamic_rows = s.residual = s.down_bias = true;
    s.y_type = DType::f16;
    check(s, 4);
  }
}

// Some drivers end the loops of an invocation after 65535 iterations in total: a count of its own for each
// form.
TEST_F(FeedForwardGpu, LongLoops) {
  const Target t = target_of(*device_);
  if (t.limits.max_storage_range >= std::uint64_t{4096} * 1024 * 4)
    check_chosen(shape_of(DType::f32, 32, 1024, 4096, 64), t);
  if (HasFatalFailure()) return;
  for (const bool software : {false, true}) {
    Target low = t;
    low.form = "feed_forward_fused";
    low.caps.software = software && t.caps.software;
    low.limits.max_loop_iterations = 1024;
    for (const bool gated : {false, true}) {
      FeedForwardShape s = shape_of(DType::f32, 5, 64, 2500, 20);
      s.gated = gated;
      s.residual = s.down_bias = true;
      const auto choice = choose_feed_forward(s, low);
      ASSERT_TRUE(choice) << choice.error().message;
      EXPECT_EQ(choice->dispatches.size(), 2u);
      check_chosen(s, low);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(FeedForwardGpu, SlicesAndAFoldedGrid) {
  auto small = make_device({{"max_group_count_x", 2}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  check(shape_of(DType::f32, 133, 20, 50, 20), 0, 2);
}

TEST_F(FeedForwardGpu, WeightsOfTwoTypesAreTwoProducts) {
  FeedForwardShape s = shape_of(DType::q4_0, 3, 64, 96, 40);
  s.down_type = DType::f16;
  check(s);
  EXPECT_EQ(ran_["feed_forward_fused"], 0);
  EXPECT_EQ(ran_["feed_forward_products"], 1);
}

// Rows of w, up and down in windows: each is a binding of its own.
TEST_F(FeedForwardGpu, Windows) {
  FeedForwardShape s = shape_of(DType::f32, 6, 12, 40, 21);
  s.gated = s.bias = s.down_bias = s.residual = true;
  s.act = 1;
  Block b(s);
  b.shape.hidden_window = 16;
  b.shape.n_window = 8;
  auto choice = choose_feed_forward(b.shape, target_of(*device_));
  ASSERT_TRUE(choice) << choice.error().message;
  ASSERT_EQ(choice->dispatches.size(), 6u);
  ASSERT_FALSE(choice->refused.empty());
  std::vector<Bytes> windows;
  const auto cut = [&](const Bytes& rows, std::size_t bytes) {
    std::vector<Bytes> out;
    for (std::size_t at = 0; at < rows.size(); at += bytes)
      out.emplace_back(rows.begin() + static_cast<std::ptrdiff_t>(at),
                       rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), at + bytes)));
    return out;
  };
  std::vector<Bytes> w = cut(b.w.device, 16 * device_row_bytes(s.type, s.k));
  std::vector<Bytes> up = cut(b.up.device, 16 * device_row_bytes(s.type, s.k));
  std::vector<Bytes> down = cut(b.down.device, 8 * device_row_bytes(s.type, s.hidden));
  Bytes x = to_bytes(b.x), bias = to_bytes(b.bias), up_bias = to_bytes(b.up_bias);
  Bytes down_bias = to_bytes(b.down_bias), y = poisoned(std::size_t{s.rows} * s.n);
  Bytes state = state_bytes(0, 0), residual = to_bytes(b.residual);
  std::vector<Bytes*> operands{&x,         nullptr, nullptr, &bias,     &up_bias, nullptr,
                               &down_bias, &y,      &state,  &residual, nullptr};
  for (std::size_t i = 0; i < w.size(); ++i) operands.insert(operands.end(), {&w[i], &up[i]});
  for (Bytes& window : down) operands.push_back(&window);
  ASSERT_TRUE(run_call(*device_, choice->dispatches, choice->scratch, operands));
  compare(b, y, "windows");
}

TEST_F(FeedForwardGpu, NotANumberSpreads) {
  FeedForwardShape s = shape_of(DType::f32, 4, 20, 40, 20);
  Target t = target_of(*device_);
  t.form = "feed_forward_fused";
  Block b(s);
  b.x[3] = std::nanf("");
  const std::vector<float> y = from_bytes<float>(run(b, t, true));
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i < 20) << i;
}

}  // namespace
}  // namespace tessera::test
