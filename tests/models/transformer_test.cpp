// Encoder-decoders built from folders, walked by the reference, against logits of torch.nn.
#include "models/transformer.h"

#include <gmock/gmock.h>

#include <cmath>

#include "graph/fuse.h"
#include "graph/state.h"
#include "reference/reference.h"
#include "support/transformer_folder.h"

namespace tessera::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class GoldenTransformer : public testing::TestWithParam<std::tuple<const char*, bool>> {};

TEST_P(GoldenTransformer, LogitsAgreeWithTorch) {
  const auto [name, fused] = GetParam();
  const std::string dir = transformer_dir(name);
  const TransformerProgram t =
      must(transformer_files(dir).build({.beams = 3, .max_source = 16, .max_target = 10}));
  ASSERT_TRUE(t.program);
  const auto program = fused ? std::make_shared<const Program>(fuse(*t.program)) : t.program;
  const auto walker = must(ReferenceWalker::create(program));
  ASSERT_TRUE(walker);
  const auto write = [&](ValueId value, auto items) {
    EXPECT_TRUE(walker->write(value, 0, std::as_bytes(std::span(items))).ok());
  };
  const auto run = [&](std::uint32_t graph, std::uint32_t position, std::uint32_t rows) {
    write(t.state, std::vector{StepState{.position = position, .rows = rows}});
    const auto done = walker->run(graph);
    EXPECT_TRUE(done.ok()) << done.error().message;
  };
  const json goldens = read_json(dir + "/golden.json");
  for (const json& c : goldens["cases"]) {
    const auto source = c["source"].get<std::vector<std::uint32_t>>();
    const auto target = c["target"].get<std::vector<std::uint32_t>>();
    const auto golden = c["logits"].get<std::vector<double>>();
    write(t.source, source);
    run(t.encode, 0, static_cast<std::uint32_t>(source.size()));
    write(t.lengths, std::vector<std::uint32_t>(3, static_cast<std::uint32_t>(source.size())));
    // Three beams of one text that take over each other's past at every step.
    std::vector<std::uint32_t> table(3 * 10, 0);
    for (std::uint32_t step = 0; step < target.size(); ++step) {
      std::vector<std::uint32_t> next = table;
      for (std::uint32_t b = 0; b < 3; ++b) {
        for (std::uint32_t j = 0; j < step; ++j) next[b * 10 + j] = table[(b + 1) % 3 * 10 + j];
        next[b * 10 + step] = step * 3 + 2 - b;
      }
      table = next;
      write(t.table, table);
      write(t.target, std::vector<std::uint32_t>(3, target[step]));
      run(t.decode, step, 1);
      std::vector<float> logits(std::size_t{3} * t.target_vocab);
      ASSERT_TRUE(walker->read(t.logits, 0, std::as_writable_bytes(std::span(logits))).ok());
      for (std::size_t i = 0; i < logits.size(); ++i) {
        const double expected = golden[step * t.target_vocab + i % t.target_vocab];
        ASSERT_NEAR(logits[i], expected, 2e-5 * (1 + std::fabs(expected)))
            << "step " << step << " logit " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenTransformer,
                         testing::Combine(testing::Values("pre", "post"), testing::Bool()),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param)) + (std::get<1>(p.param) ? "_fused" : "");
                         });

TEST(Transformer, Sinusoids) {
  TransformerConfig c;
  c.dim = 6;
  c.position_start = 2;
  const std::vector<float> pairs = sinusoids(c, 2);
  ASSERT_EQ(pairs.size(), 12u);
  EXPECT_FLOAT_EQ(pairs[0], static_cast<float>(std::sin(2.0)));
  EXPECT_FLOAT_EQ(pairs[6 + 3], static_cast<float>(std::cos(3 * std::pow(1e4, -2.0 / 6))));
  c.position_layout = PositionLayout::halves;
  const std::vector<float> halves = sinusoids(c, 2);
  EXPECT_FLOAT_EQ(halves[2], static_cast<float>(std::sin(2e-4)));
  EXPECT_FLOAT_EQ(halves[6 + 4], static_cast<float>(std::cos(3e-2)));
}

class ConfigOfTransformer : public testing::Test {
 protected:
  ConfigOfTransformer() : config_(read_json(transformer_dir("pre") + "/config.json")) {}
  static Result<TransformerConfig> read(const std::string& text) {
    return read_transformer_config(*ByteSource::from_memory(std::as_bytes(std::span(text))));
  }
  void refuses(const std::string& key, const json& value, const std::string& says,
               Code code = Code::bad_model) {
    json changed = config_;
    changed[key] = value;
    const auto result = read(changed.dump());
    ASSERT_FALSE(result.ok()) << key;
    EXPECT_EQ(result.error().code, code) << result.error().message;
    EXPECT_THAT(result.error().message, testing::AllOf(HasSubstr("\"" + key + "\""), HasSubstr(says)));
  }
  json config_;
};

