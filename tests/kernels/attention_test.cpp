#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

struct Case {
  AttentionShape shape;
  std::uint32_t position = 0, live = 0;
  float spread = 1;  // of q
};

AttentionShape shape_of(std::uint32_t rows, std::uint32_t heads, std::uint32_t kv_heads,
                        std::uint32_t head_dim, std::uint32_t context, DType type = DType::f32) {
  AttentionShape s;
  s.rows = rows;
  s.heads = heads;
  s.kv_heads = kv_heads;
  s.head_dim = head_dim;
  s.context = context;
  s.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  s.kv_type = type;
  return s;
}

// A cache with random rows up to `stored` and NaN beyond: nothing there may be read.
struct Cache {
  std::vector<float> values;
  Bytes bytes;

  Cache(const AttentionShape& s, std::uint32_t stored, std::uint32_t seed)
      : values(random_floats(std::size_t{s.kv_heads} * s.context * s.head_dim, seed)) {
    for (std::size_t i = 0; i < values.size(); ++i)
      if (i / s.head_dim % s.context >= stored) values[i] = std::numeric_limits<float>::quiet_NaN();
    if (s.kv_type == DType::f32) {
      bytes = to_bytes(values);
      return;
    }
    std::vector<std::uint16_t> halves((values.size() + 1) / 2 * 2);
    for (std::size_t i = 0; i < values.size(); ++i) {
      halves[i] = f32_to_f16(values[i]);
      values[i] = f16_to_f32(halves[i]);
    }
    bytes = to_bytes(halves);
  }
};

struct Attention {
  Case c;
  std::vector<float> q;
  Cache k, v;

  static std::uint32_t stored(const Case& c) { return std::min(c.position + c.live, c.shape.context); }
  explicit Attention(const Case& wanted) : c(wanted), k(c.shape, stored(c), 2), v(c.shape, stored(c), 3) {
    q = random_floats(std::size_t{c.shape.rows} * c.shape.heads * c.shape.head_dim, 1, c.spread);
    for (std::size_t i = std::size_t{c.live} * c.shape.heads * c.shape.head_dim; i < q.size(); ++i)
      q[i] = std::numeric_limits<float>::quiet_NaN();
  }

  struct Row {
    std::vector<double> value, bound;
  };
  // Plain loops in double. With u = 2^-24, scores s (log2 units), x = s - max and p the exact weights:
  //   score     |ds| <= (d + 4) u scale log2(e) sum|q k|, a relative error of ln2 |ds| in 2^s
  //   exp2      (3 + 2|x|) ulp, ulp = 2u, and the subtraction's u |x|
  //   rescaling at most keys/16 + 4 times, each 4 ulp and in all 2 max|x| ulp
  //   sums      n u each of the numerator and the denominator, and a few operations around them
  // so that |do| <= sum_j p_j |v_j| (e_j + sum_i p_i e_i + (2n + 8) u).
  Row expected(std::uint32_t row, std::uint32_t head) const {
    const AttentionShape& s = c.shape;
    const double u = 0x1p-24, log2e = 1.4426950408889634;
    const std::uint32_t at = c.position + row, d = s.head_dim;
    const std::uint32_t last = s.causal ? at + 1 : stored(c), end = std::min(last, stored(c));
    const std::uint32_t begin = s.window && last > s.window ? std::min(last - s.window, end) : 0;
    const std::size_t first = std::size_t{head / (s.heads / s.kv_heads)} * s.context;
    const float* q_row = &q[(std::size_t{row} * s.heads + head) * d];
    Row out{std::vector<double>(d), std::vector<double>(d)};
    const std::size_t n = end - begin;
    if (n == 0) return out;
    std::vector<double> score(n), error(n);
    double best = -1e300, least = 1e300;
    for (std::size_t j = 0; j < n; ++j) {
      double magnitude = 0;
      for (std::uint32_t i = 0; i < d; ++i) {
        const double product = double(q_row[i]) * k.values[(first + begin + j) * d + i];
        score[j] += product * s.scale * log2e;
        magnitude += std::abs(product) * s.scale * log2e;
      }
      error[j] = (d + 4) * u * magnitude * 0.6931471805599453;
      best = std::max(best, score[j]);
      least = std::min(least, score[j]);
    }
    double sum = 0, mean_error = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const double x = best - score[j];
      error[j] += 2 * u * (3 + 2 * x) + u * x + 2 * u * (4 * (double(n) / 16 + 4) + 2 * (best - least));
      score[j] = std::exp2(-x);
      sum += score[j];
      mean_error += score[j] * error[j];
    }
    mean_error /= sum;
    for (std::size_t j = 0; j < n; ++j)
      for (std::uint32_t i = 0; i < d; ++i) {
        const double term = score[j] / sum * v.values[(first + begin + j) * d + i];
        out.value[i] += term;
        out.bound[i] += std::abs(term) * (error[j] + mean_error + (2 * double(n) + 8) * u);
      }
    for (double& b : out.bound) b += 1e-37;
    return out;
  }
};

