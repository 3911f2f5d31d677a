#include <cmath>
#include <functional>

#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

struct Case {
  RopeAppendShape shape;
  std::uint32_t position = 0, live = 0;
};

RopeAppendShape shape_of(std::uint32_t rows, std::uint32_t heads, std::uint32_t kv_heads,
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

std::vector<float> angles(const RopeAppendShape& s) {
  std::vector<float> table(std::size_t{s.context} * s.rope_dims);
  for (std::uint32_t p = 0; p < s.context; ++p)
    for (std::uint32_t i = 0; i < s.rope_dims / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / s.rope_dims);
      table[(std::size_t{p} * (s.rope_dims / 2) + i) * 2] = static_cast<float>(std::cos(angle));
      table[(std::size_t{p} * (s.rope_dims / 2) + i) * 2 + 1] = static_cast<float>(std::sin(angle));
    }
  return table;
}

struct Turned {
  double value = 0, bound = 0;
};

class RopeGpu : public GpuTest {
 protected:
  // Two products and a sum: each off by half an ulp of its result, granted a whole one.
  static Turned turn(const RopeAppendShape& s, const std::vector<float>& table, const float* x,
                     std::uint32_t d, std::uint32_t position) {
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

  static void expect_near(double got, const Turned& e, const std::string& what) {
    ASSERT_LE(std::abs(got - e.value), e.bound) << what << ": " << got << ", not " << e.value;
  }

  // A stored element: exact in f32, the nearest half of something within the bound in f16.
  static void expect_stored(const Bytes& cache, const RopeAppendShape& s, std::size_t i, const Turned& e,
                            const std::string& what) {
    if (s.kv_type == DType::f32) return expect_near(from_bytes_at<float>(cache, i), e, what);
    const std::uint16_t got = from_bytes_at<std::uint16_t>(cache, i);
    const float low = f16_to_f32(f32_to_f16(static_cast<float>(e.value - e.bound)));
    const float high = f16_to_f32(f32_to_f16(static_cast<float>(e.value + e.bound)));
    ASSERT_GE(f16_to_f32(got), low) << what;
    ASSERT_LE(f16_to_f32(got), high) << what;
  }

  template <typename T>
  static T from_bytes_at(const Bytes& bytes, std::size_t i) {
    T v;
    std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
    return v;
  }

  // Rows [position, position+live) of the cache are x's rows, and nothing else was touched.
  static void check_cache(const Case& c, const Bytes& cache, const Bytes& before,
                          const std::function<Turned(std::uint32_t, std::uint32_t, std::uint32_t)>& expected,
                          const std::string& what) {
    const RopeAppendShape& s = c.shape;
    const std::size_t bytes = s.kv_type == DType::f16 ? 2 : 4;
    ASSERT_EQ(cache.size(), before.size());
    for (std::uint32_t h = 0; h < s.kv_heads; ++h)
      for (std::uint32_t p = 0; p < s.context; ++p)
        for (std::uint32_t d = 0; d < s.head_dim; ++d) {
          const std::size_t i = (std::size_t{h} * s.context + p) * s.head_dim + d;
          const std::string where =
              what + " [" + std::to_string(h) + "," + std::to_string(p) + "," + std::to_string(d) + "]";
          if (p >= c.position && p < c.position + c.live) {
            ASSERT_NO_FATAL_FAILURE(expect_stored(cache, s, i, expected(p - c.position, h, d), where));
          } else {
            ASSERT_EQ(std::memcmp(&cache[i * bytes], &before[i * bytes], bytes), 0)
                << where << " was touched";
          }
        }
  }

  static Bytes empty_cache(const RopeAppendShape& s) {
    const std::size_t elems = std::size_t{s.kv_heads} * s.context * s.head_dim;
    return poisoned(s.kv_type == DType::f16 ? (elems + 1) / 2 : elems);
  }

  static std::string describe(const Case& c) {
    const RopeAppendShape& s = c.shape;
    return std::to_string(c.live) + "/" + std::to_string(s.rows) + " rows of " + std::to_string(s.heads) +
           "/" + std::to_string(s.kv_heads) + " heads of " + std::to_string(s.head_dim) + ", rope " +
           std::to_string(s.rope_dims) + (s.adjacent ? " adjacent, " : " halves, ") +
           std::string(info(s.kv_type).name) + ", at " + std::to_string(c.position);
  }

  void check_append(Case c) {
    if (c.live == 0) c.live = c.shape.rows;
    const RopeAppendShape& s = c.shape;
    const std::string what = describe(c);
    const auto dispatch = choose_rope_append(s, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    const std::uint32_t all = s.heads + 2 * s.kv_heads;
    const std::vector<float> x = random_floats(std::size_t{s.rows} * all * s.head_dim, 9, 100),
                             table = angles(s);
    const Bytes empty = empty_cache(s);
    Bytes qkv = to_bytes(x), table_bytes = to_bytes(table), state = state_bytes(c.position, c.live);
    Bytes q = poisoned(std::size_t{s.rows} * s.heads * s.head_dim), k = empty, v = empty;
    ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&qkv, &table_bytes, &state, &q, &k, &v}));
    const auto head_of = [&](std::uint32_t row, std::uint32_t head) {
      return &x[(std::size_t{row} * all + head) * s.head_dim];
    };
    const std::vector<float> q_out = from_bytes<float>(q);
    for (std::uint32_t row = 0; row < s.rows; ++row)
      for (std::uint32_t h = 0; h < s.heads; ++h)
        for (std::uint32_t d = 0; d < s.head_dim; ++d) {
          const float got = q_out[(std::size_t{row} * s.heads + h) * s.head_dim + d];
          if (row >= c.live || c.position + row >= s.context) {
            ASSERT_TRUE(std::isnan(got)) << what << ": q row " << row << " was touched";
          } else {
            ASSERT_NO_FATAL_FAILURE(
                expect_near(got, turn(s, table, head_of(row, h), d, c.position + row), what));
          }
        }
    check_cache(
        c, k, empty,
        [&](auto row, auto h, auto d) {
          return turn(s, table, head_of(row, s.heads + h), d, c.position + row);
        },
        what + " k");
    check_cache(
        c, v, empty,
        [&](auto row, auto h, auto d) {
          return Turned{head_of(row, s.heads + s.kv_heads + h)[d], 0};
        },
        what + " v");
  }
};

