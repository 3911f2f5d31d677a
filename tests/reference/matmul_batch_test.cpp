// A product with each of several matrices against loops that are written out.
#include <cmath>

#include "reference/one_op.h"

namespace tessera::test {
namespace {

constexpr std::uint64_t kBatch = 3, kRows = 4, kN = 5, kK = 32;

std::vector<float> wave(std::size_t n, float step) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = std::sin(step * static_cast<float>(i + 1));
  return out;
}

struct Case {
  bool rows_first = false, gated = false, more = false;  // more: bias, residual, scale
  DType type = DType::f32;
  std::uint32_t live = kRows;  // rows of the pass; fewer only with rows_first
};

class Products {
 public:
  explicit Products(const Case& c) : c_(c) {
    const bool dynamic = c.live != kRows;
    x_ = b_.given(shape(kK), dynamic);
    residual_ = b_.given(shape(kN), dynamic);
    y_ = b_.given(shape(kN), dynamic);
    b_.graph().max_rows = kRows;
    OpAttrs attrs;
    attrs.rows_first = c.rows_first;
    attrs.act = Activation::relu;
    if (c.more) attrs.scale = -0.5f;
    const ValueId none = kNoValue, w = matrices(w_data_, 0.7f);
    b_.op(OpKind::matmul, attrs,
          {x_, w, c.more ? b_.constant({kN}, bias_) : none, c.gated ? matrices(up_data_, 1.3f) : none,
           c.gated && c.more ? b_.constant({kN}, up_bias_) : none, c.more ? residual_ : none, none},
          {y_});
    b_.write(x_, x_data_);
    if (c.more) b_.write(residual_, residual_data_);
    b_.write(y_, std::vector<float>(kBatch * kRows * kN, 77));
    b_.write_state({.position = 0, .rows = c.live});
  }

  void check() {
    const auto out = b_.run();
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].expected.size(), kBatch * c_.live * kN);
    const std::vector<float> y = b_.read<float>(y_, kBatch * kRows * kN);
    for (std::uint64_t batch = 0; batch < kBatch; ++batch)
      for (std::uint64_t row = 0; row < kRows; ++row)
        for (std::uint64_t n = 0; n < kN; ++n) {
          const std::uint64_t at = place(batch, row) * kN + n;
          if (row >= c_.live) {
            EXPECT_EQ(y[at], 77);
            continue;
          }
          EXPECT_NEAR(double{y[at]}, expected(batch, row, n), 1e-5) << batch << " " << row << " " << n;
          EXPECT_GT(out[0].bound[at], 0);
          EXPECT_LT(out[0].bound[at], 1e-3);
        }
  }

 private:
  std::uint64_t place(std::uint64_t batch, std::uint64_t row) const {
    return c_.rows_first ? row * kBatch + batch : batch * kRows + row;
  }
  std::vector<std::uint64_t> shape(std::uint64_t columns) const {
    return c_.rows_first ? std::vector{kRows, kBatch, columns} : std::vector{kBatch, kRows, columns};
  }
  // Weights of the case's type; `data` becomes what they decode to.
  ValueId matrices(std::vector<float>& data, float step) {
    data = wave(kBatch * kN * kK, step);
    std::vector<std::byte> file(file_bytes(data.size(), info(c_.type)));
    encode_row(c_.type, data, file);
    decode_row(c_.type, file, data);
    return b_.weight(c_.type, {kBatch, kN, kK}, file);
  }
  double dot(const std::vector<float>& w, std::uint64_t batch, std::uint64_t row, std::uint64_t n) const {
    double sum = 0;
    for (std::uint64_t i = 0; i < kK; ++i)
      sum += double{x_data_[place(batch, row) * kK + i]} * double{w[(batch * kN + n) * kK + i]};
    return sum;
  }
  double expected(std::uint64_t batch, std::uint64_t row, std::uint64_t n) const {
    const double scale = c_.more ? -0.5 : 1;
    double y = scale * dot(w_data_, batch, row, n) + (c_.more ? double{bias_[n]} : 0);
    y = std::max(y, 0.0);
    if (c_.gated) y *= scale * dot(up_data_, batch, row, n) + (c_.more ? double{up_bias_[n]} : 0);
    return y + (c_.more ? double{residual_data_[place(batch, row) * kN + n]} : 0);
  }

  Case c_;
  Bench b_;
  std::vector<float> x_data_ = wave(kBatch * kRows * kK, 2.3f),
                     residual_data_ = wave(kBatch * kRows * kN, 3.1f);
  std::vector<float> bias_ = wave(kN, 0.9f), up_bias_ = wave(kN, 0.4f), w_data_, up_data_;
  ValueId x_ = kNoValue, residual_ = kNoValue, y_ = kNoValue;
};

