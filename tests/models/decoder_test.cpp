#include "models/decoder.h"

#include <gmock/gmock.h>

#include <map>

#include "graph/fuse.h"
#include "graph/plan.h"
#include "models/tiny_gguf.h"
#include "support/golden.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

std::string print_all(const Program& program) {
  std::string text;
  for (const Graph& graph : program.graphs) text += print(program, graph);
  return text;
}

const Value& value(const DecoderProgram& d, ValueId id) { return d.program->values.at(id); }

const Value* find_value(const Program& program, std::string_view name) {
  auto at = std::ranges::find(program.values, name, &Value::name);
  return at == program.values.end() ? nullptr : &*at;
}

void expect_valid(const DecoderProgram& d) {
  const auto plain = d.program->check();
  EXPECT_TRUE(plain.ok()) << plain.error().message;
  const auto fused = fuse(*d.program).check();
  EXPECT_TRUE(fused.ok()) << fused.error().message;
}

TEST(Decoder, LlamaGraphs) {
  const auto d = build_decoder(TinyGguf().fill().open(), {});
  ASSERT_TRUE(d.ok()) << d.error().message;
  expect_valid(*d);
  expect_golden("tests/models/golden/llama.txt", print_all(*d->program));
  expect_golden("tests/models/golden/llama_fused.txt", print_all(fuse(*d->program)));
}

TEST(Decoder, Qwen2Graphs) {
  TinyGguf g;
  g.arch = "qwen2";
  g.output = false;
  g.matrices = DType::q8_0;
  DecoderOptions options;
  options.all_logits = true;
  const auto d = build_decoder(g.fill().open(), options);
  ASSERT_TRUE(d.ok()) << d.error().message;
  expect_valid(*d);
  expect_golden("tests/models/golden/qwen2.txt", print_all(*d->program));
  expect_golden("tests/models/golden/qwen2_fused.txt", print_all(fuse(*d->program)));
}

TEST(Decoder, IdsNameWhatTheySay) {
  DecoderOptions options;
  options.context = 48;
  options.chunk = 16;
  options.all_logits = true;
  const auto d = build_decoder(TinyGguf().fill().open(), options);
  ASSERT_TRUE(d.ok()) << d.error().message;
  EXPECT_EQ(d->context, 48u);
  EXPECT_EQ(d->chunk, 16u);
  using Shape = std::vector<std::uint64_t>;
  EXPECT_EQ(value(*d, d->tokens).shape, Shape{49});
  EXPECT_EQ(d->state, d->program->state);
  EXPECT_EQ(value(*d, d->sampler).name, "sampler");
  EXPECT_EQ(value(*d, d->last_hidden).shape, (Shape{1, 32}));
  EXPECT_EQ(value(*d, d->last_hidden).storage, Storage::output);
  EXPECT_EQ(value(*d, d->logits).shape, (Shape{1, 40}));
  EXPECT_EQ(value(*d, d->all_logits).shape, (Shape{16, 40}));
  EXPECT_TRUE(value(*d, d->all_logits).dynamic_rows);
  ASSERT_EQ(d->k_caches.size(), 2u);
  EXPECT_EQ(value(*d, d->v_caches[1]).name, "blk.1.v_cache");
  EXPECT_EQ(value(*d, d->k_caches[0]).shape, (Shape{2, 48, 8}));
  EXPECT_EQ(d->program->graphs[d->prefill].name, "prefill");
  EXPECT_EQ(d->program->graphs[d->prefill].max_rows, 16u);
  EXPECT_EQ(d->program->graphs[d->head].name, "head");
  EXPECT_EQ(d->program->graphs[d->decode].name, "decode");
}

