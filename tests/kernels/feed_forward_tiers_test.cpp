// The feed-forward block in precision mixed: two products in each form that the device has for it, or one
// kernel, which computes in F32, and what is chosen.
#include <optional>

#include "kernels/feed_forward_case.h"
#include "kernels/tiers.h"
#include "support/gpu_fixture.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

constexpr std::string_view kFused = "feed_forward_fused", kProducts = "feed_forward_products";

bool is_fused(const FeedForwardChoice& choice) {
  return choice.dispatches[0].kernel == KernelId::feed_forward ||
         choice.dispatches[0].kernel == KernelId::feed_forward_lanes;
}

constexpr std::string_view kTiers[] = {"matmul_coopmat2", "matmul_coopmat", "matmul_dot"};

// The form for precision mixed that products have; empty where they have none.
std::string_view tier_of(const FeedForwardChoice& products) {
  for (const Dispatch& d : products.dispatches)
    for (const std::string_view form : kTiers)
      if (is_form(kernel(d.kernel).name, form)) return form;
  return {};
}

class FeedForwardTiersGpu : public GpuTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void check(FeedForwardShape shape, std::uint32_t live = 0) {
    shape.precision = Precision::mixed;
    Block b(shape, live);
    const auto choice = choose(shape);
    if (!choice) return;
    const Bytes y = run_block(*device_, b, *choice);
    ASSERT_FALSE(y.empty());
    compare(b, y, GetParam());
  }

 private:
  static bool asks_for_a_tier() { return std::ranges::count(kTiers, std::string_view(GetParam())) != 0; }

  bool there(const FeedForwardShape& s, const Target& target) const {
    if (target.form == kFused) return fits_one_kernel(s, target);
    return !asks_for_a_tier() || (has_form(device_->report(), target.form, s.type, s.rows) &&
                                  has_form(device_->report(), target.form, s.down_type, s.rows));
  }

  // Nothing where the device cannot have the form, which is refused for a reason; elsewhere it must be there.
  std::optional<FeedForwardChoice> choose(const FeedForwardShape& shape) const {
    Target target = target_of(*device_);
    target.form = GetParam();
    const auto choice = choose_feed_forward(shape, target);
    EXPECT_EQ(choice.ok(), there(shape, target)) << GetParam() << (choice ? "" : choice.error().message);
    if (!choice) {
      EXPECT_EQ(choice.error().code, Code::unsupported) << choice.error().message;
      EXPECT_GT(choice.error().message.size(), 10u);
      return std::nullopt;
    }
    EXPECT_TRUE(target.form != kFused || is_fused(*choice));
    for (const Dispatch& d : choice->dispatches)
      EXPECT_TRUE(!asks_for_a_tier() || d.kernel == KernelId::quantise_rows ||
                  is_form(kernel(d.kernel).name, target.form));
    if (target.form.empty()) expect_chosen(shape, target, *choice);
    return *choice;
  }

  // One kernel computes in F32: not where products have a form for mixed.
  static void expect_chosen(const FeedForwardShape& shape, Target target, const FeedForwardChoice& choice) {
    target.form = kProducts;
    const auto products = choose_feed_forward(shape, target);
    ASSERT_TRUE(products) << products.error().message;
    if (tier_of(*products).empty()) return;
    EXPECT_FALSE(is_fused(choice));
    EXPECT_EQ(tier_of(choice), tier_of(*products));
  }
};

// Few rows, and more than a tile of them.
TEST_P(FeedForwardTiersGpu, EveryTypePlainAndGated) {
  Sweep sweep;
  for (const DType type : kWeightTypes)
    for (const std::uint32_t rows : {5u, 37u})
      for (const bool gated : {false, true}) {
        FeedForwardShape s = shape_of(type, rows, whole(type), std::max(whole(type), 64u), 35);
        s.gated = gated;
        s.act = gated ? 1 : 3;
        s.bias = s.down_bias = gated == (rows == 5);
        s.residual = !s.bias;
        if (sweep.next()) check(s);
        if (HasFatalFailure()) return;
      }
}

TEST_P(FeedForwardTiersGpu, AwkwardSizes) {
  constexpr std::uint32_t kShapes[][4] = {{1, 1, 1, 1}, {17, 37, 129, 33}, {65, 7, 31, 67}, {33, 61, 64, 1}};
  for (const auto& s : kShapes)
    for (const bool gated : {false, true}) {
      for (const DType type : {DType::f32, DType::f16}) {
        FeedForwardShape shape = shape_of(type, s[0], s[1], s[2], s[3]);
        shape.gated = gated;
        shape.act = 2;
        check(shape);
      }
      FeedForwardShape shape = shape_of(DType::q8_0, s[0], 96, 160, s[3]);
      shape.gated = gated;
      check(shape);
      if (HasFatalFailure()) return;
    }
}

TEST_P(FeedForwardTiersGpu, HalfActivationsAndRowsFromTheState) {
  for (const DType type : {DType::f16, DType::q4_0})
    for (const std::uint32_t live : {3u, 40u}) {
      FeedForwardShape s = shape_of(type, 40, 64, 96, 41);
      s.x_type = s.y_type = DType::f16;
      s.gated = s.residual = s.dynamic_rows = true;
      check(s, live);
    }
}

TEST_P(FeedForwardTiersGpu, WeightsOfTwoTypes) {
  for (const std::uint32_t rows : {4u, 20u}) {
    FeedForwardShape s = shape_of(DType::q4_0, rows, 64, 96, 40);
    s.down_type = DType::q8_0;
    check(s);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, FeedForwardTiersGpu,
                         ::testing::Values("", "feed_forward_fused", "feed_forward_products",
                                           "matmul_coopmat2", "matmul_coopmat", "matmul_dot",
                                           "matmul_scalar"),
                         [](const auto& param) {
                           return std::string(*param.param != 0 ? param.param : "chosen");
                         });

}  // namespace
}  // namespace tessera::test
