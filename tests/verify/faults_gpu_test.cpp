// Faults that verification exists to find, planted one at a time.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "interface/elementwise.h"
#include "interface/matmul.h"
#include "verify/decoder_script.h"

namespace tessera::test {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

class Faults : public GpuTest {
 protected:
  using Edit = std::function<void(const Graph&, ScheduledGraph&)>;
  std::string first_fault(const DecoderProgram& model, const Edit& edit) {
    VerifyDesc desc = describe(model);
    desc.walker.edit_schedule = edit;
    return take(verify(*device_, desc)).first_fault;
  }
  std::string first_fault(const DecoderProgram& model, const Program& wrong) {
    VerifyDesc desc = describe(model);
    desc.fused = std::make_shared<const Program>(wrong);
    return take(verify(*device_, desc)).first_fault;
  }
  // Changes the first step of `graph` whose op is `name`.
  static Edit on(const std::string& graph, const std::string& name,
                 const std::function<void(Step&)>& change) {
    return [=](const Graph& g, ScheduledGraph& s) {
      if (g.name != graph) return;
      for (Step& step : s.steps)
        if (g.ops[step.op].name == name) return change(step);
      ADD_FAILURE() << "no op " << name;
    };
  }
};

constexpr std::uint32_t kPushK = 2, kPushFirst = 4;  // words of MatmulPush

// (a) what one kernel computes: named by kind and op.

TEST_F(Faults, AWrongLengthInABlock) {
  const auto edit = on("prefill", "blk.1.ffn_down", [](Step& s) { s.dispatch.push[kPushK] -= 4; });
  EXPECT_THAT(first_fault(small_decoder(), edit),
              StartsWith("feed_forward 'blk.1.ffn_down' (graph 'prefill', pass 0)"));
}

TEST_F(Faults, AWrongColumnInAProduct) {
  const auto edit = on("decode", "output", [](Step& s) { s.dispatch.push[kPushFirst] += 1; });
  EXPECT_THAT(first_fault(small_decoder(), edit), StartsWith("matmul 'output' (graph 'decode'"));
}

TEST_F(Faults, TheWeightOfTheNextLayer) {
  const auto edit = [](const Graph& g, ScheduledGraph& s) {
    Step *first = nullptr, *second = nullptr;
    for (Step& step : s.steps) {
      if (g.ops[step.op].name == "blk.0.attn_output") first = &step;
      if (g.ops[step.op].name == "blk.1.attn_output") second = &step;
    }
    if (first && second) first->ranges[shader::kMatmulW] = second->ranges[shader::kMatmulW];
  };
  EXPECT_THAT(first_fault(small_decoder(), edit), StartsWith("matmul 'blk.0.attn_output'"));
}

TEST_F(Faults, AMissingWorkgroup) {
  const auto edit = on("prefill", "blk.0.ffn_norm", [](Step& s) { s.dispatch.grid[0] -= 1; });
  EXPECT_THAT(first_fault(small_decoder(), edit), StartsWith("norm 'blk.0.ffn_norm'"));
}

TEST_F(Faults, TheCacheOfTheOtherLayer) {
  const auto edit = [](const Graph& g, ScheduledGraph& s) {
    std::vector<Step*> attention;
    for (Step& step : s.steps)
      if (g.ops[step.op].kind == OpKind::attention) attention.push_back(&step);
    if (!attention.empty() && g.name == "prefill") attention.front()->ranges[1] = attention.back()->ranges[1];
  };
  EXPECT_THAT(first_fault(small_decoder(), edit), StartsWith("attention 'blk.0.attn'"));
}

// (b) graphs that are wrong though each op of them is right.

void swap_gate_and_up(Program& program) {
  for (Graph& graph : program.graphs)
    for (Op& op : graph.ops)
      if (op.kind == OpKind::feed_forward) {
        std::swap(op.in[1], op.in[3]);
        std::swap(op.in[2], op.in[4]);
      }
}

// Of the second layer's ops of a kind; how many.
std::uint32_t drop_biases(Program& program, OpKind kind) {
  std::uint32_t dropped = 0;
  for (Graph& graph : program.graphs)
    for (Op& op : graph.ops)
      if (op.kind == kind && op.in[2] != kNoValue && op.name.starts_with("blk.1.")) {
        op.in[2] = kNoValue;
        ++dropped;
      }
  return dropped;
}

TEST_F(Faults, GateAndUpSwapped) {
  const DecoderProgram model = small_decoder();
  Program wrong = fuse(*model.program);
  swap_gate_and_up(wrong);
  EXPECT_THAT(first_fault(model, wrong), StartsWith("the whole: "));
}

TEST_F(Faults, ABiasDropped) {
  const DecoderProgram model = small_decoder();
  Program wrong = fuse(*model.program);
  const std::uint32_t dropped = drop_biases(wrong, OpKind::qkv_append);
  EXPECT_EQ(dropped, 2u);
  EXPECT_THAT(first_fault(model, wrong), StartsWith("the whole: "));
}

TEST_F(Faults, PairsOfTheOtherForm) {
  const DecoderProgram model = small_decoder();
  Program wrong = fuse(*model.program);
  std::uint32_t stacks = 0;
  for (Value& value : wrong.values)
    if (!value.orders.empty()) {
      value.orders.clear();
      ++stacks;
    }
  EXPECT_GT(stacks, 0u);
  for (Graph& graph : wrong.graphs)
    for (Op& op : graph.ops)
      if (op.kind == OpKind::qkv_append) op.attrs.rope_adjacent = true;
  EXPECT_THAT(first_fault(model, wrong), StartsWith("the whole: "));
}

TEST_F(Faults, AResidualLeftOut) {
  const DecoderProgram model = small_decoder();
  Program wrong = fuse(*model.program);
  for (Graph& graph : wrong.graphs)
    for (Op& op : graph.ops)
      if (op.name == "blk.1.attn_output") op.in.at(5) = kNoValue;
  EXPECT_THAT(first_fault(model, wrong), StartsWith("the whole: "));
}

// In precision mixed too, where roundings are 8000 times as large.

class FaultsInMixed : public Faults {
 protected:
  const DecoderProgram model_ = small_decoder(DType::f32, "qwen2", Precision::mixed);
};

TEST_F(FaultsInMixed, None) { EXPECT_EQ(first_fault(model_, fuse(*model_.program)), ""); }

TEST_F(FaultsInMixed, AWrongColumnInAProduct) {
  const auto edit = on("decode", "output", [](Step& s) { s.dispatch.push[kPushFirst] += 1; });
  EXPECT_THAT(first_fault(model_, edit), StartsWith("matmul 'output' (graph 'decode'"));
}

TEST_F(FaultsInMixed, AWrongLengthInABlock) {
  const auto edit = on("prefill", "blk.1.ffn_down", [](Step& s) { s.dispatch.push[kPushK] -= 4; });
  EXPECT_THAT(first_fault(model_, edit),
              StartsWith("feed_forward 'blk.1.ffn_down' (graph 'prefill', pass 0)"));
}

TEST_F(FaultsInMixed, GateAndUpSwapped) {
  Program wrong = fuse(*model_.program);
  swap_gate_and_up(wrong);
  EXPECT_THAT(first_fault(model_, wrong), StartsWith("the whole: "));
}

TEST_F(FaultsInMixed, ABiasDropped) {
  Program wrong = fuse(*model_.program);
  const std::uint32_t dropped = drop_biases(wrong, OpKind::matmul);
  EXPECT_GE(dropped, 2u);
  EXPECT_THAT(first_fault(model_, wrong), StartsWith("the whole: "));
}

// (c) two values that live at once in one place; only the walker with the real arena is wrong.
TEST_F(Faults, AWrongAlias) {
  const DecoderProgram model = small_decoder();
  std::size_t scheduled = 0;
  const auto edit = [&](const Graph& g, ScheduledGraph& s) {
    // The first walker has an arena without aliasing.
    if (scheduled++ < model.program->graphs.size() || g.name != "prefill") return;
    // What the residual carries past the feed-forward goes where its input is.
    const auto place = [&](ValueId id) {
      return std::ranges::find(s.plan.placements, id, &Placement::value);
    };
    const Op& norm = *std::ranges::find(g.ops, std::string("blk.0.ffn_norm"), &Op::name);
    const auto y = place(norm.out[0]), sum = place(norm.in[0]);
    ASSERT_NE(y, s.plan.placements.end());
    ASSERT_NE(sum, s.plan.placements.end());
    ASSERT_EQ(y->bytes, sum->bytes);
    for (Step& step : s.steps)
      for (std::size_t b = 0; b < step.ranges.size(); ++b)
        if (step.operands[b].value == norm.in[0]) step.ranges[b].offset = y->offset;
  };
  EXPECT_THAT(first_fault(model, edit), AllOf(StartsWith("the whole: "), HasSubstr("alias")));
}

// (d) a barrier that is not there: synchronisation validation says so (tests/support/vk_layer_settings.txt).
TEST_F(Faults, AMissingBarrier) {
  const DecoderProgram model = small_decoder();
  GpuWalkerOptions options;
  options.edit_schedule = [](const Graph& g, ScheduledGraph& s) {
    if (g.name != "decode") return;
    for (Step& step : s.steps)
      if (g.ops[step.op].name == "blk.0.ffn_down") {
        EXPECT_TRUE(step.barrier_before);
        step.barrier_before = false;
      }
  };
  {
    const auto walker =
        take(GpuWalker::create(*device_, std::make_shared<const Program>(fuse(*model.program)), options));
    ASSERT_TRUE(walker);
    EXPECT_TRUE(walker->run(model.decode).ok());
  }
  const auto lines = log_.take();
  if (env("VK_INSTANCE_LAYERS").find("KHRONOS_validation") == std::string::npos) {
    EXPECT_TRUE(lines.empty());
  } else {
    EXPECT_THAT(lines, Contains(HasSubstr("SYNC-HAZARD-READ-AFTER-WRITE")));
  }
}

}  // namespace
}  // namespace tessera::test
