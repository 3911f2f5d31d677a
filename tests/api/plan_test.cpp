// Plans: what a host is asked to bind, and what goes into it.
#include "api_fixture.h"
#include "op_call.h"
#include "support/allocations.h"

namespace tessera::test {
namespace {

using Shape = std::vector<std::uint64_t>;
using Names = std::vector<std::string>;

class Plans : public OnBoth {
 protected:
  OpPlan plan_of(const OpCall& call) { return take(test::plan_of(context(), call)); }
  template <typename T>
  std::vector<T> packed(const OpPlan& plan, const std::string& name, std::vector<Tensor> inputs) {
    const Planned planned = describe(plan);
    const PlannedTensor* tensor = planned.find(name);
    if (tensor == nullptr) {
      ADD_FAILURE() << "no tensor " << name << " among " << planned.names();
      return {};
    }
    std::vector<T> out(tensor->bytes / sizeof(T));
    take(plan.pack(name, inputs, std::as_writable_bytes(std::span(out))));
    return out;
  }
};
TSR_ON_BOTH(Plans);

TEST_P(Plans, SayWhatIsBound) {
  const OpCall call{"matmul",
                    {shape_of("X", "BF16", {3, 64}), shape_of("W", "Q4_0", {8, 64}),
                     shape_of("W_up", "Q4_0", {8, 64}), shape_of("bias", "F16", {8})}};
  if (!on_gpu()) {
    expect_failure(test::plan_of(context(), call), TESSERA_INVALID_ARGUMENT, "the reference has no kernels");
    return;
  }
  const Planned planned = describe(plan_of(call));
  for (const PlannedTensor& t : planned.tensors) {
    EXPECT_GE(t.alignment, 16u) << t.name;
    EXPECT_EQ(t.alignment, planned.scratch_alignment) << t.name;
    EXPECT_TRUE(t.reads || t.writes) << t.name;
  }
  ASSERT_EQ(planned.names(), "X W bias W_up bias_up Y");
  const PlannedTensor &x = *planned.find("X"), &w = *planned.find("W"), &bias = *planned.find("bias"),
                      &up = *planned.find("bias_up"), &y = *planned.find("Y");
  EXPECT_EQ(x.type, "F32");  // of BF16
  EXPECT_EQ(x.shape, (Shape{3, 64}));
  EXPECT_EQ(x.bytes, 3u * 64 * 4);
  EXPECT_TRUE(x.reads && !x.writes && !x.packed && !x.optional && x.output.empty());
  EXPECT_EQ(w.type, "Q4_0");
  EXPECT_TRUE(w.packed && w.reads && !w.writes);
  EXPECT_EQ(w.inputs, (Names{"W"}));
  EXPECT_EQ(bias.type, "F32");
  EXPECT_EQ(bias.inputs, (Names{"bias"}));
  EXPECT_TRUE(up.optional && up.inputs.empty());  // zeros beside a bias
  EXPECT_EQ(y.output, "Y");
  EXPECT_TRUE(y.writes && y.inputs.empty() && !y.optional);
}

TEST_P(Plans, OfAppendsHaveTheStateAndTheCache) {
  if (!on_gpu()) return;
  const OpPlan plan =
      plan_of({"kv_append",
               {shape_of("past_cache", "F16", {1, 2, 16, 8}), shape_of("update", "F32", {1, 2, 3, 8})},
               {"position=5"}});
  const Planned planned = describe(plan);
  ASSERT_EQ(planned.names(), "state update past_cache");
  EXPECT_EQ(planned.find("past_cache")->output, "present_cache");
  EXPECT_TRUE(planned.find("past_cache")->writes);
  EXPECT_TRUE(planned.find("state")->optional);
  const auto state = packed<std::uint32_t>(plan, "state", {});
  EXPECT_EQ((std::vector<std::uint32_t>{state[0], state[1]}), (std::vector<std::uint32_t>{5, 3}));
}

TEST_P(Plans, OfAPastKeepItInPlace) {
  if (!on_gpu()) return;
  const Tensor past = tensor_of<float>("past_key", "F32", {1, 2, 1, 2}, {1, 2, 3, 4});
  const OpPlan plan =
      plan_of({"attention",
               {shape_of("Q", "F32", {1, 2, 1, 2}), shape_of("K", "F32", {1, 2, 1, 2}),
                shape_of("V", "F32", {1, 2, 1, 2}), past, shape_of("past_value", "F32", {1, 2, 1, 2})}});
  const PlannedTensor keys = *describe(plan).find("present_key");
  EXPECT_EQ(keys.shape, (Shape{1, 2, 2, 2}));
  EXPECT_EQ(keys.inputs, (Names{"past_key"}));
  EXPECT_EQ(packed<float>(plan, "present_key", {past}), (std::vector<float>{1, 2, 0, 0, 3, 4, 0, 0}));
}

TEST_P(Plans, OfAnMlpHaveItsWeightsInOne) {
  if (!on_gpu()) return;
  const Planned planned =
      describe(plan_of({"mlp",
                        {shape_of("X", "F32", {5, 8}), shape_of("W1", "F32", {16, 8}),
                         shape_of("bias1", "F32", {16}), shape_of("W2", "F32", {4, 16})}}));
  ASSERT_EQ(planned.names(), "X Y weights");
  EXPECT_EQ(planned.find("weights")->inputs, (Names{"W1", "bias1", "W2"}));
  EXPECT_TRUE(planned.find("weights")->packed);
}

TEST_P(Plans, PackInputs) {
  if (!on_gpu()) return;
  const std::vector<float> rows{1, 2, 3, 4, 5, 6, 7, 8};
  const Tensor w = tensor_of("W", "F32", {2, 4}, rows);
  const OpPlan product = plan_of({"matmul", {shape_of("X", "F32", {1, 4}), shape_of("W", "F32", {2, 4})}});
  EXPECT_FALSE(describe(product).find("W")->packed);  // whole 16 bytes a row
  EXPECT_EQ(packed<float>(product, "W", {w}), rows);

  const OpPlan embedding =
      plan_of({"embedding", {shape_of("table", "F32", {5, 2}), shape_of("ids", "I64", {3})}});
  const auto ids = [](std::int64_t last) { return tensor_of<std::int64_t>("ids", "I64", {3}, {4, 0, last}); };
  EXPECT_EQ(packed<std::uint32_t>(embedding, "ids", {ids(2)}), (std::vector<std::uint32_t>{4, 0, 2}));
  std::vector<std::byte> room(12);
  expect_failure(embedding.pack("ids", std::vector<Tensor>{ids(5)}, room), TESSERA_INVALID_ARGUMENT,
                 "embedding: ids[2] is 5, the table has 5 rows");

  const Tensor angles = tensor_of<float>("cos_cache", "F32", {1, 2, 1}, {1, 2}),
               sines = tensor_of<float>("sin_cache", "F32", {1, 2, 1}, {3, 4});
  const OpPlan rotary = plan_of({"rotary_embedding",
                                 {shape_of("X", "F32", {1, 1, 2, 2}), shape_of("cos_cache", "F32", {1, 2, 1}),
                                  shape_of("sin_cache", "F32", {1, 2, 1})}});
  EXPECT_EQ(packed<float>(rotary, "table", {angles, sines}), (std::vector<float>{1, 3, 2, 4}));
}

// A host that moves the position, or changes the lengths, comes to blocks that the plan's own does not need.
TEST_P(Plans, PackWholeBlockTables) {
  if (!on_gpu()) return;
  const auto table = [](std::vector<std::int64_t> blocks) {
    return tensor_of<std::int64_t>("block_table", "I64", {1, 3}, blocks);
  };
  const Tensor lengths = tensor_of<std::int64_t>("nonpad_kv_seqlen", "I64", {1}, {4}),
               shape = shape_of("block_table", "I64", {1, 3}),
               lengths_shape = shape_of("nonpad_kv_seqlen", "I64", {1});
  const OpCall append{
      "kv_append",
      {shape_of("past_cache", "F32", {4, 1, 4, 8}), shape_of("update", "F32", {1, 1, 1, 8}), shape}};
  const OpCall turned{"rope_append",
                      {shape_of("QKV", "F32", {1, 1, 24}), shape_of("cos_cache", "F32", {12, 4}),
                       shape_of("sin_cache", "F32", {12, 4}), shape_of("past_key", "F32", {4, 1, 4, 8}),
                       shape_of("past_value", "F32", {4, 1, 4, 8}), shape}};
  const OpCall attention{"attention",
                         {shape_of("Q", "F32", {1, 1, 1, 8}), shape_of("K", "F32", {4, 1, 4, 8}),
                          shape_of("V", "F32", {4, 1, 4, 8}), shape, lengths_shape}};
  for (const OpCall& call : {append, turned, attention}) {
    SCOPED_TRACE(call.op);
    const OpPlan plan = plan_of(call);
    const auto words = [&](std::vector<std::int64_t> blocks) {
      std::vector<Tensor> inputs{table(std::move(blocks))};
      if (call.op == "attention") inputs.push_back(lengths);
      return inputs;
    };
    using Words = std::vector<std::uint32_t>;
    EXPECT_EQ(packed<std::uint32_t>(plan, "block_table", words({3, 2, 1})), (Words{3, 2, 1}));
    EXPECT_EQ(packed<std::uint32_t>(plan, "block_table", words({3, 4, -1})), (Words{3, 0, 0}));
    std::vector<std::byte> room(12);
    expect_failure(plan.pack("block_table", words({4, 2, 1}), room), TESSERA_INVALID_ARGUMENT,
                   "block_table[0, 0] is 4");
  }
}

// Of a sequence: a host that moves the position writes them there.
TEST_P(Plans, PackIdsAtTheirPositions) {
  if (!on_gpu()) return;
  const OpPlan plan = plan_of(
      {"embedding",
       {shape_of("table", "F32", {5, 2}), shape_of("ids", "I32", {3}), shape_of("positions", "F32", {9, 2})},
       {"position=4"}});
  EXPECT_EQ(describe(plan).find("ids")->shape, (Shape{9}));
  const Tensor ids = tensor_of<std::int32_t>("ids", "I32", {3}, {4, 0, 2});
  EXPECT_EQ(packed<std::uint32_t>(plan, "ids", {ids}),
            (std::vector<std::uint32_t>{0, 0, 0, 0, 4, 0, 2, 0, 0}));
  EXPECT_EQ(packed<std::uint32_t>(plan, "state", {})[0], 4u);
  const OpPlan batch = plan_of({"embedding",
                                {shape_of("table", "F32", {5, 2}), shape_of("ids", "I32", {3, 1}),
                                 shape_of("positions", "F32", {9, 2})},
                                {"position=4"}});
  EXPECT_EQ(describe(batch).find("ids")->shape, (Shape{3}));
}

TEST_P(Plans, TakeInputsWithoutElements) {
  if (!on_gpu()) return;
  const Tensor q = tensor_of<float>("Q", "F32", {1, 1, 1, 2}, {1, 2}), k = shape_of("K", "F32", {1, 1, 0, 2}),
               v = shape_of("V", "F32", {1, 1, 0, 2});
  EXPECT_EQ(packed<float>(plan_of({"attention", {q, k, v}}), "Q", {q, k, v}), (std::vector<float>{1, 2}));
}

// Of hundreds of megabytes.
TEST_P(Plans, HoldNothingOfInputsWithoutData) {
  if (!on_gpu()) return;
  const Context context = take(Context::create(gpu(true)));
  const std::uint64_t rows = 8192, width = 2048;
  const OpCall calls[] = {
      {"embedding",
       {shape_of("table", "F32", {5, width}), shape_of("ids", "I64", {rows}),
        shape_of("positions", "F32", {rows, width})}},
      {"rope_append",
       {shape_of("QKV", "F32", {1, 1, 3 * width}), shape_of("cos_cache", "F32", {rows, width / 2}),
        shape_of("sin_cache", "F32", {rows, width / 2}), shape_of("past_key", "F32", {1, 1, 16, width}),
        shape_of("past_value", "F32", {1, 1, 16, width})}},
      {"matmul", {shape_of("X", "F32", {1, 4}), shape_of("W", "F32", {rows * 256, 4})}}};  // bias: zeros
  for (const OpCall& call : calls) {
    reset_peak();
    const OpPlan plan = take(test::plan_of(context, call));
    EXPECT_LT(peak_bytes(), 1u << 20) << call.op;
  }
}

TEST_P(Plans, RefuseWhatDoesNotFit) {
  if (!on_gpu()) return;
  const OpCall call{"matmul", {shape_of("X", "F32", {1, 4}), shape_of("W", "F32", {2, 4})}};
  const OpPlan plan = plan_of(call);
  std::vector<std::byte> room(32);
  const auto refuses = [&](const std::string& words, const std::string& name, std::vector<Tensor> inputs,
                           std::size_t bytes = 32) {
    expect_failure(plan.pack(name, inputs, std::span(room).first(bytes)), TESSERA_INVALID_ARGUMENT, words);
  };
  const Tensor w = random_tensor("W", "F32", {2, 4}, 1);
  refuses("did you mean 'W'?", "w", {});
  refuses("Y holds nothing before the op runs", "Y", {}, 8);
  refuses("W takes 32 bytes, there is room for 16", "W", {w}, 16);
  refuses("W needs data of W", "W", {});
  refuses("W has no data", "W", {shape_of("W", "F32", {2, 4})});
  refuses("W is F32 (4, 2), the plan is of F32 (2, 4)", "W", {random_tensor("W", "F32", {4, 2}, 1)});
  refuses("bias is no input of the plan", "W", {random_tensor("bias", "F32", {2}, 1)});
  expect_failure(test::plan_of(context(), {"matmul", {shape_of("X", "F32", {1, 4})}}),
                 TESSERA_INVALID_ARGUMENT, "tensor 'W' is missing");

  tessera_error error;
  tessera_plan* out = nullptr;
  OpDesc desc(call.op, call.inputs, {}, {});
  EXPECT_EQ(tessera_plan_create(nullptr, &*desc, &out, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_plan_create(context().get(), nullptr, &out, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_plan_create(context().get(), &*desc, nullptr, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(out, nullptr);
  EXPECT_EQ(tessera_plan_describe(plan.get(), nullptr, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_plan_pack(plan.get(), nullptr, nullptr, 0, room.data(), 32, &error),
            TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_plan_pack(plan.get(), "W", nullptr, 0, nullptr, 32, &error), TESSERA_INVALID_ARGUMENT);
  tessera_plan_destroy(nullptr);
}

}  // namespace
}  // namespace tessera::test