TEST_F(RopeGpu, AppendOfManyShapes) {
  const std::uint32_t heads[][2] = {{1, 1}, {4, 2}, {7, 7}, {6, 2}};
  for (DType type : {DType::f32, DType::f16})
    for (bool adjacent : {true, false}) {
      std::uint32_t i = 0;
      for (std::uint32_t dim : {1u, 2u, 3u, 7u, 32u, 80u, 200u})
        for (std::uint32_t part : {0u, 1u, 2u}) {
          const auto& h = heads[i++ % std::size(heads)];
          const std::uint32_t rope_dims = dim / 2 * part / 2 * 2;
          for (std::uint32_t rows : {1u, 5u})
            for (std::uint32_t position : {0u, 1u, 40u - rows})
              check_append({shape_of(rows, h[0], h[1], dim, rope_dims, adjacent, type), position, 0});
        }
    }
}

TEST_F(RopeGpu, FewerRowsAndTheEndOfTheContext) {
  for (DType type : {DType::f32, DType::f16}) {
    check_append({shape_of(9, 4, 2, 5, 4, false, type), 3, 4});
    for (std::uint32_t position : {35u, 40u, 0xfffffff0u})
      check_append({shape_of(9, 4, 2, 5, 4, false, type), position, 9});
  }
}

// The rounding that f16 storage has everywhere: ties, subnormals, overflow.
TEST_F(RopeGpu, HalvesAreRoundedToNearestEven) {
  std::vector<float> x = {1.00048828125f, 1.00146484375f, 1.0005f,  65504.0f,      65519.99f,
                          65520.0f,       1e9f,           -1e9f,    5.9604645e-8f, 2.9802322e-8f,
                          2.99e-8f,       8.9e-8f,        6.1e-5f,  6.097555e-5f,  6.1035156e-5f,
                          0.0f,           -0.0f,          -3.0e-6f, 1e-20f,        0.1f};
  for (int e = -30; e <= 17; ++e)
    for (float m : random_floats(8, static_cast<std::uint32_t>(e + 99))) x.push_back(std::ldexp(m, e));
  RopeAppendShape s = shape_of(1, 0, 1, static_cast<std::uint32_t>(x.size()), 0, false, DType::f16, 3);
  const auto dispatch = choose_kv_append(s, target_of(*device_));
  ASSERT_TRUE(dispatch) << dispatch.error().message;
  Bytes in = to_bytes(x), state = state_bytes(1, 1), cache = empty_cache(s);
  ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&in, &state, &cache}));
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_EQ(from_bytes_at<std::uint16_t>(cache, x.size() + i), f32_to_f16(x[i])) << x[i];
}

