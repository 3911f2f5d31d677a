#include "graph/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "graph/fuse.h"
#include "graph/tiny_program.h"
#include "support/golden.h"

namespace tessera::test {
namespace {

bool live_together(const Placement& a, const Placement& b) {
  return a.first_op <= b.last_op && b.first_op <= a.last_op;
}
bool overlap(const Placement& a, const Placement& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

// Most bytes alive at any op.
std::uint64_t peak(const Plan& plan, std::size_t ops) {
  std::uint64_t most = 0;
  for (std::uint32_t i = 0; i < ops; ++i) {
    std::uint64_t live = 0;
    for (const Placement& p : plan.placements)
      if (p.first_op <= i && i <= p.last_op) live += p.bytes;
    most = std::max(most, live);
  }
  return most;
}

// A random graph of matmuls, adds and activations on values of many widths.
TinyProgram random_program(std::uint32_t seed) {
  std::mt19937 random(seed);
  auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  TinyProgram t;
  std::vector<ValueId> values{t.embedding()};
  const std::size_t ops = 1 + below(40);
  for (std::size_t i = 0; i < ops; ++i) {
    const std::string name = "v" + std::to_string(i);
    const ValueId x = values[below(values.size())];
    switch (below(3)) {
      case 0: values.push_back(t.matmul(name, x, 1 + below(100))); break;
      case 1: values.push_back(t.act(name, x)); break;
      default: values.push_back(t.add(name, x, x)); break;
    }
  }
  t.finish();
  return t;
}

class RandomPlan : public testing::TestWithParam<std::uint32_t> {};

TEST_P(RandomPlan, Properties) {
  const TinyProgram t = random_program(GetParam());
  const Graph& graph = t.program.graphs[0];
  ASSERT_TRUE(t.program.check().ok());
  const std::uint64_t alignment = 1u << (GetParam() % 9);
  std::vector<Scratch> scratch;
  for (std::uint32_t i = 0; i < graph.ops.size(); i += 5) scratch.push_back({i, 100 + 36 * i});

  for (bool alias : {true, false}) {
    const Plan plan = plan_arena(t.program, graph, alignment, alias, scratch);
    std::uint64_t sum = 0, end = 0;
    ASSERT_EQ(plan.placements.size(), graph.ops.size() + scratch.size());
    for (std::size_t i = 0; i < plan.placements.size(); ++i) {
      const Placement& p = plan.placements[i];
      EXPECT_EQ(p.offset % alignment, 0u);
      sum += (p.bytes + alignment - 1) / alignment * alignment;
      end = std::max(end, p.offset + p.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        const Placement& q = plan.placements[j];
        if (!alias || live_together(p, q)) {
          EXPECT_FALSE(overlap(p, q)) << print(t.program, plan);
        }
      }
    }
    EXPECT_EQ(plan.arena_bytes, end);
    EXPECT_LE(plan.arena_bytes, sum);
    EXPECT_GE(plan.arena_bytes, peak(plan, graph.ops.size()));
  }
}

// An op's inputs and outputs are alive together, so they never share bytes.
TEST_P(RandomPlan, LifetimesCoverEveryUse) {
  const TinyProgram t = random_program(GetParam());
  const Graph& graph = t.program.graphs[0];
  const Plan plan = plan_arena(t.program, graph, 16, true);
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i)
    for (const auto* ids : {&graph.ops[i].in, &graph.ops[i].out})
      for (ValueId id : *ids) {
        if (id == kNoValue || t.program.values[id].storage != Storage::activation) continue;
        auto p = std::ranges::find(plan.placements, id, &Placement::value);
        ASSERT_NE(p, plan.placements.end());
        EXPECT_LE(p->first_op, i);
        EXPECT_GE(p->last_op, i);
        EXPECT_EQ(p->bytes, t.program.values[id].elems() * 4);
      }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomPlan, testing::Range(1u, 61u));

TEST(Plan, AliasingSavesMemoryInABlock) {
  const Program program = fuse(TinyProgram::block().program);
  const Plan shared = plan_arena(program, program.graphs[0], 64, true);
  const Plan apart = plan_arena(program, program.graphs[0], 64, false);
  EXPECT_LT(shared.arena_bytes, apart.arena_bytes / 2);
}

TEST(Plan, ScratchFollowsInOrder) {
  const Program program = fuse(TinyProgram::block().program);
  const std::vector<Scratch> scratch{{3, 1000}, {5, 10}};
  const Plan plan = plan_arena(program, program.graphs[0], 64, true, scratch);
  expect_golden("tests/graph/golden/block_plan.txt", print(program, plan));
  const std::size_t n = plan.placements.size();
  EXPECT_EQ(plan.placements[n - 2].bytes, 1000u);
  EXPECT_EQ(plan.placements[n - 2].first_op, 3u);
  EXPECT_EQ(plan.placements[n - 1].value, kNoValue);
  EXPECT_TRUE(
      std::ranges::is_sorted(plan.placements.begin(), plan.placements.end() - 2, {}, &Placement::first_op));
}

TEST(Plan, HalvesTakeWholeWords) {
  TinyProgram t;
  const ValueId x = t.value("x", {1, 33}, Storage::activation, DType::f16);
  const ValueId y = t.value("y", {1, 33}, Storage::activation, DType::f16);
  t.op(OpKind::activation, "act", {x}, {y});
  t.finish();
  for (const Placement& p : plan_arena(t.program, t.program.graphs[0], 64, true).placements)
    EXPECT_EQ(p.bytes, 68u);
}

TEST(Plan, EmptyGraph) {
  TinyProgram t;
  t.finish();
  EXPECT_EQ(plan_arena(t.program, t.program.graphs[0], 64, true).arena_bytes, 0u);
}

}  // namespace
}  // namespace tessera::test
