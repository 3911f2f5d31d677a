#include <gmock/gmock.h>

#include "graph/attention_outputs.h"
#include "support/refusal.h"
#include "support/swept_types.h"
#include "verify/decoder_script.h"

namespace tessera::test {
namespace {

class Verify : public GpuTest {
 protected:
  void expect_right(const DecoderProgram& model) {
    const VerifyReport report = take(verify(*device_, describe(model)));
    EXPECT_EQ(report.first_fault, "");
    for (const char* kind : {"embedding", "norm", "matmul", "qkv_append", "attention", "add", "last_row",
                             "sample", "advance", "arena", "whole"}) {
      const VerifyRow* row = find_row(report, kind);
      if (row == nullptr && std::string(kind) == "add") continue;  // fused away
      ASSERT_NE(row, nullptr) << kind;
      EXPECT_GT(row->ops, 0u) << kind;
      EXPECT_GT(row->elements, 0u) << kind;
      EXPECT_LE(row->worst_ratio, 1) << kind;
    }
    EXPECT_EQ(report.rows.back().kind, "whole");
    EXPECT_GT(report.rows.back().worst_bound, 0);
    EXPECT_LT(report.rows.back().worst_bound, 0.1 * report.rows.back().largest);
  }
};

class VerifyTypes : public Verify, public testing::WithParamInterface<DType> {};
TEST_P(VerifyTypes, ATinyDecoderIsRight) { expect_right(small_decoder(GetParam())); }
INSTANTIATE_TEST_SUITE_P(Types, VerifyTypes, testing::ValuesIn(swept_weight_types()),
                         [](const auto& type) { return std::string(tessera::info(type.param).name); });

TEST_F(Verify, TheQwen2FileIsRight) {
  auto source = take(ByteSource::open(TESSERA_SOURCE_DIR "/tests/data/qwen2_random.gguf"));
  auto file = ModelFile::open(source);
  ASSERT_TRUE(file.ok()) << file.error().message;
  DecoderOptions options;
  options.context = 32;
  options.chunk = 20;
  const auto model = build_decoder(std::make_shared<const ModelFile>(*std::move(file)), options);
  ASSERT_TRUE(model.ok()) << model.error().message;
  expect_right(*model);
}

// The weights of some heads of some layers, of chunks whose last one is not full.
TEST_F(Verify, AttentionWeightsAreRight) {
  const DecoderProgram model = small_decoder();
  auto program = std::make_shared<Program>(*model.program);
  program->graphs.resize(1);
  ASSERT_EQ(model.prefill, 0u);
  const std::vector<std::uint32_t> ops = attention_ops(*program, 0);
  ASSERT_GE(ops.size(), 2u);
  const std::size_t all = program->graphs[0].ops.size();
  const std::vector<ValueId> weights =
      keep_attention_weights(*program, 0, std::vector<AttentionOutput>{{ops[0], 0, 1}, {ops[1], 1, 2}});
  EXPECT_EQ(program->graphs[0].ops.size(), ops[1] + 1);
  EXPECT_LT(program->graphs[0].ops.size(), all);
  EXPECT_EQ(program->values[weights[1]].shape, (std::vector<std::uint64_t>{1, 2, 20, 32}));
  VerifyDesc desc;
  desc.unfused = program;
  desc.fused = std::make_shared<const Program>(fuse(*program));
  desc.script = decoder_script(model, 27, 0);
  desc.script.pop_back();  // the head
  for (ScriptPass& pass : desc.script) pass.compare = weights;
  const VerifyReport report = take(verify(*device_, desc));
  EXPECT_EQ(report.first_fault, "");
  const VerifyRow* row = find_row(report, "attention");
  ASSERT_NE(row, nullptr);
  EXPECT_GT(row->elements, 3u * 27 * 32);  // more than the output
  EXPECT_LE(report.rows.back().worst_ratio, 1);
  EXPECT_LT(report.rows.back().worst_bound, 0.1);
}

TEST_F(Verify, IsCancelled) {
  VerifyDesc desc = describe(small_decoder());
  int left = 12;
  desc.progress = [&](std::string_view stage, std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(stage, "verify");
    EXPECT_LE(done, total);
    return left-- > 0;
  };
  expect_refused(verify(*device_, desc), Code::cancelled, {"cancelled"});
  EXPECT_EQ(left, -1);
}

TEST_F(Verify, ErrorsOfLoadingComeThrough) {
  VerifyDesc desc = describe(small_decoder());
  desc.walker.progress = [](std::string_view, std::uint64_t, std::uint64_t) { return false; };
  expect_refused(verify(*device_, desc), Code::cancelled, {"pipelines"});
}

}  // namespace
}  // namespace tessera::test
