#include "graph/fuse.h"

#include <gmock/gmock.h>

#include <functional>
#include <numeric>

#include "graph/tiny_program.h"

namespace tessera::test {
namespace {

// Fuses, and checks what came out.
Program fused(TinyProgram& t) {
  Program program = fuse(t.finish());
  const auto before = t.program.check(), after = program.check();
  EXPECT_TRUE(before.ok()) << before.error().message;
  EXPECT_TRUE(after.ok()) << after.error().message;
  return program;
}

TEST(Fuse, KeepsValueIdsAndGraphs) {
  const TinyProgram t = TinyProgram::block();
  const Program program = fuse(t.program);
  ASSERT_GE(program.values.size(), t.program.values.size());
  for (std::size_t i = 0; i < t.program.values.size(); ++i)
    EXPECT_EQ(program.values[i].name, t.program.values[i].name);
  EXPECT_EQ(program.graphs[0].name, "block");
  EXPECT_EQ(program.state, t.program.state);
}

TEST(Fuse, IsIdempotent) {
  const Program once = fuse(TinyProgram::block(true).program);
  EXPECT_EQ(print_all(fuse(once)), print_all(once));
}

TEST(FuseQkv, GraphsShareTheStack) {
  TinyProgram t;
  t.attention(t.norm("norm", t.embedding()));
  t.graph.name = "one";
  Graph second = t.graph;
  for (Op& op : second.ops)  // same weights and caches, other activations
    for (auto* ids : {&op.in, &op.out})
      for (ValueId& id : *ids)
        if (id != kNoValue && t.program.values[id].storage == Storage::activation) {
          static_assert(TinyProgram::kRows > 1);
          t.program.values.push_back(t.program.values[id]);
          const ValueId old = id, fresh = static_cast<ValueId>(t.program.values.size() - 1);
          for (Op& other : second.ops)
            for (auto* others : {&other.in, &other.out}) std::ranges::replace(*others, old, fresh);
        }
  second.name = "two";
  t.program.graphs.push_back(std::move(second));
  const Program program = fused(t);
  std::vector<ValueId> stacks;
  for (const Graph& graph : program.graphs) {
    EXPECT_EQ(count(graph, OpKind::matmul), 1u);
    for (const Op& op : graph.ops)
      if (op.kind == OpKind::matmul) stacks.push_back(op.in[1]);
  }
  ASSERT_EQ(stacks.size(), 2u);
  EXPECT_EQ(stacks[0], stacks[1]);
  EXPECT_EQ(program.values[stacks[0]].name, "attn_qkv.weight");
}

TEST(FuseQkv, ConstantBiasesAreConcatenated) {
  TinyProgram t;
  t.bias = true;
  t.attention(t.norm("norm", t.embedding()));
  float fill = 1;
  for (Value& v : t.program.values)
    if (v.name.ends_with(".bias")) {
      v.storage = Storage::constant;
      v.data = std::make_shared<const std::vector<float>>(v.elems(), fill++);
    }
  const Program program = fused(t);
  ASSERT_EQ(count(program.graphs[0], OpKind::rope_append), 1u);
  const Value& bias = program.values.at(program.graphs[0].ops[1].in[2]);
  ASSERT_TRUE(bias.data);
  EXPECT_EQ(*bias.data, (std::vector<float>{1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}));
}

TEST(FuseQkv, IsTheProductsEpilogueWhereLanesHavePairs) {
  for (const bool adjacent : {false, true}) {
    TinyProgram t(8);
    t.bias = true;
    t.rope_adjacent = adjacent;
    t.attention(t.norm("norm", t.embedding()));
    for (Value& v : t.program.values)
      if (v.name == "attn_q.bias") {
        std::vector<float> rows(v.elems());
        std::iota(rows.begin(), rows.end(), 0.0f);
        v.storage = Storage::constant;
        v.data = std::make_shared<const std::vector<float>>(rows);
      } else if (v.name.ends_with(".bias")) {
        v.storage = Storage::constant;
        v.data = std::make_shared<const std::vector<float>>(v.elems(), -1.0f);
      }
    const Program program = fused(t);
    ASSERT_EQ(count(program.graphs[0], OpKind::qkv_append), 1u);
    EXPECT_EQ(program.graphs[0].ops.size(), 3u);  // embedding, qkv_append with its norm, attention
    const Op& op = program.graphs[0].ops[1];
    EXPECT_EQ(program.values[op.in[3]].name, "norm.weight");
    EXPECT_EQ(program.values[op.in[1]].orders.empty(), adjacent);
    const std::vector<float>& bias = *program.values[op.in[2]].data;
    const std::vector<float> head(bias.begin() + 8, bias.begin() + 16);  // the second
    EXPECT_THAT(head, adjacent ? testing::ElementsAre(8, 9, 10, 11, 12, 13, 14, 15)
                               : testing::ElementsAre(8, 9, 12, 13, 10, 11, 14, 15));
  }
}

TEST(FuseQkv, LeavesAppendsThatNoLaneCanStore) {
  for (int fault = 0; fault < 4; ++fault) {
    TinyProgram t(fault == 0 ? 6 : 32);
    const ValueId h = t.norm("norm", t.embedding());
    if (fault == 1) t.program.values[t.k_cache].dtype = t.program.values[t.v_cache].dtype = DType::q8_0;
    t.attention(h);
    for (Op& op : t.graph.ops) {
      if (op.kind == OpKind::matmul && fault == 2) op.attrs.precision = Precision::mixed;
      if (op.kind == OpKind::rope && fault == 3) op.attrs.rope_dims = 30;
    }
    if (fault == 3) t.program.values[t.table] = t.program.values[t.constant("turn", {t.kContext, 15, 2})];
    const Program program = fused(t);
    EXPECT_EQ(count(program.graphs[0], OpKind::rope_append), 1u) << fault;
    EXPECT_EQ(count(program.graphs[0], OpKind::qkv_append), 0u) << fault;
  }
}

TEST(Fuse, LeavesWhatIsNotAskedFor) {
  for (int off = 0; off < 3; ++off) {
    TinyProgram t(8);
    const ValueId x = t.embedding();
    t.add("sum", x, t.matmul("attn_out", t.attention(t.norm("norm", x)), TinyProgram::kDim));
    t.finish();
    const Program program = fuse(t.program, {.sums = off != 0, .norms = off != 1, .heads = off != 2});
    EXPECT_TRUE(program.check().ok());
    const Graph& graph = program.graphs[0];
    EXPECT_EQ(count(graph, OpKind::add), off == 0);
    EXPECT_EQ(count(graph, OpKind::norm), off == 1);
    EXPECT_EQ(count(graph, OpKind::rope_append), off == 2);
  }
}

// What keeps q, k and v apart.
TEST(FuseQkv, LeavesMixedTypes) {
  TinyProgram t;
  t.attention(t.norm("norm", t.embedding()), DType::f16, DType::bf16);
  const Program program = fused(t);
  EXPECT_EQ(count(program.graphs[0], OpKind::rope_append), 0u);
  EXPECT_EQ(count(program.graphs[0], OpKind::matmul), 3u);
}

TEST(FuseQkv, LeavesOneBias) {
  TinyProgram t;
  t.attention(t.norm("norm", t.embedding()));
  for (Op& op : t.graph.ops)
    if (op.name == "attn_q") op.in[2] = t.weight("attn_q.bias", {8});
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::rope_append), 0u);
}

