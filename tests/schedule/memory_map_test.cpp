#include "schedule/memory_map.h"

#include "kernels/layout.h"
#include "schedule/limits.h"
#include "schedule/lookup.h"
#include "support/random_decoder.h"
#include "support/refusal.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;

std::vector<std::string> names(const MemoryMap& map) {
  std::vector<std::string> out;
  for (const BufferSpec& b : map.buffers) out.push_back(b.name);
  return out;
}

TEST(MapMemory, PacksWeightsAndGivesTheRestBuffers) {
  const Lookup l(10, 6, 5, DType::f32);
  const auto map = map_memory(l.program, floor_target().limits);
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_THAT(names(*map), ElementsAre("arena", "dummy", "params", "tokens", "state", "weights5", "y"));
  // Rows of 5 floats take 32 bytes; the second weight begins at the alignment.
  const Place &table = map->places[l.table], &weight = map->places[l.weight];
  EXPECT_EQ(table.buffer, weight.buffer);
  EXPECT_EQ(table.offset, 0u);
  EXPECT_EQ(table.row_bytes, 32u);
  EXPECT_EQ(table.bytes, 320u);
  EXPECT_EQ(weight.offset, 512u);
  EXPECT_EQ(weight.bytes, 192u);
  EXPECT_EQ(map->buffers[weight.buffer].bytes, 512u + 192u);
  for (const BufferSpec& b : map->buffers)  // the transfer lane writes weights
    EXPECT_EQ(b.lanes, b.name == "weights5" ? BufferLanes::both : BufferLanes::one) << b.name;
  EXPECT_EQ(map->buffers[map->places[l.tokens].buffer].memory, Memory::shared);
  EXPECT_EQ(map->buffers[map->places[l.y].buffer].memory, Memory::device);
  EXPECT_EQ(map->places[l.x].bytes, 0u);  // an activation: the plan's
  EXPECT_EQ(map->places[l.tokens].row_bytes, 0u);
}

TEST(MapMemory, StartsANewBufferWhereOneIsFull) {
  const Lookup l(1000, 1000, 64, DType::f32);  // 256,000 bytes each
  Limits limits = floor_target().limits;
  limits.max_buffer_size = 300'000;
  const auto map = map_memory(l.program, limits);
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_NE(map->places[l.table].buffer, map->places[l.weight].buffer);
  for (const BufferSpec& b : map->buffers) EXPECT_LE(b.bytes, limits.max_buffer_size) << b.name;
}

TEST(MapMemory, UnusedValuesHaveNoPlace) {
  Lookup l(10, 6, 5, DType::f32);
  const ValueId unused = l.add("unused", Storage::weight, DType::f32, {1 << 20, 1 << 20});
  const auto map = map_memory(l.program, floor_target().limits);
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_EQ(map->places[unused].bytes, 0u);
}

TEST(MapMemory, FusedProgramsKeepOnlyStackedWeights) {
  const DecoderProgram model = RandomDecoder{}.build();
  const auto map = map_memory(*model.program, floor_target().limits);
  ASSERT_TRUE(map.ok()) << map.error().message;
  std::uint64_t placed = 0, needed = 0;
  for (ValueId id = 0; id < model.program->values.size(); ++id) {
    const Value& v = model.program->values[id];
    if (v.storage != Storage::weight) continue;
    placed += map->places[id].bytes;
    needed += device_row_bytes(v.dtype, v.last_dim()) * (v.elems() / v.last_dim());
  }
  EXPECT_EQ(placed, needed);
}

TEST(MapMemory, NamesWhatDoesNotFit) {
  Limits limits = floor_target().limits;
  limits.max_buffer_size = 2u << 20;
  {
    const Lookup l(10'000, 6, 64, DType::f32);  // 2,560,000 bytes
    expect_refused(map_memory(l.program, limits), Code::unsupported,
                   {"'table'", "2560000 bytes", "max_buffer_size", "2097152"});
  }
  {
    const Lookup l(10, 300'000, 4, DType::f32);  // the output: 1,200,000 bytes in one binding
    expect_refused(map_memory(l.program, floor_target().limits), Code::unsupported,
                   {"'y'", "1200000 bytes", "max_storage_range", "1048576"});
  }
  {
    RandomDecoder r;
    r.context = 1u << 16;
    const DecoderProgram model = r.build(1u << 16);
    expect_refused(map_memory(*model.program, floor_target().limits), Code::unsupported,
                   {"rope_table", "max_storage_range"});
  }
}

}  // namespace
}  // namespace tessera::test
