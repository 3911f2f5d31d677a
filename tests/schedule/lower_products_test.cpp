// lower() of matmul with several matrices, of feed_forward and of mlp.
#include "graph/fuse.h"
#include "models/builder.h"
#include "schedule/batched_product.h"
#include "schedule/limits.h"
#include "schedule/steps.h"
#include "support/must.h"
#include "support/random_decoder.h"
#include "support/refusal.h"

namespace tessera::test {
namespace {

std::vector<Call> lowered(const Program& program, const Limits& limits) {
  return must(lower(program, program.graphs[0], must(map_memory(program, limits)), limits));
}

TEST(LowerProducts, ABatchIsOneCall) {
  for (const bool rows_first : {false, true}) {
    const BatchedProgram p(
        {.batch = 3, .rows = 5, .n = 7, .k = 12, .rows_first = rows_first, .gated = true, .more = true});
    const auto calls = lowered(p.program, floor_target().limits);
    ASSERT_EQ(calls.size(), 1u);
    const auto& shape = std::get<MatmulShape>(calls[0].shape);
    EXPECT_EQ(shape.rows, 5u);
    EXPECT_EQ(shape.n, 7u);
    EXPECT_EQ(shape.k, 12u);
    EXPECT_EQ(shape.batch, 3u);
    EXPECT_EQ(shape.w_batch, 7u);
    EXPECT_EQ(shape.x_stride, rows_first ? 36u : 12u);
    EXPECT_EQ(shape.x_batch, rows_first ? 12u : 60u);
    EXPECT_EQ(shape.y_stride, rows_first ? 21u : 7u);
    EXPECT_EQ(shape.y_batch, rows_first ? 7u : 35u);
    EXPECT_TRUE(shape.gated && shape.bias && shape.residual);
    EXPECT_EQ(calls[0].operands[1].rows, 21u);
    EXPECT_EQ(calls[0].operands[2].rows, 21u);
  }
}

// Each window begins where a binding may, and its rows of x, y and residual with it.
TEST(LowerProducts, LargeBatchesAreCutByMatrices) {
  for (const bool rows_first : {false, true}) {
    const BatchedProgram p(
        {.batch = 41, .rows = 2, .n = 64, .k = 320, .rows_first = rows_first, .gated = true, .more = true});
    const Limits limits = floor_target().limits;
    const MemoryMap map = must(map_memory(p.program, limits));
    const auto calls = must(lower(p.program, p.program.graphs[0], map, limits));
    std::uint64_t next = 0;
    for (const Call& call : calls) {
      const auto& shape = std::get<MatmulShape>(call.shape);
      for (const std::size_t i : {1, 2}) {
        EXPECT_EQ(call.operands[i].first_row, next * 64);
        EXPECT_EQ(call.operands[i].rows, shape.batch * 64u);
        EXPECT_LE(shape.batch * 64u * 1280u, limits.max_storage_range);
      }
      EXPECT_EQ(call.operands[0].from_byte, next * shape.x_batch * 4);
      EXPECT_EQ(call.operands[5].from_byte, next * shape.y_batch * 4);
      EXPECT_EQ(call.operands[7].from_byte, next * shape.y_batch * 4);
      for (const std::size_t i : {0, 5, 7})
        EXPECT_EQ(call.operands[i].from_byte % limits.min_storage_alignment, 0u);
      next += shape.batch;
    }
    EXPECT_EQ(next, 41u);
    EXPECT_EQ(calls.size(), 4u);  // 12 matrices of 81,920 bytes each
    ScheduledGraph scheduled = must(schedule(p.program, p.program.graphs[0], map, floor_target(), true));
    const Range &first = scheduled.steps.front().ranges[5], &last = scheduled.steps.back().ranges[5];
    EXPECT_EQ(first.offset + first.bytes, last.offset + last.bytes);
    EXPECT_EQ(last.offset - first.offset, calls.back().operands[5].from_byte);
  }
}

// Two groups of 41 products by the same matrices, of which windows take 12 at a time.
TEST(LowerProducts, GroupsOfLargeBatchesAreCutEach) {
  const BatchedProgram p(
      {.rows = 2, .n = 64, .k = 320, .more = true, .biases = true, .x_batch = {2, 41}, .w_batch = {1, 41}});
  const auto calls = lowered(p.program, floor_target().limits);
  ASSERT_EQ(calls.size(), 8u);
  std::uint64_t next = 0;
  for (const Call& call : calls) {
    const auto& shape = std::get<MatmulShape>(call.shape);
    EXPECT_EQ(call.operands[0].from_byte, next * 2 * 320 * 4);
    EXPECT_EQ(call.operands[1].first_row, next % 41 * 64);
    EXPECT_EQ(call.operands[1].rows, shape.batch * 64u);
    EXPECT_EQ(call.operands[3].from_byte, next % 41 * 64 * 4);
    EXPECT_EQ(call.operands[5].from_byte, next * 2 * 64 * 4);
    EXPECT_TRUE(shape.biases);
    next += shape.batch;
  }
  EXPECT_EQ(next, 82u);
}

TEST(LowerProducts, BroadcastBatchesAreOneCall) {
  const BatchedProgram p(
      {.rows = 5, .n = 7, .k = 12, .more = true, .biases = true, .x_batch = {2, 1}, .w_batch = {1, 3}});
  const auto calls = lowered(p.program, floor_target().limits);
  ASSERT_EQ(calls.size(), 1u);
  const auto& shape = std::get<MatmulShape>(calls[0].shape);
  EXPECT_EQ(shape.batch, 6u);
  EXPECT_EQ(shape.inner, 3u);
  EXPECT_EQ(shape.x_batch, 0u);
  EXPECT_EQ(shape.x_outer, 60u);
  EXPECT_EQ(shape.w_batch, 7u);
  EXPECT_EQ(shape.w_outer, 0u);
  EXPECT_EQ(shape.y_batch, 35u);
  EXPECT_TRUE(shape.biases);
  EXPECT_EQ(calls[0].operands[1].rows, 21u);
}

TEST(LowerProducts, MatricesThatNoBindingHoldsAreRefused) {
  const Limits limits = floor_target().limits;
  const auto refusal = [&](const BatchedProduct& shape) {
    const BatchedProgram p(shape);
    const auto calls = lower(p.program, p.program.graphs[0], must(map_memory(p.program, limits)), limits);
    return calls.ok() ? "" : calls.error().message;
  };
  EXPECT_EQ(refusal({.rows = 1, .n = 65, .k = 320, .x_batch = {3, 41}, .w_batch = {1, 41}}),
            "'w' takes several bindings, and groups of its products begin 10660 bytes apart, no multiple of "
            "256");
  EXPECT_EQ(refusal({.rows = 3, .n = 2048, .k = 256, .x_batch = {2, 1}, .w_batch = {2, 1}}),
            "'w' is bound 1 matrix at a time, of 2097152 bytes each: too much for bindings of 1048576");
  EXPECT_EQ(refusal({.batch = 2, .rows = 1, .n = 1025, .k = 256}),
            "'w' is bound 1 matrix at a time, of 1049600 bytes each: too much for bindings of 1048576");
  EXPECT_EQ(refusal({.batch = 80, .rows = 1, .n = 65, .k = 256}),
            "'w' is bound 64 matrices at a time, of 66560 bytes each: too much for bindings of 1048576");
}

TEST(LowerProducts, GatedProductsCutBothWeightsAlike) {
  RandomDecoder r;
  r.hidden = 5'000;
  const DecoderProgram model = r.build();
  const Program program = fuse(*model.program, {.blocks = false});
  const Limits limits = floor_target().limits;
  const MemoryMap map = must(map_memory(program, limits));
  std::uint32_t gated = 0;
  for (const Call& call : must(lower(program, program.graphs[model.decode], map, limits)))
    if (const auto* shape = std::get_if<MatmulShape>(&call.shape); shape && shape->gated) {
      ++gated;
      EXPECT_EQ(call.operands[1].first_row, call.operands[2].first_row);
      EXPECT_EQ(call.operands[1].rows, call.operands[2].rows);
      EXPECT_NE(call.operands[1].value, call.operands[2].value);
    }
  EXPECT_EQ(gated, 4u);  // 4096 rows of 256 bytes and the rest, in two layers
}

TEST(LowerProducts, BlocksBindWindowsOfTheirWeights) {
  RandomDecoder r;
  r.hidden = 5'000;
  const DecoderProgram model = r.build();
  const Program program = fuse(*model.program);
  const Limits limits = floor_target().limits;
  const MemoryMap map = must(map_memory(program, limits));
  std::uint32_t blocks = 0;
  for (const Call& call : must(lower(program, program.graphs[model.decode], map, limits)))
    if (const auto* shape = std::get_if<FeedForwardShape>(&call.shape)) {
      ++blocks;
      EXPECT_EQ(shape->hidden_window, 4096u);
      EXPECT_TRUE(shape->norm && shape->residual);
      EXPECT_EQ(program.values[call.operands[kFeedForwardNorm].value].storage, Storage::weight);
      ASSERT_GE(call.operands.size(), kFeedForwardOperands + 4u);
      for (const std::size_t i : {0, 1}) {
        const Operand &w = call.operands[kFeedForwardOperands + 2 * i],
                      &up = call.operands[kFeedForwardOperands + 2 * i + 1];
        EXPECT_EQ(w.first_row, i * 4096);
        EXPECT_EQ(up.first_row, i * 4096);
        EXPECT_EQ(w.rows, i == 0 ? 4096u : 904u);
        EXPECT_EQ(up.rows, w.rows);
        EXPECT_NE(w.value, up.value);
      }
    }
  EXPECT_EQ(blocks, 2u);
}

// x -> mlp -> y, layer i of widths[i] to widths[i + 1], each with a bias.
struct Network {
  Program program;
  std::vector<ValueId> weights, biases;