TEST(FuseQkv, LeavesOtherUses) {
  TinyProgram t;
  t.attention(t.norm("norm", t.embedding()));
  for (std::size_t i = 0; i < t.graph.ops.size(); ++i)
    if (t.graph.ops[i].name == "attn_k") {
      t.act("peek", t.graph.ops[i].out[0]);
      break;
    }
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::rope_append), 0u);
}

TEST(FuseQkv, LeavesOtherAngles) {
  TinyProgram t;
  t.attention(t.norm("norm", t.embedding()));
  for (Op& op : t.graph.ops)
    if (op.name == "k_rope") op.attrs.rope_adjacent = false;
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::rope_append), 0u);
}

TEST(FuseQkv, LeavesCachesThatAreReadBetween) {
  TinyProgram t;
  const ValueId h = t.norm("norm", t.embedding());
  const ValueId q = t.rope("q_rope", t.matmul("attn_q", h, 8), TinyProgram::kHeads);
  const ValueId k = t.rope("k_rope", t.matmul("attn_k", h, 4), TinyProgram::kKvHeads);
  const ValueId v = t.matmul("attn_v", h, 4);
  t.append("k_append", k, t.k_cache);
  t.attend(t.act("other", h));  // sees the new keys but not the new values
  t.append("v_append", v, t.v_cache);
  t.attend(q);
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::rope_append), 0u);
}

TEST(FuseGlu, LeavesOtherInputsTypesAndEpilogues) {
  for (int fault = 0; fault < 6; ++fault) {
    TinyProgram t;
    const ValueId x = t.embedding(), h = t.norm("norm", x);
    const ValueId gate = t.matmul("gate", h, 12);
    const ValueId up = t.matmul("up", fault == 0 ? x : h, 12, fault == 1 ? DType::f16 : DType::f32);
    t.glu("hidden", gate, up);
    if (fault == 2) t.act("peek", up);
    for (Op& op : t.graph.ops) {
      if (op.name == "up" && fault == 3) op.attrs.scale = 2;
      if (op.name == "up" && fault == 4) op.in[5] = gate;
      if (op.name == "up" && fault == 5) op.attrs.precision = Precision::mixed;
    }
    EXPECT_EQ(count(fused(t).graphs[0], OpKind::glu), 1u) << fault;
  }
}

