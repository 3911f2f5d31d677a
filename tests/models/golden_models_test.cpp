// Decoders built from files, walked by the reference, against logits computed elsewhere.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "graph/fuse.h"
#include "graph/state.h"
#include "models/decoder.h"
#include "models/tensors.h"
#include "reference/reference.h"
#include "support/models_dir.h"

namespace tessera::test {
namespace {

// A decoder on the reference, driven by the protocol of graph/state.h.
class Runner {
 public:
  Runner(std::shared_ptr<const ModelFile> file, const DecoderOptions& options, bool fused) {
    auto built = build_decoder(std::move(file), options);
    if (!built.ok()) {
      ADD_FAILURE() << built.error().message;
      return;
    }
    d_ = *std::move(built);
    auto walker =
        ReferenceWalker::create(fused ? std::make_shared<const Program>(fuse(*d_.program)) : d_.program);
    if (!walker.ok()) {
      ADD_FAILURE() << walker.error().message;
      return;
    }
    walker_ = *std::move(walker);
    const SamplerParams greedy;
    write(d_.sampler, std::as_bytes(std::span(&greedy, 1)));
  }

  bool ready() const { return walker_ != nullptr; }
  const DecoderProgram& decoder() const { return d_; }

  void write_tokens(std::span<const TokenId> tokens) { write(d_.tokens, std::as_bytes(tokens)); }
  void write_state(std::uint32_t position, std::uint32_t rows) {
    StepState state;
    state.position = position;
    state.rows = rows;
    write(d_.state, std::as_bytes(std::span(&state, 1)));
  }
  StepState state() {
    StepState state;
    EXPECT_TRUE(walker_->read(d_.state, 0, std::as_writable_bytes(std::span(&state, 1))).ok());
    return state;
  }
  void run(std::uint32_t graph) {
    const auto done = walker_->run(graph);
    EXPECT_TRUE(done.ok()) << done.error().message;
  }
  std::vector<float> floats(ValueId value, std::size_t n) {
    std::vector<float> out(n);
    EXPECT_TRUE(walker_->read(value, 0, std::as_writable_bytes(std::span(out))).ok());
    return out;
  }

 private:
  void write(ValueId value, std::span<const std::byte> bytes) {
    EXPECT_TRUE(walker_->write(value, 0, bytes).ok());
  }

  DecoderProgram d_;
  std::unique_ptr<ReferenceWalker> walker_;
};

std::shared_ptr<const ModelFile> open(const std::string& path) {
  auto source = ByteSource::open(path);
  EXPECT_TRUE(source.ok()) << source.error().message;
  auto file = ModelFile::open(*source);
  EXPECT_TRUE(file.ok()) << file.error().message;
  return std::make_shared<const ModelFile>(*std::move(file));
}

void expect_near(std::span<const float> got, std::span<const float> expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], tolerance * (1 + std::fabs(expected[i]))) << what << " logit " << i;
}

class GoldenModel : public testing::TestWithParam<std::tuple<const char*, bool>> {};

// Prompt in chunks that do not divide it, then forced tokens one by one.
TEST_P(GoldenModel, LogitsAgreeWithTransformers) {
  const auto [name, fused] = GetParam();
  const auto file = open(std::string(TESSERA_SOURCE_DIR) + "/tests/data/models/" + name + ".gguf");
  const auto ids = file->get_uints("golden.tokens");
  ASSERT_TRUE(ids.ok());
  const std::vector<TokenId> tokens(ids->begin(), ids->end());
  const auto tensor = file->require("golden.logits");
  ASSERT_TRUE(tensor.ok());
  const std::vector<float> golden = *read_floats(*file, **tensor);

  DecoderOptions options;
  options.chunk = 7;
  options.all_logits = true;
  Runner r(file, options, fused);
  ASSERT_TRUE(r.ready());
  const std::size_t vocab = r.decoder().config.vocab;
  ASSERT_EQ(golden.size(), tokens.size() * vocab);
  const auto at = [&](std::size_t position, std::size_t rows = 1) {
    return std::span(golden).subspan(position * vocab, rows * vocab);
  };

  constexpr std::uint32_t kPrompt = 16;
  r.write_tokens(tokens);
  for (std::uint32_t position = 0; position < kPrompt;) {
    const std::uint32_t rows = std::min(7u, kPrompt - position);
    r.write_state(position, rows);
    r.run(r.decoder().prefill);
    expect_near(r.floats(r.decoder().all_logits, rows * vocab), at(position, rows), 2e-5, "prefill");
    position += rows;
    EXPECT_EQ(r.state().position, position);
    EXPECT_EQ(r.state().rows, 0u);
  }
  r.run(r.decoder().head);
  expect_near(r.floats(r.decoder().logits, vocab), at(kPrompt - 1), 2e-5, "head");
  EXPECT_EQ(r.state().rows, 1u);
  for (std::uint32_t position = kPrompt; position < tokens.size(); ++position) {
    r.write_tokens(tokens);
    r.write_state(position, 1);
    r.run(r.decoder().decode);
    expect_near(r.floats(r.decoder().logits, vocab), at(position), 2e-5, "decode");
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, GoldenModel,
                         testing::Combine(testing::Values("llama", "mistral", "qwen2"), testing::Bool()),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param)) +
                                  (std::get<1>(param.param) ? "_fused" : "");
                         });

TEST(RealModel, TinyStoriesGreedyIds) {
  TSR_NEED_MODELS();
  const std::string folder = models_dir() + "/tinystories-260k/";
  std::ifstream in(folder + "golden.json");
  const auto golden = nlohmann::json::parse(in, nullptr, false);
  ASSERT_TRUE(golden.is_object());
  const std::vector<TokenId> expected = golden.at("greedy_ids");

  Runner r(open(folder + "tinyllm.gguf"), {}, true);
  ASSERT_TRUE(r.ready());
  const std::uint32_t context = r.decoder().context, vocab = r.decoder().config.vocab;
  EXPECT_EQ(r.decoder().kv_type, DType::f32);
  r.write_tokens(std::vector<TokenId>{1});
  r.write_state(0, 1);
  r.run(r.decoder().prefill);
  r.run(r.decoder().head);
  std::vector<TokenId> ids{1, r.state().token};
  const auto check_logits = [&] {
    const std::string position = std::to_string(ids.size() - 2);
    if (!golden.at("logits_at_pos").contains(position)) return;
    const std::vector<float> logits = golden.at("logits_at_pos").at(position);
    expect_near(r.floats(r.decoder().logits, vocab), logits, 1e-4, "position " + position);
  };
  check_logits();
  while (ids.size() < std::min<std::size_t>(expected.size(), context + 1)) {
    r.run(r.decoder().decode);
    ids.push_back(r.state().token);
    check_logits();
  }
  EXPECT_EQ(ids, std::vector<TokenId>(expected.begin(), expected.begin() + static_cast<long>(ids.size())));
  EXPECT_EQ(ids.size(), context + 1);
}

}  // namespace
}  // namespace tessera::test
