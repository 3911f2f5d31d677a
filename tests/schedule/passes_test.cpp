// lower, choose_kernels and bind_arena.
#include "graph/fuse.h"
#include "models/builder.h"
#include "schedule/limits.h"
#include "schedule/lookup.h"
#include "schedule/steps.h"
#include "support/must.h"
#include "support/random_decoder.h"
#include "support/refusal.h"

namespace tessera::test {
namespace {

std::vector<Call> lowered(const Lookup& l, const Limits& limits) {
  return must(lower(l.program, l.graph(), must(map_memory(l.program, limits)), limits));
}

TEST(Lower, WholeWeightsAreOneCall) {
  const Lookup l(10, 6, 5, DType::f32);
  const auto calls = lowered(l, floor_target().limits);
  ASSERT_EQ(calls.size(), 2u);
  const auto& lookup = std::get<EmbeddingShape>(calls[0].shape);
  EXPECT_EQ(lookup.count, 10u);
  EXPECT_EQ(lookup.dim, 5u);
  const auto& product = std::get<MatmulShape>(calls[1].shape);
  EXPECT_EQ(product.n, 6u);
  EXPECT_EQ(product.k, 5u);
  EXPECT_EQ(product.y_stride, 6u);
  EXPECT_EQ(calls[1].operands[1].value, l.weight);
  EXPECT_EQ(calls[1].operands[2].value, kNoValue);
}

// Rows of odd sizes: each window begins at an offset that a binding may have, and together they cover every
// row once.
TEST(Lower, LargeWeightsAreCutByRows) {
  for (const auto& [type, k] :
       {std::pair{DType::f32, 67u}, {DType::f16, 69u}, {DType::q8_0, 96u}, {DType::q4_0, 32u}}) {
    const Limits limits = floor_target().limits;
    const Lookup l(40'001, 50'003, k, type);
    const MemoryMap map = must(map_memory(l.program, limits));
    const auto calls = must(lower(l.program, l.graph(), map, limits));
    std::uint64_t next_id = 0, next_column = 0;
    for (const Call& call : calls) {
      const bool lookup = call.op == 0;
      const Operand& operand = lookup ? call.operands[2] : call.operands[1];
      const Place& place = map.places[operand.value];
      const std::uint64_t offset = place.offset + operand.first_row * place.row_bytes;
      EXPECT_EQ(offset % limits.min_storage_alignment, 0u);
      EXPECT_LE(operand.rows * place.row_bytes, limits.max_storage_range);
      EXPECT_GT((operand.rows + 256) * place.row_bytes,
                std::min(limits.max_storage_range, (place.bytes - operand.first_row * place.row_bytes)));
      std::uint64_t& next = lookup ? next_id : next_column;
      EXPECT_EQ(operand.first_row, next);
      if (lookup) {
        EXPECT_EQ(std::get<EmbeddingShape>(call.shape).first, next);
        EXPECT_EQ(std::get<EmbeddingShape>(call.shape).count, operand.rows);
      } else {
        EXPECT_EQ(std::get<MatmulShape>(call.shape).first, next);
        EXPECT_EQ(std::get<MatmulShape>(call.shape).n, operand.rows);
        EXPECT_EQ(std::get<MatmulShape>(call.shape).y_stride, 50'003u);
      }
      next += operand.rows;
    }
    EXPECT_EQ(next_id, 40'001u);
    EXPECT_EQ(next_column, 50'003u);
    EXPECT_GE(calls.size(), 4u) << info(type).name;
  }
}

// q, k and v of 40 + 4 + 4 heads of 64 from rows of `k` elements, in one op.
Program heads_program(DType type, std::uint64_t k) {
  Program program;
  const auto value = [&](const char* name, Storage storage, DType dtype, std::vector<std::uint64_t> shape) {
    return add_value(program, name, storage, dtype, std::move(shape));
  };
  const ValueId state = program.state = value("state", Storage::input, DType::u32, {8});
  const ValueId table = value("rope_table", Storage::constant, DType::f32, {16, 32, 2});
  program.values[table].data = std::make_shared<const std::vector<float>>(16 * 64);
  const ValueId k_cache = value("k_cache", Storage::cache, DType::f16, {4, 16, 64});
  const ValueId v_cache = value("v_cache", Storage::cache, DType::f16, {4, 16, 64});
  const ValueId x = value("x", Storage::output, DType::f32, {1, k});
  const ValueId q_weight = value("q.weight", Storage::weight, type, {2560, k}),
                k_weight = value("k.weight", Storage::weight, type, {256, k}),
                v_weight = value("v.weight", Storage::weight, type, {256, k});
  OpAttrs attrs, append;
  attrs.head_dim = attrs.rope_dims = append.head_dim = 64;
  append.kv_heads = 4;
  GraphBuilder g(program, "heads", 1, false);
  attrs.heads = 40;
  const ValueId q = g.rope("q_rope", g.matmul("q", x, q_weight), table, attrs);
  attrs.heads = 4;
  g.kv_append("k_append", g.rope("k_rope", g.matmul("k", x, k_weight), table, attrs), k_cache, append);
  g.kv_append("v_append", g.matmul("v", x, v_weight), v_cache, append);
  AttentionAttrs a;
  a.q_len = 1;
  a.kv_len = 16;
  a.heads = 40;
  a.kv_heads = 4;
  a.head_dim = a.v_dim = 64;
  a.causal = Causal::bottom_right;
  a.cache = true;
  g.attention("attn", q, k_cache, v_cache, a, {.state = state});
  g.finish();
  return fuse(program);
}

// A binding may begin at every row or every second one, and has room for a number of rows that is no multiple
// of 4; the windows are fours of rows all the same.
TEST(Lower, HeadsAreCutByFoursOfRows) {
  struct Odd {
    DType type;
    std::uint64_t k, row_bytes;
    std::uint32_t alignment;
    std::vector<std::uint64_t> firsts;
  };
  for (const Odd& odd : {Odd{DType::f32, 192, 768, 256, {0, 1364, 2728}},  // 1365 fit
                         Odd{DType::f32, 96, 384, 256, {0, 2728}},         // 2730
                         Odd{DType::q8_0, 544, 592, 16, {0, 1768}}}) {     // 1771
    Limits limits = floor_target().limits;
    limits.min_storage_alignment = odd.alignment;
    const Program program = heads_program(odd.type, odd.k);
    const auto sound = program.check();
    ASSERT_TRUE(sound.ok()) << sound.error().message;
    const MemoryMap map = must(map_memory(program, limits));
    const auto calls = must(lower(program, program.graphs[0], map, limits));
    std::vector<std::uint64_t> firsts;
    std::uint64_t next = 0;
    for (const Call& call : calls) {
      const auto* shape = std::get_if<QkvShape>(&call.shape);
      if (!shape) continue;
      const Operand& weight = call.operands[1];
      const Place& place = map.places[weight.value];
      EXPECT_EQ(place.row_bytes, odd.row_bytes);
      EXPECT_EQ((place.offset + weight.first_row * place.row_bytes) % limits.min_storage_alignment, 0u);
      EXPECT_LE(weight.rows * place.row_bytes, limits.max_storage_range);
      EXPECT_EQ(weight.first_row, next);
      EXPECT_EQ(shape->product.first, next);
      EXPECT_EQ(shape->product.n, weight.rows);
      EXPECT_EQ(weight.rows % 4, 0u);
      firsts.push_back(next);
      next += weight.rows;
    }
    EXPECT_EQ(next, 3072u);
    EXPECT_EQ(firsts, odd.firsts) << info(odd.type).name << " " << odd.k;
    Target target = floor_target();
    target.limits = limits;
    EXPECT_TRUE(choose_kernels(calls, target).ok());
  }
}

TEST(Lower, RefusesARowThatNoAlignedWindowHolds) {
  Limits limits = floor_target().limits;
  limits.min_storage_alignment = 4096;
  const Lookup l(200, 200, 4'097, DType::f32);  // 64 KiB + 16 bytes a row: aligned every 256 rows
  const MemoryMap map = must(map_memory(l.program, limits));
  expect_refused(lower(l.program, l.graph(), map, limits), Code::unsupported, {"'table'", "1048576"});
}

TEST(ChooseKernels, GridsOfAHugeVocabularyStayInTheLimits) {
  for (const std::uint32_t most : {65'535u, 1'000u})
    for (const std::uint32_t rows : {1u, 64u})
      for (Target target : {floor_target(), desktop_target()}) {
        target.limits.max_storage_range = 128u << 20;
        target.limits.max_buffer_size = 1u << 30;
        target.limits.max_group_count = {most, most, most};
        const Lookup l(131'072, 131'072, 64, DType::f16, rows);
        const auto calls = lowered(l, target.limits);
        const auto scheduled = must(choose_kernels(calls, target));
        ASSERT_EQ(scheduled.steps.size(), 2u);
        for (const Step& step : scheduled.steps)
          for (std::size_t d = 0; d < 3; ++d) EXPECT_LE(step.dispatch.grid[d], most);
        const auto& grid = scheduled.steps[1].dispatch.grid;
        const Dispatch& d = scheduled.steps[1].dispatch;
        const std::uint64_t groups = std::uint64_t{grid[0]} * grid[1] * grid[2];
        // Columns a workgroup: constant 4 of the matrix-vector kernels, 5 of the tiles (of constant 4 rows).
        const bool tiles = d.kernel == KernelId::tile;
        const std::uint64_t per_group = tiles ? std::uint64_t{d.spec[4]} * d.spec[5] : d.spec[4];
        EXPECT_GE(groups * per_group, tiles ? std::uint64_t{131'072} * rows : 131'072u);
      }
}

TEST(ChooseKernels, SplitAttentionHasScratchBetweenItsSteps) {
  RandomDecoder r;
  r.context = 2'048;
  const DecoderProgram model = r.build();
  const Target target = desktop_target();
  const Graph& graph = model.program->graphs[model.decode];
  const MemoryMap map = must(map_memory(*model.program, target.limits));
  const auto calls = must(lower(*model.program, graph, map, target.limits));
  const auto scheduled = must(choose_kernels(calls, target));
  std::uint32_t pairs = 0;
  for (std::size_t i = 0; i + 1 < scheduled.steps.size(); ++i) {
    const Step &split = scheduled.steps[i], &merge = scheduled.steps[i + 1];
    if (split.dispatch.kernel != KernelId::attention_split || merge.op != split.op) continue;
    ++pairs;
    EXPECT_EQ(merge.dispatch.kernel, KernelId::attention_merge);
    EXPECT_EQ(split.operands[5].value, kScratch);
    EXPECT_EQ(merge.operands[0].value, kScratch);
    EXPECT_EQ(merge.operands[5].value, graph.ops[merge.op].out[0]);
  }
  EXPECT_EQ(pairs, 2u);
}

ScheduledGraph bound(const Program& program, const Graph& graph, const Target& target, bool alias) {
  const MemoryMap map = must(map_memory(program, target.limits));
  auto scheduled = must(choose_kernels(must(lower(program, graph, map, target.limits)), target));
  const auto done = bind_arena(program, graph, map, target.limits, alias, scheduled);
  EXPECT_TRUE(done.ok()) << done.error().message;
  return scheduled;
}

TEST(BindArena, EveryRangeIsAlignedAndInsideItsBuffer) {
  const DecoderProgram model = RandomDecoder{.vocab = 5'000}.build(64, 16);
  const Program program = fuse(*model.program);
  for (const Target& target : {floor_target(), desktop_target()})
    for (const bool alias : {false, true})
      for (const Graph& graph : program.graphs) {
        const MemoryMap map = must(map_memory(program, target.limits));
        const ScheduledGraph s = bound(program, graph, target, alias);
        for (const Step& step : s.steps) {
          const Kernel& k = kernel(step.dispatch.kernel);
          ASSERT_EQ(step.ranges.size(), k.binding_count);
          for (std::size_t b = 0; b < step.ranges.size(); ++b) {
            const Range& r = step.ranges[b];
            const std::uint64_t size = r.buffer == kArena    ? s.plan.arena_bytes
                                       : r.buffer == kDummy  ? s.dummy_bytes
                                       : r.buffer == kParams ? s.params.size() * 4
                                                             : map.buffers[r.buffer].bytes;
            EXPECT_EQ(r.offset % target.limits.min_storage_alignment, 0u);
            EXPECT_GT(r.bytes, 0u);
            EXPECT_LE(r.bytes, target.limits.max_storage_range);
            EXPECT_LE(r.offset + r.bytes, size) << graph.name << " " << graph.ops[step.op].name << " " << b;
            EXPECT_EQ(r.access, r.buffer == kDummy ? Access::none : k.access[b]);
          }
        }
      }
}

// A step never writes what it reads or writes elsewhere: kernels are not made for it.
TEST(BindArena, NoStepWritesItsOtherOperands) {
  const DecoderProgram model = RandomDecoder{}.build(64, 16);
  const Program program = fuse(*model.program);
  for (const Graph& graph : program.graphs)
    for (const Step& step : bound(program, graph, desktop_target(), true).steps)
      for (std::size_t a = 0; a < step.ranges.size(); ++a)
        for (std::size_t b = 0; b < step.ranges.size(); ++b) {
          const Range &x = step.ranges[a], &y = step.ranges[b];
          const bool writes = x.access == Access::write || x.access == Access::read_write;
          if (a == b || !writes || y.access == Access::none) continue;
          EXPECT_FALSE(x.overlaps(y)) << graph.ops[step.op].name << " bindings " << a << " and " << b;
        }
}

TEST(BindArena, AliasSavesMemory) {
  const DecoderProgram model = RandomDecoder{}.build();
  const Graph& graph = model.program->graphs[model.prefill];
  EXPECT_LT(bound(*model.program, graph, floor_target(), true).plan.arena_bytes,
            bound(*model.program, graph, floor_target(), false).plan.arena_bytes / 2);
}

TEST(BindArena, RefusesAnArenaOrAnOperandThatIsTooLarge) {
  RandomDecoder r;
  r.context = 4'096;
  const DecoderProgram model = r.build(4'096, 4'096);
  Target target = floor_target();  // 4,096 rows of 96 floats: 1.5 MiB
  target.limits.max_storage_range = 2u << 20;
  const Graph& graph = model.program->graphs[model.prefill];
  const MemoryMap map = must(map_memory(*model.program, target.limits));
  auto scheduled = must(choose_kernels(must(lower(*model.program, graph, map, target.limits)), target));
  Limits small = target.limits;
  small.max_storage_range = 1u << 20;
  expect_refused(bind_arena(*model.program, graph, map, small, true, scheduled), Code::unsupported,
                 {"blk.0.", "1048576", "smaller chunk"});
  small.max_buffer_size = 2u << 20;
  expect_refused(bind_arena(*model.program, graph, map, small, false, scheduled), Code::unsupported,
                 {"'prefill'", "max_buffer_size", "smaller chunk"});
}

}  // namespace
}  // namespace tessera::test