TEST_F(RopeGpu, KvAppendAlone) {
  for (DType type : {DType::f32, DType::f16})
    for (std::uint32_t dim : {1u, 3u, 64u})
      for (std::uint32_t position : {0u, 7u, 37u}) {
        const Case c{shape_of(5, 0, 3, dim, 0, false, type), position, 5};
        const auto dispatch = choose_kv_append(c.shape, target_of(*device_));
        ASSERT_TRUE(dispatch) << dispatch.error().message;
        const std::vector<float> x = random_floats(std::size_t{5} * 3 * dim, 4);
        const Bytes empty = empty_cache(c.shape);
        Bytes in = to_bytes(x), state = state_bytes(c.position, 5), cache = empty;
        ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&in, &state, &cache}));
        check_cache(
            c, cache, empty,
            [&](auto row, auto h, auto d) {
              return Turned{x[(std::size_t{row} * 3 + h) * dim + d], 0};
            },
            describe(c));
      }
}

TEST_F(RopeGpu, RopeAlone) {
  for (bool adjacent : {true, false})
    for (std::uint32_t dim : {2u, 5u, 64u}) {
      const RopeAppendShape s = shape_of(6, 3, 0, dim, dim / 2 * 2, adjacent, DType::f32);
      const auto dispatch = choose_rope(s, target_of(*device_));
      ASSERT_TRUE(dispatch) << dispatch.error().message;
      const std::vector<float> x = random_floats(std::size_t{6} * 3 * dim, 4), table = angles(s);
      Bytes in = to_bytes(x), table_bytes = to_bytes(table), state = state_bytes(33, 5),
            y = poisoned(x.size());
      ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&in, &table_bytes, &state, &y}));
      const std::vector<float> out = from_bytes<float>(y);
      for (std::uint32_t i = 0; i < out.size(); ++i) {
        const std::uint32_t row = i / (3 * dim), base = i / dim * dim;
        if (row == 5)
          ASSERT_TRUE(std::isnan(out[i]));
        else
          ASSERT_NO_FATAL_FAILURE(expect_near(out[i], turn(s, table, &x[base], i % dim, 33 + row), "rope"));
      }
    }
}

TEST_F(RopeGpu, LastRowAndAdvance) {
  const std::vector<float> x = random_floats(5 * 131, 8);
  Bytes state = state_bytes(17, 3);
  for (bool residual : {false, true}) {
    const auto last = choose_last_row(131, residual, target_of(*device_));
    ASSERT_TRUE(last) << last.error().message;
    Bytes in = to_bytes(x), other = to_bytes(x), y = poisoned(131);
    ASSERT_TRUE(run_dispatch(*device_, *last, {&in, &state, &other, &y}));
    std::vector<float> expected(x.begin() + 2 * 131, x.begin() + 3 * 131);
    for (float& value : expected) value += residual ? value : 0;
    EXPECT_EQ(from_bytes<float>(y), expected);
  }
  const auto advance = choose_advance(target_of(*device_));
  ASSERT_TRUE(advance) << advance.error().message;
  ASSERT_TRUE(run_dispatch(*device_, *advance, {&state}));
  EXPECT_EQ(state, state_bytes(20, 0));
}

TEST(ChooseRope, Refusals) {
  Target target;
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 4, 3, false, DType::f32), target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 4, 6, false, DType::f32), target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 4, 4, false, DType::q8_0), target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(70000, 1, 1, 4, 4, false, DType::f32), target).ok());
}

}  // namespace
}  // namespace tessera::test
