// Runs a Product (matmul_case.h) and compares what comes back.
#pragma once

#include <bit>

#include "kernels/matmul_case.h"

namespace tessera::test {

// y within its bound where the product is, and the poison where it is not.
inline void compare(const Product& p, const Bytes& bytes) {
  const bool half = p.shape.y_type == DType::f16;
  const auto words = from_bytes<std::uint32_t>(bytes);
  const auto halves = from_bytes<std::uint16_t>(bytes);
  const auto untouched = [&](std::size_t i) {
    return half ? halves[i] == (i % 2 == 0 ? kPoison & 0xffff : kPoison >> 16) : words[i] == kPoison;
  };
  std::vector<bool> mine(p.y_elems());
  for (std::uint32_t b = 0; b < p.shape.batch; ++b)
    for (std::uint32_t row = 0; row < p.live_rows; ++row)
      for (std::uint32_t n = 0; n < p.shape.n; ++n) {
        const std::size_t i = p.y_at(b, row, n);
        mine[i] = true;
        const double y = half ? f16_to_f32(halves[i]) : std::bit_cast<float>(words[i]);
        const Product::Value e = p.expected(b, row, n);
        ASSERT_LE(std::abs(y - e.value), e.bound)
            << p.what() << ": y[" << b << "," << row << "," << n << "] is " << y << ", not " << e.value;
      }
  for (std::size_t i = 0; i < mine.size(); ++i)
    ASSERT_TRUE(mine[i] || untouched(i)) << p.what() << ": element " << i << " of y was touched";
}

// Bytes of y after the dispatches of a call; empty where they failed.
inline Bytes run_product(Device& device, const Product& p, const MatmulChoice& choice,
                         std::uint32_t slices = 1) {
  Bytes x = stored(p.shape.x_type, p.x), bias = to_bytes(p.bias), up_bias = to_bytes(p.up_bias);
  Bytes residual = stored(p.shape.y_type, p.residual), state = state_bytes(7, p.live_rows);
  Bytes w = p.w.device, up = p.shape.gated ? p.up.device : Bytes(16);
  Bytes y = poisoned(p.shape.y_type == DType::f16 ? (p.y_elems() + 1) / 2 : p.y_elems());
  std::vector<Dispatch> dispatches = choice.dispatches;
  for (Dispatch& d : dispatches)
    if (d.operands.empty()) d.operands = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto done = run_call(device, dispatches, choice.scratch,
                             {&x, &w, &up, &bias, &up_bias, &y, &state, &residual}, slices);
  EXPECT_TRUE(done) << p.what();
  return done ? y : Bytes{};
}

}  // namespace tessera::test
