#include <cmath>
#include <limits>

#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

class ElementwiseGpu : public GpuTest {
 protected:
  std::vector<float> run(const ElementwiseShape& s, const std::vector<float>& a, const std::vector<float>& b,
                         std::uint32_t live) {
    const auto dispatch = choose_elementwise(s, target_of(*device_));
    EXPECT_TRUE(dispatch) << dispatch.error().message;
    if (!dispatch) return {};
    Bytes a_bytes = to_bytes(a), b_bytes = to_bytes(b), y = poisoned(a.size()), state = state_bytes(0, live);
    EXPECT_TRUE(run_dispatch(*device_, *dispatch, {&a_bytes, &b_bytes, &y, &state}));
    return from_bytes<float>(y);
  }
};

TEST_F(ElementwiseGpu, KindsAndSizes) {
  for (auto kind : {Elementwise::add, Elementwise::activation, Elementwise::glu})
    for (std::uint32_t dim : {1u, 7u, 515u})
      for (std::uint32_t live : {1u, 3u}) {
        ElementwiseShape s{3, dim, live < 3, kind, 1};
        const auto a = random_floats(3 * dim, 1, 4), b = random_floats(3 * dim, 2, 4);
        const auto y = run(s, a, b, live);
        ASSERT_EQ(y.size(), a.size());
        for (std::size_t i = 0; i < std::size_t{live} * dim; ++i) {
          const double act = activate(1, a[i]), bound = activation_bound(1, a[i], 0);
          if (kind == Elementwise::add) {
            ASSERT_EQ(y[i], a[i] + b[i]);
          } else if (kind == Elementwise::activation) {
            ASSERT_NEAR(y[i], act, bound);
          } else {
            ASSERT_NEAR(y[i], act * b[i], bound * std::abs(b[i]) + std::abs(act * b[i]) * 0x1p-24);
          }
        }
        const auto words = from_bytes<std::uint32_t>(to_bytes(y));
        for (std::size_t i = std::size_t{live} * dim; i < words.size(); ++i) ASSERT_EQ(words[i], kPoison);
      }
}

TEST_F(ElementwiseGpu, ActivationsFromTinyToHuge) {
  std::vector<float> x;
  for (float magnitude = 1e-30f; magnitude < 1e38f; magnitude *= 1.7f) {
    x.push_back(magnitude);
    x.push_back(-magnitude);
  }
  for (float v = -12; v < 12; v += 0.01f) x.push_back(v);
  for (std::uint32_t act = 0; act <= 5; ++act) {
    const ElementwiseShape s{1, static_cast<std::uint32_t>(x.size()), false, Elementwise::activation, act};
    const auto y = run(s, x, x, 1);
    ASSERT_EQ(y.size(), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = activate(act, x[i]);
      if (std::abs(want) > 3e38) {
        EXPECT_TRUE(std::isinf(y[i]));
        continue;
      }
      ASSERT_NEAR(y[i], want, activation_bound(act, x[i], 0) + 1e-37)
          << "activation " << act << " of " << x[i];
    }
  }
}

TEST_F(ElementwiseGpu, InfinityAndNotANumber) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {inf, nan};
  for (std::uint32_t act = 0; act <= 5; ++act) {
    const auto y = run({1, 2, false, Elementwise::activation, act}, x, x, 1);
    ASSERT_EQ(y.size(), 2u);
    EXPECT_EQ(y[0], inf) << act;
    EXPECT_TRUE(std::isnan(y[1])) << act;
  }
}

}  // namespace
}  // namespace tessera::test
