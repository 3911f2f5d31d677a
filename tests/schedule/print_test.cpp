#include "graph/fuse.h"
#include "schedule/limits.h"
#include "schedule/steps.h"
#include "support/golden.h"
#include "support/random_decoder.h"

namespace tessera::test {
namespace {

// Two layers with biases and a vocabulary that takes two bindings on the floor.
std::string printed(const Target& target) {
  RandomDecoder r;
  r.arch = "qwen2";
  r.vocab = 5'000;
  const DecoderProgram model = r.build(64, 32);
  const Program program = fuse(*model.program);
  const auto map = map_memory(program, target.limits);
  if (!map.ok()) return map.error().message;
  std::string text;
  for (const Graph& graph : program.graphs) {
    const auto scheduled = schedule(program, graph, *map, target, true);
    text += scheduled.ok() ? print(program, graph, *map, *scheduled) : scheduled.error().message;
  }
  return text;
}

TEST(PrintSchedule, Desktop) {
  expect_golden("tests/schedule/golden/desktop.txt", printed(desktop_target()));
}
TEST(PrintSchedule, Floor) { expect_golden("tests/schedule/golden/floor.txt", printed(floor_target())); }

TEST(PrintSchedule, IsTheSameEachTime) { EXPECT_EQ(printed(floor_target()), printed(floor_target())); }

}  // namespace
}  // namespace tessera::test