class AttentionGpu : public GpuTest {
 protected:
  std::vector<float> run(Attention& a, std::uint32_t slices = 1) {
    const auto choice = choose_attention(a.c.shape, target_of(*device_));
    EXPECT_TRUE(choice) << choice.error().message;
    if (!choice) return {};
    Bytes q = to_bytes(a.q), state = state_bytes(a.c.position, a.c.live);
    Bytes out = poisoned(a.q.size()), partials = poisoned(choice->partial_bytes / 4);
    const bool split = choice->dispatches.size() == 2;
    EXPECT_TRUE(run_dispatch(*device_, choice->dispatches[0],
                             {&q, &a.k.bytes, &a.v.bytes, &state, split ? &partials : &out}, slices));
    if (split) {
      EXPECT_TRUE(run_dispatch(*device_, choice->dispatches[1], {&partials, &state, &out}, slices));
    }
    return from_bytes<float>(out);
  }

  void check(Case c, std::uint32_t slices = 1) {
    if (c.live == 0) c.live = c.shape.rows;
    const AttentionShape& s = c.shape;
    Attention a(c);
    const std::string what = "rows " + std::to_string(c.live) + "/" + std::to_string(s.rows) + " heads " +
                             std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " dim " +
                             std::to_string(s.head_dim) + " position " + std::to_string(c.position) +
                             " window " + std::to_string(s.window) + " " + std::string(info(s.kv_type).name);
    const std::vector<float> out = run(a, slices);
    ASSERT_EQ(out.size(), a.q.size()) << what;
    for (std::uint32_t row = 0; row < s.rows; ++row)
      for (std::uint32_t head = 0; head < s.heads; ++head) {
        Attention::Row e;
        if (row < c.live) e = a.expected(row, head);
        for (std::uint32_t i = 0; i < s.head_dim; ++i) {
          const std::size_t at = (std::size_t{row} * s.heads + head) * s.head_dim + i;
          if (row >= c.live) {
            ASSERT_TRUE(std::isnan(out[at])) << what << ": row " << row << " was touched";
            continue;
          }
          ASSERT_LE(std::abs(out[at] - e.value[i]), e.bound[i])
              << what << ": out[" << row << "," << head << "," << i << "] is " << out[at] << ", not "
              << e.value[i];
        }
      }
  }
};

constexpr std::uint32_t kDims[] = {1, 3, 32, 48, 64, 80, 128, 200, 256};
constexpr std::uint32_t kHeads[][2] = {{1, 1}, {4, 2}, {8, 1}, {7, 7}, {6, 2}};

TEST_F(AttentionGpu, HeadDimsFewRows) {
  std::uint32_t i = 0;
  for (std::uint32_t dim : kDims)
    for (DType type : {DType::f32, DType::f16}) {
      const auto& h = kHeads[i++ % std::size(kHeads)];
      check({shape_of(1, h[0], h[1], dim, 301, type), 299});
      check({shape_of(2, h[0], h[1], dim, 97, type), 13});
    }
}

TEST_F(AttentionGpu, HeadDimsTiles) {
  std::uint32_t i = 0;
  for (std::uint32_t dim : kDims)
    for (DType type : {DType::f32, DType::f16}) {
      const auto& h = kHeads[i++ % std::size(kHeads)];
      check({shape_of(37, h[0], h[1], dim, 150, type), 51});
    }
}

TEST_F(AttentionGpu, HeadsRowsAndPositions) {
  for (const auto& h : kHeads)
    for (std::uint32_t rows : {1u, 2u, 7u, 31u, 32u, 33u, 63u, 64u, 65u, 101u})
      for (std::uint32_t position : {0u, 1u, 77u, 300u - rows})
        check({shape_of(rows, h[0], h[1], 16, 300), position});
}

TEST_F(AttentionGpu, Windows) {
  for (std::uint32_t window : {1u, 5u, 17u, 500u})
    for (std::uint32_t rows : {1u, 7u, 65u})
      for (std::uint32_t position : {0u, 4u, 77u, 300u - rows})
        for (bool causal : {true, false}) {
          Case c{shape_of(rows, 4, 2, 20, 300), position};
          c.shape.window = window;
          c.shape.causal = causal;
          check(c);
        }
}

TEST_F(AttentionGpu, EveryKeyOfALongCache) {
  for (std::uint32_t position : {0u, 63u, 64u, 127u, 128u, 1000u, 2047u, 4095u})
    check({shape_of(1, 4, 2, 8, 4096), position});
  check({shape_of(3, 2, 2, 8, 4096), 4090});
  check({shape_of(19, 2, 2, 8, 4096), 4077});
}