TEST(FuseActivation, LeavesOtherUsesAndOutputs) {
  for (int fault = 0; fault < 2; ++fault) {
    TinyProgram t;
    const ValueId y = t.matmul("up", t.embedding(), 12);
    if (fault == 0) t.program.values[y].storage = Storage::output;
    t.act("hidden", y);
    if (fault == 1) t.act("peek", y);
    EXPECT_EQ(count(fused(t).graphs[0], OpKind::matmul), 1u);
    EXPECT_GE(count(fused(t).graphs[0], OpKind::activation), 1u) << fault;
  }
}

TEST(FuseSum, IsTheProductsEpilogueOnEitherSide) {
  for (const bool first : {false, true})
    for (const bool block : {false, true}) {
      TinyProgram t;
      const ValueId x = t.embedding();
      const ValueId h = block ? t.act("hidden", t.matmul("up", x, 12)) : x;
      const ValueId y = t.matmul("down", h, TinyProgram::kDim);
      const ValueId sum = first ? t.add("sum", y, x) : t.add("sum", x, y);
      t.add("again", sum, t.norm("other", sum));
      const Program program = fused(t);
      EXPECT_EQ(count(program.graphs[0], OpKind::add), 1u);
      const Op& down = program.graphs[0].ops[1];
      EXPECT_EQ(down.kind, block ? OpKind::feed_forward : OpKind::matmul);
      EXPECT_EQ(down.in[block ? 7 : 5], x);
      EXPECT_EQ(down.out[0], sum);
      EXPECT_EQ(program.graphs[0].ops[2].out[1], kNoValue);  // the norm reads it
    }
}

TEST(FuseSum, LeavesOtherUsesAndASecondSum) {
  TinyProgram t;
  const ValueId x = t.embedding();
  const ValueId y = t.matmul("one", x, TinyProgram::kDim), z = t.matmul("two", x, TinyProgram::kDim);
  t.act("peek", t.add("sum", x, y));
  t.act("peek", y);
  t.act("peek", t.add("other", t.add("sum", x, z), x));
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::add), 2u);
}

TEST(FuseNorm, RidesOnTheLoadOfFewRows) {
  for (const std::uint32_t rows : {16u, 17u})
    for (const bool block : {false, true}) {
      TinyProgram t;
      t.graph.max_rows = rows;
      const ValueId x = t.embedding();
      ValueId last = t.matmul("up", t.norm("norm", x), 12);
      if (block) last = t.matmul("down", t.act("hidden", last), 8);
      for (const Op& op : t.graph.ops) t.program.values[op.out[0]].shape[0] = rows;
      const Program program = fused(t);
      ASSERT_EQ(count(program.graphs[0], OpKind::norm), rows > 16);
      if (rows > 16) continue;
      const Op& op = program.graphs[0].ops[1];
      EXPECT_EQ(op.kind, block ? OpKind::feed_forward : OpKind::matmul);
      EXPECT_EQ(op.in[0], x);
      EXPECT_EQ(program.values[op.in[block ? 8 : 6]].name, "norm.weight");
      EXPECT_EQ(op.attrs.eps, 1e-5f);
    }
}

TEST(FuseNorm, LeavesOtherUsesAndLayerNorm) {
  for (int fault = 0; fault < 4; ++fault) {
    TinyProgram t;
    const ValueId x = t.embedding(), h = t.norm("norm", x);
    t.matmul("up", h, 12);
    Op& norm = t.graph.ops[1];
    if (fault == 0) norm.attrs.layer_norm = true;
    if (fault == 1) norm.in[2] = t.weight("norm.bias", {TinyProgram::kDim});
    if (fault == 2) t.matmul("other", h, 12);
    if (fault == 3) t.graph.ops[2].attrs.precision = Precision::mixed;
    EXPECT_EQ(count(fused(t).graphs[0], OpKind::norm), 1u) << fault;
  }
}

TEST(FuseFeedForward, PlainAndGated) {
  for (const bool gated : {false, true}) {
    TinyProgram t;
    const ValueId x = t.embedding(), one = t.matmul("up", x, 12);
    const ValueId h = gated ? t.glu("hidden", t.matmul("gate", x, 12), one) : t.act("hidden", one);
    const ValueId y = t.matmul("down", h, 8);
    const Program program = fused(t);
    EXPECT_EQ(count(program.graphs[0], OpKind::matmul), 0u);
    ASSERT_EQ(count(program.graphs[0], OpKind::feed_forward), 1u);
    const Op& block = program.graphs[0].ops.back();
    EXPECT_EQ(block.name, "down");
    EXPECT_EQ(block.in.size(), 9u);
    EXPECT_EQ(block.in[0], x);
    EXPECT_EQ(block.in[3] != kNoValue, gated);
    EXPECT_EQ(block.out[0], y);
    EXPECT_NE(block.attrs.act, Activation::none);
  }
}

