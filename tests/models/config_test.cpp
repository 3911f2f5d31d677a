#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "models/decoder.h"
#include "models/tiny_gguf.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

TEST(Config, ReadsWhatTheFileSays) {
  TinyGguf g;
  g.fill();
  g.metadata["general.name"] = TinyGguf::text("tiny");
  g.set("rope.freq_base", TinyGguf::f32(500000)).set("attention.sliding_window", TinyGguf::u32(16));
  const auto c = read_decoder_config(*g.open());
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->architecture, "llama");
  EXPECT_EQ(c->name, "tiny");
  EXPECT_EQ(c->layers, 2u);
  EXPECT_EQ(c->dim, 32u);
  EXPECT_EQ(c->hidden, 64u);
  EXPECT_EQ(c->heads, 4u);
  EXPECT_EQ(c->kv_heads, 2u);
  EXPECT_EQ(c->head_dim, 8u);
  EXPECT_EQ(c->vocab, 40u);
  EXPECT_EQ(c->context, 64u);
  EXPECT_EQ(c->window, 16u);
  EXPECT_FLOAT_EQ(c->eps, 1e-5f);
  EXPECT_FLOAT_EQ(c->attention_scale, 1 / std::sqrt(8.0f));
  EXPECT_EQ(c->rope.dims, 8u);
  EXPECT_EQ(c->rope.base, 500000);
  EXPECT_EQ(c->rope.scaling, RopeScaling::none);
  EXPECT_TRUE(c->rope_adjacent);
  EXPECT_FALSE(c->tied_output);
}

TEST(Config, Defaults) {
  TinyGguf g;
  g.arch = "qwen2";
  g.output = false;
  g.heads = g.kv_heads = 4;
  g.fill();
  g.metadata.erase("qwen2.attention.head_count_kv");
  const auto c = read_decoder_config(*g.open());
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->kv_heads, 4u);
  EXPECT_EQ(c->rope.base, 10000);
  EXPECT_FALSE(c->rope_adjacent);
  EXPECT_TRUE(c->tied_output);
  EXPECT_EQ(c->window, 0u);
}

TEST(Config, HeadsNeedNotFillTheEmbedding) {
  TinyGguf g;
  g.head_dim = 16;
  const auto c = read_decoder_config(*g.fill().open());
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->head_dim, 16u);
}

TEST(Config, RopeScaling) {
  TinyGguf g;
  g.fill();
  g.set("rope.scale_linear", TinyGguf::f32(2));
  auto c = read_decoder_config(*g.open());
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->rope.scaling, RopeScaling::linear);
  EXPECT_EQ(c->rope.factor, 2);

  g.metadata.erase("llama.rope.scale_linear");
  g.set("rope.scaling.type", TinyGguf::text("yarn")).set("rope.scaling.factor", TinyGguf::f32(4));
  g.set("rope.scaling.original_context_length", TinyGguf::u32(16));
  g.set("rope.scaling.yarn_beta_fast", TinyGguf::f32(16))
      .set("rope.scaling.attn_factor", TinyGguf::f32(0.5f));
  g.set("rope.dimension_count", TinyGguf::u32(4));
  g.tensors["rope_freqs.weight"] = {{2}, DType::f32};
  c = read_decoder_config(*g.open());
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(c->rope.factor, 4);
  EXPECT_EQ(c->rope.original_context, 16u);
  EXPECT_EQ(c->rope.beta_fast, 16);
  EXPECT_EQ(c->rope.beta_slow, 1);
  EXPECT_EQ(c->rope.attn_factor, 0.5);
  EXPECT_EQ(c->rope.dims, 4u);
  EXPECT_EQ(c->rope.freq_factors.size(), 2u);
}

struct Fault {
  std::string name;
  std::function<void(TinyGguf&)> plant;
  Code code;
  std::string message;  // a part of it
};

class ConfigFault : public testing::TestWithParam<Fault> {};

TEST_P(ConfigFault, IsNamed) {
  TinyGguf g;
  g.fill();
  GetParam().plant(g);
  const auto c = read_decoder_config(*g.open());
  ASSERT_FALSE(c.ok());
  EXPECT_EQ(c.error().code, GetParam().code) << c.error().message;
  EXPECT_THAT(c.error().message, HasSubstr(GetParam().message));
  EXPECT_THAT(c.error().message, testing::Not(HasSubstr("\n")));
}

