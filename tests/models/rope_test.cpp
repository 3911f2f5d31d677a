#include "models/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace tessera::test {
namespace {

using nlohmann::json;

RopeConfig config_of(const json& j) {
  RopeConfig rope;
  rope.dims = j.at("dims");
  rope.base = j.at("base");
  const std::string scaling = j.at("scaling");
  rope.scaling = scaling == "yarn"     ? RopeScaling::yarn
                 : scaling == "linear" ? RopeScaling::linear
                                       : RopeScaling::none;
  rope.factor = j.value("factor", 1.0);
  rope.original_context = j.value("original_context", 0);
  rope.beta_fast = j.value("beta_fast", 32.0);
  rope.beta_slow = j.value("beta_slow", 1.0);
  rope.attn_factor = j.value("attn_factor", 1.0);
  if (j.contains("freq_factors")) rope.freq_factors = j.at("freq_factors").get<std::vector<float>>();
  return rope;
}

// The golden frequencies were computed in f32.
TEST(Rope, AgreesWithTransformers) {
  std::ifstream in(std::string(TESSERA_SOURCE_DIR) + "/tests/data/rope.json");
  const json cases = json::parse(in, nullptr, false);
  ASSERT_TRUE(cases.is_array());
  for (const json& j : cases) {
    const RopeConfig rope = config_of(j);
    const std::vector<double> expected = j.at("frequencies"), got = rope_frequencies(rope);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_NEAR(got[i], expected[i], 2e-6 * expected[i]) << j.at("name") << " pair " << i;
    EXPECT_NEAR(rope_magnitude(rope), j.at("magnitude").get<double>(), 1e-9) << j.at("name");
  }
}

TEST(Rope, TableIsCosAndSinTimesMagnitude) {
  RopeConfig rope;
  rope.dims = 4;
  rope.attn_factor = 2;
  const std::vector<float> table = rope_table(rope, 3);
  ASSERT_EQ(table.size(), 3u * 2 * 2);
  for (std::size_t position = 0; position < 3; ++position)
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const double angle = static_cast<double>(position) * std::pow(10000.0, -static_cast<double>(pair) / 2);
      EXPECT_FLOAT_EQ(table[(position * 2 + pair) * 2], static_cast<float>(2 * std::cos(angle)));
      EXPECT_FLOAT_EQ(table[(position * 2 + pair) * 2 + 1], static_cast<float>(2 * std::sin(angle)));
    }
}

}  // namespace
}  // namespace tessera::test
