// A decoder on the device against the reference, in every way that a session runs it.
#include <gmock/gmock.h>

#include "graph/fuse.h"
#include "reference/reference.h"
#include "schedule/gpu_walker.h"
#include "support/gpu_fixture.h"
#include "support/random_decoder.h"
#include "support/run_decoder.h"
#include "support/swept_types.h"

namespace tessera::test {
namespace {

using Row = std::vector<float>;
using Ids = std::vector<std::uint32_t>;

class Walkers : public GpuTest {
 protected:
  // A device with `more` lowered too; what is lower already stays.
  std::unique_ptr<Device> lowered(const std::vector<CapOverride>& more) {
    auto caps = take(caps_from_env());
    const auto have = list(device_->report().limits, device_->report().caps);
    for (const CapOverride& cap : more)
      for (const NamedValue& v : have)
        if (v.name == cap.name && static_cast<double>(cap.value) < v.value) caps.push_back(cap);
    return make_device(caps);
  }
  std::unique_ptr<GpuWalker> walker(Device& device, const DecoderProgram& model) {
    return take(GpuWalker::create(device, std::make_shared<const Program>(fuse(*model.program)), {}));
  }

  // The logits after `ids`: chunks of several sizes, and step by step, all near the reference.
  void expect_all_ways_agree(Device& device, const DecoderProgram& model, const Ids& ids,
                             const std::vector<std::uint32_t>& chunks) {
    const Drive drive = [&](Walker& w) { return DecoderRunner(model, w).prefill(ids, model.chunk); };
    const double tolerance = take(run_tolerance(model.program, drive));
    EXPECT_LT(tolerance, 0.5);  // of logits of size about 1
    const auto reference = take(ReferenceWalker::create(model.program));
    ASSERT_TRUE(reference);
    const Row wanted = take(drive(*reference));
    const auto gpu = walker(device, model);
    ASSERT_TRUE(gpu);
    DecoderRunner runner(model, *gpu);
    for (std::uint32_t chunk : chunks)
      EXPECT_LE(distance(take(runner.prefill(ids, chunk)), wanted), tolerance) << "chunk " << chunk;
    Row last;
    for (std::uint32_t at = 0; at < ids.size(); ++at) last = take(runner.step(at, ids[at]));
    EXPECT_LE(distance(last, wanted), tolerance) << "step by step";
  }
};

class EveryType : public Walkers, public testing::WithParamInterface<DType> {};

TEST_P(EveryType, ChunksAndStepsAgreeWithTheReference) {
  RandomDecoder r;
  r.type = GetParam();
  r.arch = GetParam() == DType::f16 ? "qwen2" : "llama";
  if (info(GetParam()).block_elems == 256) r.dim = r.hidden = 256;
  expect_all_ways_agree(*device_, r.build(), spread_ids(19, r.vocab), {1, 3, 16, 64});
}

INSTANTIATE_TEST_SUITE_P(Types, EveryType, testing::ValuesIn(swept_weight_types()),
                         [](const auto& type) { return std::string(tessera::info(type.param).name); });

struct Heads {
  const char* arch;  // llama turns neighbours, qwen2 halves
  std::uint32_t dim, heads, kv_heads, rope_dims;
};

// In the epilogue of their product or, where sizes do not allow it, after it.
TEST_F(Walkers, HeadsOfManySizes) {
  for (const Heads& h : {Heads{"llama", 60, 5, 1, 0},
                         {"qwen2", 60, 5, 5, 8},
                         {"llama", 64, 2, 1, 12},
                         {"qwen2", 64, 8, 2, 4},
                         {"llama", 60, 6, 2, 0},
                         {"qwen2", 64, 4, 2, 6}})
    for (const DType cache : {DType::f32, DType::f16}) {
      RandomDecoder r;
      r.layers = 1;
      r.arch = h.arch;
      r.dim = h.dim;
      r.heads = h.heads;
      r.kv_heads = h.kv_heads;
      r.rope_dims = h.rope_dims;
      SCOPED_TRACE(std::string(h.arch) + " " + std::to_string(h.dim / h.heads) + "/" +
                   std::to_string(h.rope_dims));
      expect_all_ways_agree(*device_, r.build(0, 64, cache), spread_ids(19, r.vocab), {7, 64});
    }
}

TEST_F(Walkers, WithLoweredLimits) {
  const auto device = lowered({{"max_group_invocations", 128},
                               {"max_shared_bytes", 16384},
                               {"max_storage_range", 1u << 20},
                               {"subgroup_arithmetic", 0},
                               {"timestamp_ns", 0}});
  ASSERT_TRUE(device);
  RandomDecoder r;
  r.type = DType::q8_0;
  expect_all_ways_agree(*device, r.build(), spread_ids(19, r.vocab), {16});
}

// The table and the output weight take nine windows of 1 MiB each; their products more workgroups than a row
// of the grid holds.
TEST_F(Walkers, AVocabularyPastBindingsAndGrids) {
  const auto device = lowered({{"max_storage_range", 1u << 20}, {"max_group_count_x", 999}});
  ASSERT_TRUE(device);
  RandomDecoder r;
  r.layers = 1;
  r.vocab = 70'001;
  r.dim = r.hidden = 32;
  r.heads = r.kv_heads = 2;
  expect_all_ways_agree(*device, r.build(), {0, 8'191, 8'192, 70'000, 35'000, 16'384}, {64});
}

TEST_F(Walkers, GreedyTokensAreTheArgmax) {
  const RandomDecoder r;
  const DecoderProgram model = r.build();
  const auto gpu = walker(*device_, model);
  ASSERT_TRUE(gpu);
  DecoderRunner runner(model, *gpu);
  Row logits = take(runner.prefill(spread_ids(5, r.vocab), 64));
  for (std::uint32_t i = 0; i < 6; ++i) {
    const StepState state = take(runner.state());
    EXPECT_EQ(state.status, kStatusOk);
    EXPECT_EQ(state.position, 5 + i);
    EXPECT_EQ(state.rows, 1u);
    EXPECT_EQ(state.token, std::max_element(logits.begin(), logits.end()) - logits.begin());
    logits = take(runner.step());
  }
}

TEST_F(Walkers, ANaNGivesAStatusAndNoToken) {
  RandomDecoder r;
  r.output_scale = std::numeric_limits<float>::quiet_NaN();
  const DecoderProgram model = r.build();
  const auto gpu = walker(*device_, model);
  ASSERT_TRUE(gpu);
  DecoderRunner runner(model, *gpu);
  (void)take(runner.prefill(spread_ids(5, r.vocab), 64));
  const StepState state = take(runner.state());
  EXPECT_EQ(state.status, kStatusNaN);
  EXPECT_EQ(state.token, 0u);
}

TEST_F(Walkers, ARunIsOneSubmitAndRecordsNothing) {
  const RandomDecoder r;
  const DecoderProgram model = r.build();
  const auto gpu = walker(*device_, model);
  ASSERT_TRUE(gpu);
  DecoderRunner runner(model, *gpu);
  // The second run of each graph may record again, with measured times.
  for (int i = 0; i < 2; ++i) {
    (void)take(runner.prefill(spread_ids(5, r.vocab), 64));
    (void)take(runner.step());
  }
  const WalkerStats before = gpu->stats();
  const std::uint64_t submits = device_->submit_count(), records = device_->record_count();
  for (int i = 0; i < 8; ++i) expect_ok(gpu->run(model.decode));
  EXPECT_EQ(device_->submit_count(), submits + 8);
  EXPECT_EQ(device_->record_count(), records);
  EXPECT_EQ(gpu->stats().submits, before.submits + 8);
  EXPECT_EQ(gpu->stats().records, before.records);
  const StepState again{.position = 0, .rows = 5};
  expect_ok(gpu->write(model.state, 0, std::as_bytes(std::span(&again, 1))));
  for (const std::uint32_t graph : {model.prefill, model.head}) expect_ok(gpu->run(graph));
  EXPECT_EQ(gpu->stats().submits, before.submits + 10);
  EXPECT_EQ(device_->record_count(), records);
}

// Every step in single workgroups along its longest dimension: the same bits, still one submit a run.
TEST_F(Walkers, SlicesGiveTheSameBits) {
  for (const DType type : {DType::f32, DType::q8_0}) {
    RandomDecoder r;
    r.type = type;
    r.arch = "qwen2";
    const DecoderProgram model = r.build();
    const auto program = std::make_shared<const Program>(fuse(*model.program));
    GpuWalkerOptions options;
    options.slice_budget_us = 1e-3;
    const auto cut = take(GpuWalker::create(*device_, program, options));
    const auto whole = take(GpuWalker::create(*device_, program, {}));
    ASSERT_TRUE(cut && whole);
    EXPECT_GT(cut->stats().records, 4 * whole->stats().records);
    DecoderRunner a(model, *cut), b(model, *whole);
    const Ids ids = spread_ids(23, r.vocab);
    for (int round = 0; round < 3; ++round) {  // the second may record again
      EXPECT_EQ(take(a.prefill(ids, 16)), take(b.prefill(ids, 16)));
      for (int i = 0; i < 3; ++i) EXPECT_EQ(take(a.step()), take(b.step()));
    }
    EXPECT_EQ(cut->stats().submits, whole->stats().submits);
  }
}

// Slices of passes that follow each other, several in one submission, with nothing of the host's in between.
TEST_F(Walkers, SubmissionsCrossPasses) {
  const RandomDecoder r;
  const DecoderProgram model = r.build(64, 16);
  const auto gpu = walker(*device_, model);
  const auto plain = walker(*device_, model);
  ASSERT_TRUE(gpu && plain);
  const Ids ids = spread_ids(37, r.vocab);
  const auto write_prompt = [&](GpuWalker& to) {
    const StepState state{.rows = 16, .remaining = 21};
    expect_ok(to.write(model.tokens, 0, std::as_bytes(std::span(ids))));
    expect_ok(to.write(model.state, 0, std::as_bytes(std::span(&state, 1))));
  };
  write_prompt(*plain);
  for (const std::uint32_t graph :
       {model.prefill, model.prefill, model.prefill, model.head, model.decode, model.decode, model.decode})
    expect_ok(plain->run(graph));
  for (int round = 0; round < 3; ++round) {
    write_prompt(*gpu);
    const auto whole = [&](std::uint32_t graph, std::uint32_t position, std::uint32_t rows) {
      return SliceRun{graph, 0, gpu->slices(graph), position, rows};
    };
    const SliceRun prompt[] = {whole(model.prefill, 0, 16), whole(model.prefill, 16, 16),
                               whole(model.prefill, 32, 5), whole(model.head, 37, 0)};
    const SliceRun tokens[] = {whole(model.decode, 37, 1), whole(model.decode, 38, 1),
                               whole(model.decode, 39, 1)};
    (void)take(gpu->submit(prompt, true));
    const std::uint64_t last = take(gpu->submit(tokens, true));
    EXPECT_TRUE(take(gpu->wait(last, 60'000'000'000)));
    Ids found(4), wanted(4);
    expect_ok(gpu->read(model.tokens, 37 * 4, std::as_writable_bytes(std::span(found))));
    expect_ok(plain->read(model.tokens, 37 * 4, std::as_writable_bytes(std::span(wanted))));
    EXPECT_EQ(found, wanted);
    const SliceRun next{.graph = model.decode, .count = 1, .position = 40, .rows = 1};
    EXPECT_EQ(gpu->predict(next).known, device_->report().limits.timestamp_ns > 0);
  }
  EXPECT_EQ(gpu->stats().submits, 6u);
  const SliceRun wrong{.graph = model.decode, .first = 1, .count = gpu->slices(model.decode)};
  EXPECT_FALSE(gpu->submit({&wrong, 1}, false));
}

// Down to what a thousandth of a microsecond allows: more slices, the same bits.
TEST_F(Walkers, TunesToABudget) {
  const RandomDecoder r;
  const DecoderProgram model = r.build();
  const auto tuned = walker(*device_, model), plain = walker(*device_, model);
  ASSERT_TRUE(tuned && plain);
  DecoderRunner a(model, *tuned), b(model, *plain);
  const Ids ids = spread_ids(9, r.vocab);
  EXPECT_EQ(take(a.prefill(ids, 64)), take(b.prefill(ids, 64)));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(take(a.step()), take(b.step()));
  for (GpuWalker* w : {tuned.get(), plain.get()}) {
    const SliceRun all{.graph = model.decode, .count = w->slices(model.decode)};
    EXPECT_TRUE(take(w->wait(take(w->submit({&all, 1}, true)), 60'000'000'000)));
  }
  const std::uint32_t slices = tuned->slices(model.decode);
  if (device_->report().limits.timestamp_ns > 0) {
    ASSERT_TRUE(tuned->wants_tuning(model.decode, 1e-3));
    expect_ok(tuned->tune(model.decode, 1e-3));
    EXPECT_GT(tuned->slices(model.decode), slices);
    EXPECT_FALSE(tuned->wants_tuning(model.decode, 1e-3));  // not measured yet
    EXPECT_FALSE(tuned->predict({.graph = model.decode, .count = 1}).known);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(take(a.step()), take(b.step()));
}

TEST_F(Walkers, StatsSayWhatIsOnTheDevice) {
  const RandomDecoder r;
  const DecoderProgram model = r.build(64, 64, DType::f16);
  const auto gpu = walker(*device_, model);
  ASSERT_TRUE(gpu);
  const WalkerStats stats = gpu->stats();
  EXPECT_EQ(stats.cache_bytes, 2u * r.layers * r.kv_heads * 64 * 16 * 2);
  EXPECT_GT(stats.weight_bytes, 4u * r.vocab * r.dim * 2);
  EXPECT_GT(stats.arena_bytes, 0u);
  EXPECT_GT(stats.pipelines, 5u);
  EXPECT_LE(stats.pipelines, 15u);
  EXPECT_EQ(stats.submits, 0u);
  const std::string text = gpu->print_schedule();
  for (const char* word : {"graph prefill", "graph head", "graph decode", "barrier", "slice: "})
    EXPECT_THAT(text, testing::HasSubstr(word));
}

TEST_F(Walkers, ReadsAndWritesAreChecked) {
  const DecoderProgram model = RandomDecoder{}.build();
  const auto gpu = walker(*device_, model);
  ASSERT_TRUE(gpu);
  std::vector<std::byte> bytes(64);
  EXPECT_FALSE(gpu->write(model.state, 0, bytes));  // 32 bytes
  EXPECT_FALSE(gpu->read(model.state, 1u << 30, bytes));
  EXPECT_FALSE(gpu->read(model.state, ~std::uint64_t{0}, bytes));
  for (ValueId id = 0; id < model.program->values.size(); ++id)
    if (model.program->values[id].storage == Storage::weight) {
      EXPECT_FALSE(gpu->write(id, 0, std::span(bytes).first(4)));
      EXPECT_FALSE(gpu->read(id, 0, std::span(bytes).first(4)));
    }
  EXPECT_FALSE(gpu->run(3));
  EXPECT_FALSE(gpu->run_op(3, 0));
  EXPECT_FALSE(gpu->run_op(0, 1000));
}

}  // namespace
}  // namespace tessera::test