  Network(std::uint64_t rows, const std::vector<std::uint64_t>& widths, bool biases_first = false) {
    const auto add = [&](const char* name, Storage storage, std::vector<std::uint64_t> shape) {
      return add_value(program, name, storage, DType::f32, std::move(shape));
    };
    program.state = add_value(program, "state", Storage::input, DType::u32, {8});
    const ValueId x = add("x", Storage::output, {rows, widths.front()});
    const ValueId y = add("y", Storage::output, {rows, widths.back()});
    for (const bool bias : {biases_first, !biases_first})
      for (std::size_t i = 1; i < widths.size(); ++i)
        if (bias)
          biases.push_back(add("bias", Storage::weight, {widths[i]}));
        else
          weights.push_back(add("w", Storage::weight, {widths[i], widths[i - 1]}));
    Op op{OpKind::mlp, "net", {}, {x}, {y}};
    for (std::size_t i = 0; i < weights.size(); ++i) {
      op.in.insert(op.in.end(), {weights[i], biases[i]});
      op.attrs.acts.push_back(i % 2 == 0 ? Activation::relu : Activation::none);
    }
    program.graphs.push_back({"g", static_cast<std::uint32_t>(rows), {std::move(op)}});
    const auto sound = program.check();
    EXPECT_TRUE(sound.ok()) << sound.error().message;
  }
  const Graph& graph() const { return program.graphs[0]; }

