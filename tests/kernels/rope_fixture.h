// The slow rope and append, and runs of their kernels against it.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <span>

#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {

struct Case {
  RopeAppendShape shape;
  std::uint32_t position = 0, live = 0;    // live 0: all rows
  std::vector<std::uint32_t> blocks = {};  // the block table
};

inline RopeAppendShape shape_of(std::uint32_t rows, std::uint32_t heads, std::uint32_t kv_heads,
                                std::uint32_t head_dim, std::uint32_t rope_dims, bool adjacent, DType type,
                                std::uint32_t context = 40) {
  RopeAppendShape s;
  s.rows = rows;
  s.heads = heads;
  s.kv_heads = kv_heads;
  s.head_dim = head_dim;
  s.rope_dims = rope_dims;
  s.context = context;
  s.adjacent = adjacent;
  s.kv_type = type;
  return s;
}

inline std::vector<float> angles(std::uint32_t positions, std::uint32_t dims) {
  std::vector<float> table(std::size_t{positions} * dims);
  for (std::uint32_t p = 0; p < positions; ++p)
    for (std::uint32_t i = 0; i < dims / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / dims);
      table[(std::size_t{p} * (dims / 2) + i) * 2] = static_cast<float>(std::cos(angle));
      table[(std::size_t{p} * (dims / 2) + i) * 2 + 1] = static_cast<float>(std::sin(angle));
    }
  return table;
}

struct Turned {
  double value = 0, bound = 0;
};

// Two products and a sum: each off by half an ulp of its result, granted a whole one.
inline Turned turn(const RopeAppendShape& s, const std::vector<float>& table, const float* x, std::uint32_t d,
                   std::uint32_t position) {
  if (d >= s.rope_dims) return {x[d], 0};
  const std::uint32_t half = s.rope_dims / 2;
  const std::uint32_t pair = s.adjacent ? d / 2 : d % half;
  const bool first = s.adjacent ? d % 2 == 0 : d < half;
  const std::uint32_t other = s.adjacent ? d ^ 1u : (first ? d + half : d - half);
  const double cosine = table[(std::size_t{position} * half + pair) * 2];
  const double sine = table[(std::size_t{position} * half + pair) * 2 + 1];
  const double a = x[d] * cosine, b = (first ? -1 : 1) * x[other] * sine;
  return {a + b, 2 * 0x1p-23 * (std::abs(a) + std::abs(b))};
}

inline void expect_near(double got, const Turned& e, const std::string& what) {
  ASSERT_LE(std::abs(got - e.value), e.bound) << what << ": " << got << ", not " << e.value;
}

template <typename T>
T from_bytes_at(const Bytes& bytes, std::size_t i) {
  T v;
  std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
  return v;
}

inline std::string describe(const Case& c) {
  const RopeAppendShape& s = c.shape;
  return std::to_string(s.batch) + " x " + std::to_string(c.live) + "/" + std::to_string(s.rows) +
         " rows of " + std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
         std::to_string(s.head_dim) + "/" + std::to_string(s.v_dim) + ", rope " +
         std::to_string(s.rope_dims) + (s.adjacent ? " adjacent, " : " halves, ") +
         std::string(info(s.kv_type).name) + ", at " + std::to_string(c.position) + " of " +
         std::to_string(s.context) + (s.ring ? " in a ring" : "") +
         (s.block_size ? " in blocks of " + std::to_string(s.block_size) : "");
}

// A cache and what a pass should have put there, by row of `dim` elements.
class SlowCache {
 public:
  SlowCache(const Case& c, std::uint32_t dim) : case_(c), dim_(dim) {
    const RopeAppendShape& s = c.shape;
    const std::uint64_t sequences = s.block_size ? s.blocks : s.batch;
    rows_ = sequences * s.kv_heads * (s.block_size ? s.block_size : s.context);
    row_bytes_ =
        s.kv_type == DType::q8_0 ? device_row_bytes(s.kv_type, dim) : dim * info(s.kv_type).block_bytes;
    before_ = poisoned((rows_ * row_bytes_ + 3) / 4);
  }
  const Bytes& before() const { return before_; }

  // Row `row` of the pass in sequence b; nothing is stored where there is no place.
  void append(std::uint32_t b, std::uint32_t row, std::uint32_t head, std::vector<Turned> x) {
    const RopeAppendShape& s = case_.shape;
    const std::uint64_t key = std::uint64_t{case_.position} + row;
    if (!s.ring && key >= s.context) return;
    std::uint64_t slot = key % s.context, block = b, slots = s.context;
    if (s.block_size) {
      slots = s.block_size;
      block = case_.blocks.at(b * (s.context / slots) + slot / slots);
      slot %= slots;
      if (block >= s.blocks) return;
    }
    expected_[(block * s.kv_heads + head) * slots + slot] = std::move(x);
  }