TEST(Decoder, CacheTypeFollowsTheMatrices) {
  TinyGguf f32, f16;
  f16.matrices = DType::f16;
  EXPECT_EQ(build_decoder(f32.fill().open(), {})->kv_type, DType::f32);
  EXPECT_EQ(build_decoder(f16.fill().open(), {})->kv_type, DType::f16);
  DecoderOptions options;
  options.kv_type = DType::f16;
  const auto d = build_decoder(f32.open(), options);
  EXPECT_EQ(d->kv_type, DType::f16);
  EXPECT_EQ(value(*d, d->k_caches[0]).dtype, DType::f16);
  options.kv_type = DType::q8_0;
  EXPECT_THAT(build_decoder(f32.open(), options).error().message, HasSubstr("not Q8_0"));
}

TEST(Decoder, MixedReachesEveryProduct) {
  DecoderOptions options;
  options.precision = Precision::mixed;
  const auto d = build_decoder(TinyGguf().fill().open(), options);
  ASSERT_TRUE(d.ok()) << d.error().message;
  expect_valid(*d);
  const Program fused = fuse(*d->program);
  for (const Program* program : {d->program.get(), &fused}) {
    std::map<OpKind, std::size_t> found;
    for (const Graph& graph : program->graphs)
      for (const Op& op : graph.ops) {
        ++found[op.kind];
        if (op.kind == OpKind::matmul || op.kind == OpKind::feed_forward) {
          EXPECT_EQ(op.attrs.precision, Precision::mixed) << op.name;
        }
        if (op.kind == OpKind::attention) {
          EXPECT_EQ(op.attrs.attention.precision, Precision::mixed) << op.name;
        }
      }
    EXPECT_GT(found[OpKind::matmul], 0u);
    EXPECT_GT(found[OpKind::attention], 0u);
    EXPECT_EQ(found[OpKind::feed_forward], program == &fused ? 4u : 0u);  // 2 layers in 2 graphs
    EXPECT_EQ(found[OpKind::qkv_append], 0u);                             // its product has no form for mixed
  }
}

TEST(Decoder, TiedOutputIsTheEmbedding) {
  TinyGguf g;
  g.output = false;
  const auto d = build_decoder(g.fill().open(), {});
  ASSERT_TRUE(d.ok()) << d.error().message;
  const Graph& head = d->program->graphs[d->head];
  EXPECT_EQ(value(*d, head.ops[1].in[1]).name, "token_embd.weight");
}

TEST(Decoder, LlamaMayHaveBiases) {
  TinyGguf g;
  g.qkv_bias = true;
  g.fill();
  g.tensors["blk.1.ffn_down.bias"] = {{32}, DType::f32};
  const auto d = build_decoder(g.open(), {});
  ASSERT_TRUE(d.ok()) << d.error().message;
  expect_valid(*d);
  const Program fused = fuse(*d->program);
  EXPECT_NE(find_value(fused, "blk.0.attn_qkv.bias"), nullptr);
  EXPECT_NE(find_value(fused, "blk.1.ffn_down.bias"), nullptr);
  EXPECT_EQ(find_value(fused, "blk.0.ffn_down.bias"), nullptr);
}

TEST(Decoder, VectorsOfOtherTypesBecomeConstants) {
  TinyGguf g;
  g.arch = "qwen2";
  g.vectors = DType::f16;
  const auto file = g.fill().open();
  const auto d = build_decoder(file, {});
  ASSERT_TRUE(d.ok()) << d.error().message;
  const Value* norm = find_value(*d->program, "blk.1.ffn_norm.weight");
  ASSERT_NE(norm, nullptr);
  EXPECT_EQ(norm->storage, Storage::constant);
  EXPECT_EQ(norm->dtype, DType::f32);
  std::vector<std::byte> bytes(64);
  const TensorInfo* tensor = file->find("blk.1.ffn_norm.weight");
  ASSERT_TRUE(file->read(*tensor, 0, bytes).ok());
  std::vector<float> expected(32);
  decode_row(DType::f16, bytes, expected);
  EXPECT_EQ(*norm->data, expected);
  expect_valid(*d);
}