Fault value(const std::string& key, std::uint32_t bad) {
  std::string name = key + "_" + std::to_string(bad);
  std::ranges::replace(name, '.', '_');
  return {name, [=](TinyGguf& g) { g.set(key, TinyGguf::u32(bad)); }, Code::bad_model,
          "llama." + key + " is " + std::to_string(bad)};
}
Fault number(const std::string& key, const std::string& name, float bad) {
  return {name, [=](TinyGguf& g) { g.set(key, TinyGguf::f32(bad)); }, Code::bad_model,
          "llama." + key + " is "};
}
Fault missing(const std::string& key) {
  std::string name = "missing_" + key;
  std::ranges::replace(name, '.', '_');
  return {name, [=](TinyGguf& g) { g.metadata.erase("llama." + key); }, Code::bad_model, "llama." + key};
}

std::vector<Fault> faults() {
  constexpr std::uint32_t kHuge = 1u << 31;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<Fault> list;
  for (const char* key :
       {"block_count", "embedding_length", "feed_forward_length", "context_length", "attention.head_count"}) {
    list.push_back(missing(key));
    list.push_back(value(key, 0));
    list.push_back(value(key, kHuge));
    list.push_back({"text_" + std::to_string(list.size()),
                    [=](TinyGguf& g) { g.set(key, TinyGguf::text("many")); }, Code::bad_model,
                    "llama." + std::string(key)});
  }
  for (const char* key : {"attention.head_count_kv", "attention.key_length", "rope.dimension_count",
                          "rope.scaling.original_context_length", "vocab_size"}) {
    list.push_back(value(key, 0));
    list.push_back(value(key, kHuge));
  }
  list.push_back(value("attention.head_count_kv", 3));
  list.push_back(value("attention.head_count", 6));
  list.push_back(value("rope.dimension_count", 3));
  list.push_back(value("rope.dimension_count", 10));
  list.push_back(value("vocab_size", 41));
  list.push_back(value("block_count", 1));
  list.push_back({"embedding_length_16", [](TinyGguf& g) { g.set("embedding_length", TinyGguf::u32(16)); },
                  Code::bad_model, "token_embd.weight"});
  list.push_back(number("attention.layer_norm_rms_epsilon", "eps_nan", nan));
  list.push_back(number("attention.layer_norm_rms_epsilon", "eps_negative", -1));
  list.push_back(number("attention.scale", "scale_negative", -1));
  list.push_back(number("rope.freq_base", "base_zero", 0));
  list.push_back(number("rope.freq_base", "base_infinite", std::numeric_limits<float>::infinity()));
  list.push_back(number("rope.scaling.factor", "factor_negative", -2));
  list.push_back(number("rope.scaling.yarn_beta_fast", "beta_nan", nan));
  list.push_back({"experts", [](TinyGguf& g) { g.set("expert_count", TinyGguf::u32(8)); }, Code::unsupported,
                  "llama.expert_count is 8"});
  list.push_back(
      {"value_length",
       [](TinyGguf& g) {
         g.set("attention.key_length", TinyGguf::u32(8)).set("attention.value_length", TinyGguf::u32(4));
       },
       Code::unsupported, "llama.attention.key_length is 8 but the value length is 4"});
  list.push_back({"scaling_type", [](TinyGguf& g) { g.set("rope.scaling.type", TinyGguf::text("longrope")); },
                  Code::unsupported,
                  "llama.rope.scaling.type is \"longrope\"; supported are none, linear and yarn"});
  list.push_back({"architecture",
                  [](TinyGguf& g) { g.metadata["general.architecture"] = TinyGguf::text("gpt\n2"); },
                  Code::unsupported, "supported are llama, mistral, qwen2"});
  list.push_back({"no_architecture", [](TinyGguf& g) { g.metadata.erase("general.architecture"); },
                  Code::bad_model, "general.architecture"});
  list.push_back({"no_embedding", [](TinyGguf& g) { g.tensors.erase("token_embd.weight"); }, Code::bad_model,
                  "token_embd.weight"});
  list.push_back({"tokens",
                  [](TinyGguf& g) {
                    g.metadata["tokenizer.ggml.tokens"] = [](GgufBuilder& b, const std::string& key) {
                      b.strings(key, {"a", "b"});
                    };
                  },
                  Code::bad_model, "tokenizer.ggml.tokens has 2 entries, but token_embd.weight has 40 rows"});
  list.push_back({"rope_freqs",
                  [](TinyGguf& g) {
                    g.tensors["rope_freqs.weight"] = {{5}, DType::f32};
                  },
                  Code::bad_model, "rope_freqs.weight has 5 elements"});
  return list;
}

INSTANTIATE_TEST_SUITE_P(Planted, ConfigFault, testing::ValuesIn(faults()),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace tessera::test