TEST_F(ConfigOfTransformer, IsRead) {
  const TransformerConfig c = must(read(config_.dump()));
  EXPECT_EQ(c.dim, 24u);
  EXPECT_EQ(c.heads, 3u);
  EXPECT_TRUE(c.pre_norm);
  EXPECT_TRUE(c.scale_embedding);
  EXPECT_EQ(c.position_layout, PositionLayout::halves);
  EXPECT_EQ(c.position_start, 1u);
  EXPECT_EQ(c.source_vocabulary, "source.txt");
}

TEST_F(ConfigOfTransformer, RefusalsNameKeyAndValue) {
  refuses("heads", 5, "is \"5\", but must be a divisor of \"d_model\", 24");
  refuses("heads", 0, "a whole number from 1");
  refuses("heads", -3, "\"-3\"");
  refuses("heads", 3.0, "\"3.0\"");
  refuses("heads", 1e300, "whole number");
  refuses("d_model", "24", "whole number");
  refuses("d_model", 1ull << 40, "1099511627776");
  refuses("encoder_layers", json::array({1}), "whole number");
  refuses("layer_norm_eps", -1, "a number from 0 to 1");
  refuses("norm", "middle", "\"pre\" or \"post\"", Code::unsupported);
  refuses("activation", "tanh", "\"relu\"", Code::unsupported);
  refuses("model_type", "bert", "\"transformer\"", Code::unsupported);
  refuses("positions", "learned", "\"sinusoidal\"", Code::unsupported);
  refuses("position_layout", 7, "\"interleaved\"");
  refuses("scale_embedding", 1, "true or false");
  refuses("source_vocabulary", "../secret", "same folder");
  refuses("target_vocabulary", "", "same folder");
  refuses("source_vocabulary", std::string("a\0b", 3), "same folder");
  refuses("eos_id", 1, "another id");
  refuses("tie_weights", true, "no key that Tessera knows", Code::unsupported);
  for (const auto& [key, value] : config_.items()) {
    if (key == "name") continue;
    json changed = config_;
    changed.erase(key);
    EXPECT_THAT(read(changed.dump()).error().message, HasSubstr("\"" + key + "\" is missing"));
  }
  json heads = config_;
  heads["d_model"] = 1024;
  heads["heads"] = 1;
  EXPECT_THAT(read(heads.dump()).error().message, HasSubstr("at most 512 elements"));
}

TEST_F(ConfigOfTransformer, WhatIsNoConfiguration) {
  EXPECT_THAT(read("{").error().message, HasSubstr("is not JSON"));
  EXPECT_THAT(read("[1]").error().message, HasSubstr("no object"));
  EXPECT_THAT(read("\xff\xfe").error().message, HasSubstr("is not JSON"));
  EXPECT_FALSE(read(std::string(60000, '[')).ok());
  EXPECT_FALSE(read(std::string(30000, '[') + std::string(30000, ']')).ok());
  EXPECT_THAT(read(std::string(1 << 20, ' ')).error().message, HasSubstr("bytes, more than"));
}

TEST(Transformer, TensorsMustFitTheConfiguration) {
  TransformerFiles folder = transformer_files(transformer_dir("pre"));
  const TransformerConfig config = folder.config;
  const auto error = [&](const TransformerOptions& options = {}) {
    return build_transformer(folder.weights, folder.config, options).error().message;
  };
  EXPECT_THAT(error({.beams = 0}), HasSubstr("beams must be from 1"));
  EXPECT_THAT(error({.max_source = 1 << 20}), HasSubstr("max_source"));
  folder.config.dim = 30;
  EXPECT_THAT(error(), testing::AllOf(HasSubstr("encoder/embeddings/weight"), HasSubstr("(15,24)"),
                                      HasSubstr("(15,30)"), HasSubstr("weights.safetensors")));
  folder.config = config;
  folder.config.ffn_dim = 41;
  EXPECT_THAT(error(), HasSubstr("encoder/layer_0/ffn/linear_0/weight"));
  folder.config = config;
  folder.config.decoder_layers = 3;
  EXPECT_THAT(error(), HasSubstr("decoder/layer_2/"));
  folder.config = config;
  folder.config.eos = 77;
  EXPECT_THAT(error(), HasSubstr("\"eos_id\" is 77"));
}

}  // namespace
}  // namespace tessera::test
