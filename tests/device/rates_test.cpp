#include "device/rates.h"

#include <gmock/gmock.h>

namespace tessera {
namespace {

TEST(MeasuredRates, Parse) {
  const auto rate = parse_rate("attention_split/few_rows=24.13");
  ASSERT_TRUE(rate);
  EXPECT_EQ(rate->form, "attention_split/few_rows");
  EXPECT_DOUBLE_EQ(rate->flops_per_s, 24.13e9);
  EXPECT_EQ(print(*rate), "attention_split/few_rows=24.13");
  EXPECT_EQ(parse_rate("x=0")->flops_per_s, 0);
  EXPECT_EQ(parse_rate(print({"x", 123456789e9}))->flops_per_s, 123500000e9);
  for (const char* bad : {"", "x", "=1", "x=", "x=y", "x=-1", "x=nan", "x=inf", "x=1e10", "x=1 ", "x=1=2"})
    EXPECT_EQ(parse_rate(bad).error().code, Code::invalid_argument) << bad;
  EXPECT_THAT(parse_rate("x=\n").error().message, testing::HasSubstr("\"x=\\x0a\""));
}

TEST(MeasuredRates, OfAForm) {
  const MeasuredRates rates{{{"a", 1e9}, {"b", 2e9}}};
  EXPECT_EQ(rates.of("b"), 2e9);
  EXPECT_EQ(rates.of("c"), 0);
}

}  // namespace
}  // namespace tessera