// x -> up, with an activation -> down, each a row of 8; `between` gives what down reads instead of up's
// output.
struct TwoProducts : TinyProgram {
  ValueId x = embedding(), h = kNoValue, y = kNoValue;

  explicit TwoProducts(const std::function<ValueId(TwoProducts&)>& between = {}) {
    h = matmul("up", x, kDim);
    graph.ops[1].attrs.act = Activation::relu;
    y = matmul("down", between ? between(*this) : h, kDim);
  }
  Op& up() { return graph.ops[1]; }
  Op& down() { return graph.ops.back(); }
};

struct Change {
  const char* what;
  std::function<void(TwoProducts&)> make;
};

TEST(FuseFeedForward, LeavesOthers) {
  const Change changes[] = {
      {"no activation", [](auto& t) { t.up().attrs.act = Activation::none; }},
      {"another reader", [](auto& t) { t.act("peek", t.h); }},
      {"an output between them", [](auto& t) { t.program.values[t.h].storage = Storage::output; }},
      {"F16 between them", [](auto& t) { t.program.values[t.h].dtype = DType::f16; }},
      {"a residual of the first", [](auto& t) { t.up().in[5] = t.x; }},
      {"a residual of the second", [](auto& t) { t.down().in[5] = t.x; }},
      {"a scale of the first", [](auto& t) { t.up().attrs.scale = 2; }},
      {"a scale of the second", [](auto& t) { t.down().attrs.scale = 2; }},
      {"an activation of the second", [](auto& t) { t.down().attrs.act = Activation::relu; }},
      {"a gate of the second",
       [](auto& t) {
         t.down().in[3] = t.weight("gate", {8, 8});
       }},
      {"the first mixed", [](auto& t) { t.up().attrs.precision = Precision::mixed; }},
      {"the second mixed", [](auto& t) { t.down().attrs.precision = Precision::mixed; }}};
  for (const Change& change : changes) {
    TwoProducts t;
    change.make(t);
    const Program program = fused(t);
    EXPECT_EQ(count(program.graphs[0], OpKind::feed_forward), 0u) << change.what;
    EXPECT_EQ(count(program.graphs[0], OpKind::matmul), 2u) << change.what;
  }
  TwoProducts t;
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::feed_forward), 1u);
}

TEST(FuseFeedForward, LeavesWhatHasAnotherOpBetween) {
  for (const auto kind : {OpKind::norm, OpKind::add, OpKind::activation, OpKind::last_row}) {
    TwoProducts t([&](TwoProducts& p) {
      if (kind == OpKind::norm) return p.norm("between", p.h);
      if (kind == OpKind::add) return p.add("between", p.h, p.x);
      return kind == OpKind::activation ? p.act("between", p.h) : p.last_row(p.h);
    });
    if (kind == OpKind::last_row) {  // of all rows one
      Value& y = t.program.values[t.y];
      y.shape[0] = 1;
      y.dynamic_rows = false;
    }
    const Program program = fused(t);
    EXPECT_EQ(count(program.graphs[0], OpKind::feed_forward), 0u) << name(kind);
    EXPECT_EQ(count(program.graphs[0], OpKind::matmul), 2u) << name(kind);
  }
}

TEST(FuseResidual, KeepsTheSum) {
  TinyProgram t;
  const ValueId x = t.embedding();
  const ValueId sum = t.add("sum", x, t.act("other", x));
  t.add("again", sum, t.norm("norm", sum));
  const Program program = fused(t);
  EXPECT_EQ(count(program.graphs[0], OpKind::add), 1u);
  const Op& norm = program.graphs[0].ops[2];
  ASSERT_EQ(norm.kind, OpKind::norm);
  EXPECT_EQ(norm.in[0], x);
  EXPECT_EQ(norm.out[1], sum);
}

TEST(FuseResidual, LeavesASumThatIsReadBefore) {
  TinyProgram t;
  const ValueId x = t.embedding();
  const ValueId sum = t.add("sum", x, t.act("other", x));
  t.act("peek", sum);
  t.norm("norm", sum);
  EXPECT_EQ(count(fused(t).graphs[0], OpKind::add), 1u);
}

TEST(FuseResidual, TwoNormsOfOneSum) {
  TinyProgram t;
  const ValueId x = t.embedding();
  const ValueId sum = t.add("sum", x, t.act("other", x));
  t.norm("one", sum);
  t.norm("two", sum);
  const Program program = fused(t);
  EXPECT_EQ(count(program.graphs[0], OpKind::add), 0u);
  EXPECT_EQ(count(program.graphs[0], OpKind::norm), 2u);
}

}  // namespace
}  // namespace tessera::test