  // What was appended is there, and nothing else was touched.
  void check(const Bytes& after, const std::string& what) const {
    ASSERT_EQ(after.size(), before_.size());
    for (std::uint64_t row = 0; row < rows_; ++row) {
      const std::string where = what + " row " + std::to_string(row);
      const auto at = expected_.find(row);
      const std::span<const std::byte> bytes = std::span(after).subspan(row * row_bytes_, row_bytes_);
      if (at == expected_.end()) {
        ASSERT_TRUE(std::ranges::equal(bytes, std::span(before_).subspan(row * row_bytes_, row_bytes_)))
            << where << " was touched";
      } else if (case_.shape.kv_type == DType::q8_0) {
        ASSERT_NO_FATAL_FAILURE(check_q8_0(at->second, bytes, where));
      } else {
        ASSERT_NO_FATAL_FAILURE(check_row(at->second, bytes, where));
      }
    }
    ASSERT_TRUE(std::equal(after.begin() + static_cast<std::ptrdiff_t>(rows_ * row_bytes_), after.end(),
                           before_.begin() + static_cast<std::ptrdiff_t>(rows_ * row_bytes_)));
  }
  std::size_t stored() const { return expected_.size(); }

 private:
  // Exact in f32, the nearest of 16 bits of something within the bound else.
  void check_row(const std::vector<Turned>& x, std::span<const std::byte> bytes,
                 const std::string& where) const {
    std::vector<float> got(dim_), low(dim_), high(dim_);
    const DType type = case_.shape.kv_type;
    decode_row(type, bytes, got);
    Bytes file(bytes.size());
    for (std::uint32_t d = 0; d < dim_; ++d) {
      low[d] = static_cast<float>(x[d].value - x[d].bound);
      high[d] = static_cast<float>(x[d].value + x[d].bound);
    }
    for (std::vector<float>* edge : {&low, &high}) {
      encode_row(type, *edge, file);
      decode_row(type, file, *edge);
    }
    for (std::uint32_t d = 0; d < dim_; ++d) {
      if (type == DType::f32) {
        ASSERT_NO_FATAL_FAILURE(expect_near(got[d], x[d], where));
      } else {
        ASSERT_GE(got[d], low[d]) << where << " element " << d;
        ASSERT_LE(got[d], high[d]) << where << " element " << d;
      }
    }
  }

  // Bit by bit what encode_row makes; where rounding came before, at most half a step from it.
  void check_q8_0(const std::vector<Turned>& x, std::span<const std::byte> bytes,
                  const std::string& where) const {
    std::vector<float> in(dim_), got(dim_);
    for (std::uint32_t d = 0; d < dim_; ++d) in[d] = static_cast<float>(x[d].value);
    Bytes file(file_bytes(dim_, info(DType::q8_0))), row(bytes.size());
    encode_row(DType::q8_0, in, file);
    repack_row(DType::q8_0, dim_, file, row);
    if (std::ranges::all_of(x, [](const Turned& e) { return e.bound == 0; })) {
      ASSERT_TRUE(std::ranges::equal(row, bytes)) << where << " is not bit-equal";
      return;
    }
    for (std::uint32_t d = 0; d < dim_; ++d) {
      const std::uint32_t first = d / 32 * 32;
      double largest = 0, bound = 0;
      for (std::uint32_t i = first; i < first + 32; ++i) {
        largest = std::max(largest, std::abs(x[i].value));
        bound = std::max(bound, x[i].bound);
      }
      std::uint16_t scale = 0;
      std::memcpy(&scale, &bytes[dim_ + d / 32 * 2], 2);
      const double value = static_cast<double>(f16_to_f32(scale)) * std::to_integer<std::int8_t>(bytes[d]);
      // Half a step, and a scale rounded to f16.
      ASSERT_LE(std::abs(value - x[d].value),
                largest / 127 * 0.5001 + std::abs(x[d].value) * 0x1p-11 + 0x1p-24 * 127 + 2 * bound)
          << where << " element " << d;
    }
    ASSERT_TRUE(std::all_of(bytes.begin() + dim_ + dim_ / 16, bytes.end(),
                            [](std::byte b) { return b == std::byte{0}; }))
        << where << " is not padded with zeros";
  }

  const Case& case_;
  std::uint32_t dim_;
  std::uint64_t rows_ = 0, row_bytes_ = 0;
  Bytes before_;
  std::map<std::uint64_t, std::vector<Turned>> expected_;
};

class RopeGpu : public GpuTest {
 protected:
  static Bytes blocks_of(const Case& c) { return c.blocks.empty() ? poisoned(1) : to_bytes(c.blocks); }
  static std::vector<Turned> exact(const float* x, std::uint32_t dim) {
    std::vector<Turned> out;
    for (std::uint32_t d = 0; d < dim; ++d) out.push_back({x[d], 0});
    return out;
  }