  // The one call that it becomes.
  Call call(const Limits& limits) const {
    const auto calls = lowered(program, limits);
    EXPECT_EQ(calls.size(), 1u);
    return calls.empty() ? Call{} : calls[0];
  }
  Result<ScheduledGraph> scheduled(const Target& target) const {
    return schedule(program, graph(), must(map_memory(program, target.limits)), target, true);
  }
};

TEST(LowerMlp, BindsTheWeightsOfAllLayersAtOnce) {
  for (const bool biases_first : {false, true}) {
    const Network net(7, {8, 16, 4}, biases_first);
    const Target target = floor_target();
    const MemoryMap map = must(map_memory(net.program, target.limits));
    const Call call = net.call(target.limits);
    const auto& shape = std::get<MlpShape>(call.shape);
    EXPECT_EQ(shape.rows, 7u);
    EXPECT_EQ(shape.k, 8u);
    ASSERT_EQ(shape.layers.size(), 2u);
    ASSERT_EQ(call.operands.size(), kMlpOperands + 4u);
    const Operand& all = call.operands[1];
    EXPECT_EQ(all.value, (biases_first ? net.biases : net.weights).front());
    EXPECT_EQ(all.last, (biases_first ? net.weights : net.biases).back());
    const Place &first = map.places[all.value], &last = map.places[all.last];
    EXPECT_EQ(shape.weight_bytes, last.offset + last.bytes - first.offset);
    for (std::size_t i = 0; i < 2; ++i) {
      const MlpLayer& layer = shape.layers[i];
      EXPECT_EQ(layer.n, i == 0 ? 16u : 4u);
      EXPECT_EQ(layer.act, static_cast<std::uint32_t>(i == 0 ? Activation::relu : Activation::none));
      EXPECT_TRUE(layer.bias);
      EXPECT_EQ(layer.window, 0u);
      EXPECT_EQ(first.offset + layer.weights_at, map.places[net.weights[i]].offset);
      EXPECT_EQ(first.offset + layer.bias_at, map.places[net.biases[i]].offset);
      EXPECT_EQ(call.operands[kMlpOperands + 2 * i].value, net.weights[i]);
      EXPECT_EQ(call.operands[kMlpOperands + 2 * i + 1].value, net.biases[i]);
    }
    const ScheduledGraph graph = must(net.scheduled(target));
    ASSERT_EQ(graph.steps.size(), 1u);
    EXPECT_EQ(graph.steps[0].dispatch.kernel, KernelId::mlp);
    EXPECT_EQ(graph.steps[0].ranges[1],
              (Range{first.buffer, first.offset, shape.weight_bytes, Access::read}));
  }
}

std::vector<KernelId> kernels_of(const ScheduledGraph& graph) {
  std::vector<KernelId> out;
  for (const Step& step : graph.steps) out.push_back(step.dispatch.kernel);
  return out;
}

// 600,000 bytes a layer.
TEST(LowerMlp, IsAProductALayerWhereNoBindingHasAllWeights) {
  const Network net(20, {500, 300, 500});
  Target target = floor_target();
  for (const bool one_buffer : {true, false}) {
    if (!one_buffer) target.limits.max_buffer_size = 1u << 20;
    const Call call = net.call(target.limits);
    EXPECT_EQ(std::get<MlpShape>(call.shape).weight_bytes > target.limits.max_storage_range, one_buffer);
    EXPECT_EQ(call.operands[1].value != kNoValue, one_buffer);
    const ScheduledGraph graph = must(net.scheduled(target));
    EXPECT_EQ(kernels_of(graph), (std::vector{KernelId::tile, KernelId::tile}));
    EXPECT_TRUE(graph.steps[1].barrier_before);
  }
}

// 5000 rows of 256 bytes: 4096 of them are a binding.
TEST(LowerMlp, AMatrixLargerThanABindingHasWindows) {
  const Network net(20, {64, 5000, 8});
  const Target target = floor_target();
  const Call call = net.call(target.limits);
  const auto& shape = std::get<MlpShape>(call.shape);
  EXPECT_EQ(shape.layers[0].window, 4096u);
  EXPECT_EQ(shape.layers[1].window, 0u);
  ASSERT_EQ(call.operands.size(), kMlpOperands + 4u + 2u);
  EXPECT_EQ(call.operands[kMlpOperands].value, kNoValue);
  for (const std::size_t i : {0, 1}) {
    const Operand& window = call.operands[kMlpOperands + 4 + i];
    EXPECT_EQ(window.value, net.weights[0]);
    EXPECT_EQ(window.first_row, i * 4096);
    EXPECT_EQ(window.rows, i == 0 ? 4096u : 904u);
  }
  EXPECT_EQ(must(net.scheduled(target)).steps.size(), 3u);
}

// 40,000 rows of 8 between the layers, of 2 before and after them.
TEST(LowerMlp, IsFusedWhereActivationsFitNoBinding) {
  const ScheduledGraph graph = must(Network(40'000, {2, 8, 2}).scheduled(floor_target()));
  EXPECT_EQ(kernels_of(graph), std::vector{KernelId::mlp});
  EXPECT_TRUE(graph.scratch.empty());
}

TEST(LowerMlp, IsRefusedWhereNeitherFits) {
  expect_refused(
      Network(64, {8, 8192, 8}).scheduled(floor_target()), Code::unsupported,
      {"8 to 8192 to 8", "2097152 bytes after layer 0 do not fit one binding", "not fused", "shared memory"});
}

}  // namespace
}  // namespace tessera::test
