// Ops of several dispatches with scratch between them, through schedule(): what lies in the arena, and
// barriers.
#include <algorithm>
#include <span>

#include "graph/fuse.h"
#include "models/builder.h"
#include "schedule/limits.h"
#include "schedule/steps.h"
#include "support/must.h"
#include "support/random_decoder.h"

namespace tessera::test {
namespace {

bool writes(Access access) { return access == Access::write || access == Access::read_write; }

// What a word of the arena holds: a value, or a scratch of an op.
struct Content {
  ValueId value = kNoValue;
  std::uint32_t op = 0;
  std::uint64_t number = 0;
  bool operator==(const Content&) const = default;
};

Content content_of(const Step& step, std::size_t binding) {
  const Operand& operand = step.operands[binding];
  if (operand.value != kScratch) return {operand.value};
  return {kScratch, step.op, operand.first_row};
}

// Runs the steps on an arena of contents instead of numbers: each word that a step reads must hold what it
// reads, by whomever wrote there last.
void expect_arena_holds(const Graph& graph, const ScheduledGraph& scheduled) {
  std::vector<Content> words(scheduled.plan.arena_bytes / 4 + 1);
  const auto each = [&](const Step& step, auto use) {
    for (std::size_t b = 0; b < step.ranges.size(); ++b)
      if (const Range& r = step.ranges[b]; r.buffer == kArena && r.access != Access::none)
        use(r, std::span(words).subspan(r.offset / 4, r.bytes / 4), content_of(step, b));
  };
  for (const Step& step : scheduled.steps) {
    each(step, [&](const Range& r, std::span<const Content> at, const Content& content) {
      if (r.access != Access::read) return;
      EXPECT_EQ(std::ranges::count(at, content), std::ssize(at))
          << graph.name << " " << graph.ops[step.op].name << " reads value " << content.value << " at "
          << r.offset;
    });
    each(step, [&](const Range& r, std::span<Content> at, const Content& content) {
      if (writes(r.access)) std::ranges::fill(at, content);
    });
  }
}

// Two steps of which one writes what the other touches have a barrier between them.
void expect_barriers(const Graph& graph, const std::vector<Step>& steps) {
  const auto meet = [](const Step& a, const Step& b) {
    for (const Range& x : a.ranges)
      for (const Range& y : b.ranges)
        if (x.access != Access::none && y.access != Access::none && (writes(x.access) || writes(y.access)) &&
            x.overlaps(y))
          return true;
    return false;
  };
  for (std::size_t to = 0; to < steps.size(); ++to)
    for (std::size_t from = to; from-- > 0 && !steps[from + 1].barrier_before;)
      EXPECT_FALSE(meet(steps[from], steps[to]))
          << graph.name << " " << from << " and " << to << ", " << graph.ops[steps[to].op].name;
}

// Pairs of neighbours of one op, the first of which writes a scratch that the second reads.
std::uint32_t pairs_of(const std::vector<Step>& steps, KernelId first, KernelId second) {
  std::uint32_t pairs = 0;
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    const Step &from = steps[i], &to = steps[i + 1];
    if (from.dispatch.kernel != first || to.dispatch.kernel != second || from.op != to.op) continue;
    EXPECT_TRUE(to.barrier_before);
    for (std::size_t a = 0; a < from.ranges.size(); ++a)
      for (std::size_t b = 0; b < to.ranges.size(); ++b)
        if (from.operands[a].value == kScratch && content_of(from, a) == content_of(to, b) &&
            from.ranges[a].access == Access::write && to.ranges[b].access == Access::read) {
          EXPECT_EQ(from.ranges[a].offset, to.ranges[b].offset);
          EXPECT_EQ(from.ranges[a].bytes, to.ranges[b].bytes);
          ++pairs;
        }
  }
  return pairs;
}

void check(const Program& program, const Target& target, KernelId first, KernelId second,
           std::uint32_t pairs) {
  const MemoryMap map = must(map_memory(program, target.limits));
  for (const bool alias : {true, false}) {
    const Graph& graph = program.graphs[0];
    const ScheduledGraph scheduled = must(schedule(program, graph, map, target, alias));
    EXPECT_EQ(pairs_of(scheduled.steps, first, second), pairs);
    expect_arena_holds(graph, scheduled);
    expect_barriers(graph, scheduled.steps);
  }
}

// Three blocks of 32 to 1056 to 32 with a residual each, and a last sum with the rows before all of them.
Program blocks(DType type, Precision precision) {
  Program program;
  const auto value = [&](const char* name, Storage storage, DType dtype, std::vector<std::uint64_t> shape) {
    return add_value(program, name, storage, dtype, std::move(shape));
  };
  const ValueId tokens = value("tokens", Storage::input, DType::u32, {65});
  program.state = value("state", Storage::input, DType::u32, {8});
  GraphBuilder g(program, "blocks", 20, true);
  const ValueId first = g.embedding("x", tokens, value("table", Storage::weight, DType::f32, {9, 32}));
  ValueId x = first;
  for (int i = 0; i < 3; ++i) {
    const ValueId h = g.matmul("up", x, value("up.weight", Storage::weight, type, {1056, 32}));
    const ValueId down = value("down.weight", Storage::weight, type, {32, 1056});
    x = g.add("sum", x, g.matmul("down", g.activation("hidden", h, Activation::relu), down));
  }
  g.add("last", x, first);
  g.finish();
  set_precision(program, precision);
  return fuse(program);
}

TEST(SplitAndMerge, FeedForward) {
  Target target = desktop_target();
  target.form = "feed_forward_fused";
  check(blocks(DType::f32, Precision::f32), target, KernelId::feed_forward, KernelId::feed_forward_merge, 3);
}

// The hidden activation, and x and it in blocks of whole numbers.
TEST(SplitAndMerge, ProductsOfABlock) {
  Target target = desktop_target();
  target.caps.int_dot = target.caps.int_dot_fast = true;
  check(blocks(DType::q8_0, Precision::mixed), target, KernelId::quantise_rows, KernelId::matmul_dot, 6);
}

TEST(SplitAndMerge, Attention) {
  const DecoderProgram model = RandomDecoder{.context = 2'048}.build();
  Program program = fuse(*model.program);
  program.graphs = {program.graphs[model.decode]};
  check(program, desktop_target(), KernelId::attention_split, KernelId::attention_merge, 2);
}

}  // namespace
}  // namespace tessera::test