  // Head h of row `row` of q; an empty `head` was not to be touched.
  static void check_q_head(const RopeAppendShape& s, std::span<const float> q, std::uint32_t row,
                           std::uint32_t h, const std::vector<Turned>& head, const std::string& what) {
    const std::span<const float> got = q.subspan((std::size_t{row} * s.heads + h) * s.head_dim, s.head_dim);
    for (std::size_t d = 0; d < got.size(); ++d) {
      if (head.empty())
        ASSERT_TRUE(std::isnan(got[d])) << what << ": q row " << row << " was touched";
      else
        ASSERT_NO_FATAL_FAILURE(expect_near(got[d], head[d], what));
    }
  }

  void check_append(Case c) {
    RopeAppendShape& s = c.shape;
    if (c.live == 0) c.live = s.rows;
    if (s.v_dim == 0) s.v_dim = s.head_dim;
    if (s.table_rows == 0) s.table_rows = s.context;
    const std::string what = describe(c);
    SCOPED_TRACE(what);
    const auto dispatch = choose_rope_append(s, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    const std::uint32_t turns = s.heads + s.kv_heads, width = turns * s.head_dim + s.kv_heads * s.v_dim;
    const std::vector<float> x = random_floats(std::size_t{s.batch} * s.rows * width, 9, 100),
                             table = angles(s.table_rows, s.rope_dims);
    Bytes qkv = to_bytes(x), table_bytes = to_bytes(table), state = state_bytes(c.position, c.live);
    SlowCache k(c, s.head_dim), v(c, s.v_dim);
    Bytes q = poisoned(std::size_t{s.batch} * s.rows * s.heads * s.head_dim), k_bytes = k.before(),
          v_bytes = v.before(), blocks = blocks_of(c);
    ASSERT_TRUE(
        run_dispatch(*device_, *dispatch, {&qkv, &table_bytes, &state, &q, &k_bytes, &v_bytes, &blocks}));
    const std::vector<float> q_out = from_bytes<float>(q);
    for (std::uint32_t b = 0; b < s.batch; ++b)
      for (std::uint32_t row = 0; row < s.rows; ++row) {
        const float* from = &x[std::size_t{b * s.rows + row} * width];
        const std::uint64_t position = std::uint64_t{c.position} + row;
        const bool there = row < c.live && position < s.table_rows && (s.ring || position < s.context);
        for (std::uint32_t h = 0; h < turns; ++h) {
          std::vector<Turned> head;
          for (std::uint32_t d = 0; d < s.head_dim && there; ++d)
            head.push_back(turn(s, table, from + h * s.head_dim, d, c.position + row));
          if (h < s.heads) {
            ASSERT_NO_FATAL_FAILURE(check_q_head(s, q_out, b * s.rows + row, h, head, what));
          }
          if (there && h >= s.heads) k.append(b, row, h - s.heads, std::move(head));
        }
        for (std::uint32_t h = 0; h < s.kv_heads && there; ++h)
          v.append(b, row, h, exact(from + turns * s.head_dim + h * s.v_dim, s.v_dim));
      }
    ASSERT_NO_FATAL_FAILURE(k.check(k_bytes, "k"));
    ASSERT_NO_FATAL_FAILURE(v.check(v_bytes, "v"));
  }

  // `x`: (batch, rows, kv_heads, head_dim), or heads before rows.
  void check_kv_append(Case c, std::vector<float> x = {}, bool heads_first = false) {
    RopeAppendShape& s = c.shape;
    if (c.live == 0) c.live = s.rows;
    const std::uint32_t dim = s.head_dim;
    if (heads_first) s.x_strides = {s.kv_heads * s.rows * dim, s.rows * dim, dim};
    const std::string what = describe(c);
    SCOPED_TRACE(what);
    const auto dispatch = choose_kv_append(s, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    if (x.empty()) x = random_floats(std::size_t{s.batch} * s.rows * s.kv_heads * dim, 4);
    SlowCache cache(c, dim);
    Bytes in = to_bytes(x), state = state_bytes(c.position, c.live), bytes = cache.before(),
          blocks = blocks_of(c);
    ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&in, &state, &bytes, &blocks}));
    for (std::uint32_t b = 0; b < s.batch; ++b)
      for (std::uint32_t row = 0; row < c.live; ++row)
        for (std::uint32_t h = 0; h < s.kv_heads; ++h) {
          const std::size_t at = heads_first ? (std::size_t{b} * s.kv_heads + h) * s.rows + row
                                             : (std::size_t{b} * s.rows + row) * s.kv_heads + h;
          cache.append(b, row, h, exact(&x[at * dim], dim));
        }
    ASSERT_NO_FATAL_FAILURE(cache.check(bytes, what));
  }
};

}  // namespace tessera::test