TEST(MatmulBatch, IsAProductWithEachMatrix) {
  for (const bool rows_first : {false, true})
    for (const bool gated : {false, true})
      for (const bool more : {false, true})
        for (const DType type : {DType::f32, DType::q8_0})
          Products({.rows_first = rows_first, .gated = gated, .more = more, .type = type}).check();
}

TEST(MatmulBatch, OnlyTheRowsOfThePassAreComputed) {
  for (const std::uint32_t live : {1u, 3u})
    Products({.rows_first = true, .gated = true, .more = true, .live = live}).check();
}

// x of (x_outer, x_inner, rows, k) by w of (w_outer, w_inner, n, k), with a bias for each matrix of w.
void check_broadcast(std::uint64_t x_outer, std::uint64_t x_inner, std::uint64_t w_outer,
                     std::uint64_t w_inner) {
  const std::uint64_t outer = std::max(x_outer, w_outer), inner = std::max(x_inner, w_inner);
  Bench b;
  b.graph().max_rows = 1;
  const std::vector<float> x_data = wave(x_outer * x_inner * kRows * kK, 2.3f),
                           w_data = wave(w_outer * w_inner * kN * kK, 0.7f),
                           bias_data = wave(w_outer * w_inner * kN, 0.9f);
  const ValueId x = b.given({x_outer, x_inner, kRows, kK}), w = b.weight({w_outer, w_inner, kN, kK}, w_data);
  const ValueId bias = b.constant({w_outer, w_inner, kN}, bias_data);
  const ValueId y = b.given({outer, inner, kRows, kN}), none = kNoValue;
  b.op(OpKind::matmul, {}, {x, w, bias, none, none, none, none}, {y});
  b.write(x, x_data);
  ASSERT_EQ(b.run().size(), 1u);
  const std::vector<float> found = b.read<float>(y, outer * inner * kRows * kN);
  for (std::uint64_t i = 0; i < found.size(); ++i) {
    const std::uint64_t n = i % kN, row = i / kN % kRows, product = i / (kN * kRows);
    const std::uint64_t o = product / inner, p = product % inner;
    const std::uint64_t x_row = (o % x_outer * x_inner + p % x_inner) * kRows + row;
    const std::uint64_t w_row = (o % w_outer * w_inner + p % w_inner) * kN + n;
    double sum = double{bias_data[w_row]};
    for (std::uint64_t k = 0; k < kK; ++k)
      sum += double{x_data[x_row * kK + k]} * double{w_data[w_row * kK + k]};
    EXPECT_NEAR(double{found[i]}, sum, 1e-5) << i;
  }
}

TEST(MatmulBatch, DimensionsOfOneAreBroadcast) {
  for (const std::uint64_t x_outer : {1, 2})
    for (const std::uint64_t x_inner : {1, 3})
      for (const std::uint64_t w_outer : {1, 2})
        for (const std::uint64_t w_inner : {1, 3}) check_broadcast(x_outer, x_inner, w_outer, w_inner);
}

}  // namespace
}  // namespace tessera::test
