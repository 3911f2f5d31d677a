// One feed-forward block with its numbers, its expected values in double, and how far a kernel may be off.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "kernels/choose.h"
#include "kernels/data.h"
#include "kernels/matmul_shape.h"
#include "reference/bounds.h"
#include "support/run_dispatch.h"

namespace tessera::test {

inline FeedForwardShape shape_of(DType type, std::uint32_t rows, std::uint32_t k, std::uint32_t hidden,
                                 std::uint32_t n) {
  FeedForwardShape s;
  s.type = s.down_type = type;
  s.rows = rows;
  s.k = k;
  s.hidden = hidden;
  s.n = n;
  return s;
}

inline std::uint32_t whole(DType type) { return std::max(info(type).block_elems, 32u); }

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
           (shape.residual ? " residual" : "") + (shape.precision == Precision::mixed ? " mixed" : "");
  }

  struct Value {
    double value = 0, bound = 0;
  };
  // A row of y. A sum of n terms is off by (n + 8) 2^-24 of their magnitudes, by what its operands are, and
  // in precision mixed by what rounding them costs.
  std::vector<Value> expected(std::uint32_t row) const {
    std::vector<double> in(x.begin() + std::ptrdiff_t{row} * shape.k,
                           x.begin() + std::ptrdiff_t{row + 1} * shape.k);
    const std::vector<double> exact(in.size());
    std::vector<double> hidden(shape.hidden), off(shape.hidden);
    for (std::uint32_t u = 0; u < shape.hidden; ++u) {
      const Value gate = dot(in, exact, shape.x_type, w.values, shape.type, u, shape.bias ? &bias : nullptr);
      Value h{activate(shape.act, gate.value), activation_bound(shape.act, gate.value, gate.bound)};
      if (shape.gated) {
        const Value other =
            dot(in, exact, shape.x_type, up.values, shape.type, u, shape.bias ? &up_bias : nullptr);
        h = {h.value * other.value, std::abs(h.value) * other.bound + std::abs(other.value) * h.bound +
                                        h.bound * other.bound + std::abs(h.value * other.value) * 0x1p-24};
      }
      hidden[u] = h.value;
      off[u] = h.bound;
    }
    std::vector<Value> out;
    for (std::uint32_t n = 0; n < shape.n; ++n) {
      Value y = dot(hidden, off, DType::f32, down.values, shape.down_type, n,
                    shape.down_bias ? &down_bias : nullptr);
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
  Value dot(const std::vector<double>& a, const std::vector<double>& off, DType type,
            const std::vector<float>& weights, DType weight_type, std::uint32_t n,
            const std::vector<float>* b) const {
    double magnitude = 0, operands = 0;
    Value out;
    std::vector<double> largest(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double weight = weights[n * a.size() + i];
      out.value += a[i] * weight;
      magnitude += std::abs(a[i] * weight);
      operands += off[i] * std::abs(weight);
      largest[i] = std::abs(a[i]) + off[i];
    }
    if (b != nullptr) {
      out.value += (*b)[n];
      magnitude += std::abs((*b)[n]);
    }
    out.bound = (static_cast<double>(a.size()) + 8) * 0x1p-24 * (magnitude + operands) + operands;
    if (shape.precision == Precision::mixed)
      out.bound += bounds::mixed_products(largest, type, std::span(weights).subspan(n * a.size(), a.size()),
                                          weight_type);
    return out;
  }
};

// Bytes of y after the dispatches of a choice; empty where they failed.
inline Bytes run_block(Device& device, Block& b, const FeedForwardChoice& choice, std::uint32_t slices = 1) {
  Bytes x = stored(b.shape.x_type, b.x), bias = to_bytes(b.bias), up_bias = to_bytes(b.up_bias);
  Bytes down_bias = to_bytes(b.down_bias), residual = stored(b.shape.y_type, b.residual);
  Bytes state = state_bytes(7, b.live_rows);
  const std::size_t elems = std::size_t{b.shape.rows} * b.shape.n;
  Bytes y = poisoned(b.shape.y_type == DType::f16 ? (elems + 1) / 2 : elems);
  const auto done = run_call(device, choice.dispatches, choice.scratch,
                             {&x, &b.w.device, b.shape.gated ? &b.up.device : nullptr, &bias, &up_bias,
                              &b.down.device, &down_bias, &y, &state, &residual},
                             slices);
  EXPECT_TRUE(done) << b.what();
  return done ? y : Bytes{};
}

inline void compare(const Block& b, const Bytes& bytes, const std::string& form) {
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

// Whether one kernel can have the block, from what it keeps on chip: 32 sums of a lane at most, and a row of
// x and of a tile of hidden units in shared memory; on software drivers, whose sums are memory, 128 sums.
inline bool fits_one_kernel(const FeedForwardShape& s, const Target& t) {
  if (s.norm || s.type != s.down_type || s.hidden_window != 0 || s.n_window != 0) return false;
  if (takes_lanes(t)) {
    const std::uint32_t lanes = t.limits.subgroup_size;
    return s.n <= 128 * lanes && (lanes >= 8 || info(s.type).block_elems == 1);
  }
  for (const std::uint32_t group : {64u, 128u}) {
    const std::uint32_t units = group * (s.gated ? 2 : 4);
    const std::uint32_t shared = (2 * ((s.k + 7) / 8) + 1 + units / 4 + 1) * 16;
    if (group <= std::min(t.limits.max_group_invocations, t.limits.max_group_size[0]) && s.k <= 4096 &&
        s.n <= 32 * group && shared <= std::min(t.limits.max_shared_bytes, 32768u))
      return true;
  }
  return false;
}

}  // namespace tessera::test