TEST(Decoder, WeightsAreTheFilesBytes) {
  TinyGguf g;
  g.matrices = DType::q8_0;
  const auto file = g.fill().open();
  const auto d = build_decoder(file, {});
  ASSERT_TRUE(d.ok()) << d.error().message;
  const Program fused = fuse(*d->program);
  const Value* qkv = find_value(fused, "blk.1.attn_qkv.weight");
  ASSERT_NE(qkv, nullptr);
  const auto id = static_cast<ValueId>(qkv - fused.values.data());
  std::vector<std::byte> got(34 * 2), expected(34 * 2);
  ASSERT_TRUE(read_rows(fused, id, 31, got).ok());  // the last of q, the first of k
  ASSERT_TRUE(file->read(*file->find("blk.1.attn_q.weight"), 34 * 31, std::span(expected).first(34)).ok());
  ASSERT_TRUE(file->read(*file->find("blk.1.attn_k.weight"), 0, std::span(expected).last(34)).ok());
  EXPECT_EQ(got, expected);
}

TEST(Decoder, SlidingWindowOnlyWhereItBites) {
  for (const std::uint32_t window : {16u, 64u}) {
    TinyGguf g;
    g.fill().set("attention.sliding_window", TinyGguf::u32(window));
    const auto d = build_decoder(g.open(), {});
    ASSERT_TRUE(d.ok());
    for (const Op& op : d->program->graphs[d->prefill].ops)
      if (op.kind == OpKind::attention) {
        EXPECT_EQ(op.attrs.attention.window_left, window == 16 ? 15u : kNoWindow);
      }
  }
}

TEST(Decoder, MissingTensorsAreNamed) {
  for (const char* name :
       {"output_norm.weight", "blk.0.attn_norm.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight",
        "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.1.ffn_norm.weight", "blk.1.ffn_gate.weight",
        "blk.0.ffn_up.weight", "blk.1.ffn_down.weight", "blk.1.attn_k.bias"}) {
    TinyGguf g;
    g.arch = "qwen2";
    g.fill();
    g.tensors.erase(name);
    const auto d = build_decoder(g.open(), {});
    ASSERT_FALSE(d.ok()) << name;
    EXPECT_EQ(d.error().code, Code::bad_model);
    EXPECT_THAT(d.error().message, HasSubstr(name));
  }
}

TEST(Decoder, MisshapenTensorsAreNamedWithBothShapes) {
  TinyGguf g;
  g.fill();
  g.tensors["blk.1.ffn_down.weight"].shape = {64, 32};
  auto d = build_decoder(g.open(), {});
  ASSERT_FALSE(d.ok());
  EXPECT_EQ(d.error().code, Code::bad_model);
  EXPECT_THAT(d.error().message, HasSubstr("tensor blk.1.ffn_down.weight has shape (64,32), but the model's "
                                           "metadata asks for (32,64)"));
  g.fill();
  g.tensors["output_norm.weight"].shape = {1, 32};
  d = build_decoder(g.open(), {});
  ASSERT_FALSE(d.ok());
  EXPECT_THAT(d.error().message, HasSubstr("output_norm.weight has shape (1,32)"));
}

TEST(Decoder, OptionsMustFit) {
  const auto file = TinyGguf().fill().open();
  DecoderOptions options;
  options.context = 65;
  auto d = build_decoder(file, options);
  ASSERT_FALSE(d.ok());
  EXPECT_EQ(d.error().code, Code::invalid_argument);
  EXPECT_THAT(d.error().message, HasSubstr("65 positions is more than the model's 64"));
  options.context = 8;
  options.chunk = 0;
  EXPECT_EQ(build_decoder(file, options).error().code, Code::invalid_argument);
  options.chunk = 1000;
  EXPECT_EQ(build_decoder(file, options)->chunk, 8u);
}

}  // namespace
}  // namespace tessera::test