TEST_F(AttentionGpu, FewerRowsThanTheMost) {
  for (std::uint32_t live : {1u, 5u, 32u, 90u}) {
    Case c{shape_of(90, 4, 2, 12, 200), 33};
    c.live = live;
    check(c);
  }
  Case c{shape_of(8, 4, 2, 12, 200), 33};
  c.live = 3;
  check(c);
}

TEST_F(AttentionGpu, PastTheContextNothingIsReadOrWrittenOutside) {
  for (std::uint32_t rows : {4u, 40u})
    for (std::uint32_t position : {38u, 48u, 50u}) {
      Case c{shape_of(rows, 2, 1, 8, 50), position};
      check(c);
    }
}

TEST_F(AttentionGpu, LargeScores) {
  for (std::uint32_t rows : {1u, 33u})
    for (float spread : {300.0f, 30000.0f}) {
      Case c{shape_of(rows, 2, 1, 32, 128), 64};
      c.spread = spread;
      check(c);
    }
}

TEST_F(AttentionGpu, EqualScoresGiveTheMean) {
  for (std::uint32_t rows : {1u, 33u}) {
    Case c{shape_of(rows, 2, 1, 32, 128), 64};
    c.spread = 0;
    check(c);
  }
}

TEST_F(AttentionGpu, Slices) {
  check({shape_of(130, 2, 2, 16, 150), 7}, 3);
  check({shape_of(1, 2, 2, 16, 1500), 1400}, 3);
}

TEST_F(AttentionGpu, TheFloor) {
  auto floor = make_device({{"max_group_invocations", 128}, {"max_shared_bytes", 16384}});
  ASSERT_TRUE(floor);
  device_ = std::move(floor);
  for (std::uint32_t dim : {3u, 64u, 128u, 200u, 256u})
    for (std::uint32_t rows : {1u, 8u, 40u}) check({shape_of(rows, 6, 2, dim, 100, DType::f16), 41});
}

TEST_F(AttentionGpu, SameResultEveryTime) {
  for (std::uint32_t rows : {1u, 40u}) {
    Case c{shape_of(rows, 4, 2, 64, 700), 600};
    c.live = rows;
    Attention a(c);
    const Bytes first = to_bytes(run(a));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(first, to_bytes(run(a)));
  }
}

Target target_with(std::uint32_t shared) {
  Target t;
  t.limits.max_shared_bytes = shared;
  return t;
}

TEST(ChooseAttention, EveryHeadDimFitsTheFloorAndMore) {
  for (std::uint32_t shared : {16384u, 32768u, 49152u, 65536u})
    for (std::uint32_t dim = 1; dim <= 256; ++dim)
      for (std::uint32_t rows : {1u, 8u, 9u, 100u}) {
        const auto choice = choose_attention(shape_of(rows, 8, 2, dim, 1024), target_with(shared));
        ASSERT_TRUE(choice) << choice.error().message;
        EXPECT_EQ(choice->dispatches.size(), rows <= 8 ? 2 : 1);
      }
}

TEST(ChooseAttention, SplitsFillADeviceButNotMore) {
  const auto splits = [](std::uint32_t kv_heads, std::uint32_t context) {
    const auto choice = choose_attention(shape_of(1, kv_heads, kv_heads, 64, context), target_with(32768));
    return choice->dispatches[0].grid[0];
  };
  EXPECT_EQ(splits(8, 128), 1u);
  EXPECT_EQ(splits(8, 129), 2u);
  EXPECT_EQ(splits(8, 4096), 32u);
  EXPECT_EQ(splits(8, 32768), 64u);
  EXPECT_EQ(splits(1, 131072), 256u);
  EXPECT_EQ(splits(512, 512), 1u);
}

TEST(ChooseAttention, Refusals) {
  const auto message = [](const AttentionShape& s) {
    const auto choice = choose_attention(s, target_with(16384));
    return choice ? std::string("chosen") : choice.error().message;
  };
  EXPECT_THAT(message(shape_of(1, 3, 2, 64, 10)), ::testing::HasSubstr("no multiple of KV heads"));
  EXPECT_THAT(message(shape_of(1, 2, 2, 257, 10)), ::testing::HasSubstr("head_dim above 256"));
  EXPECT_THAT(message(shape_of(1, 2, 2, 64, 0)), ::testing::HasSubstr("an empty shape"));
  EXPECT_THAT(message(shape_of(1, 2, 2, 64, 10, DType::bf16)), ::testing::HasSubstr("F32 or F16"));
  EXPECT_THAT(message(shape_of(1, 8, 8, 128, 1u << 20)), ::testing::HasSubstr("maxStorageBufferRange"));
}

}  // namespace
}  // namespace tessera::test
