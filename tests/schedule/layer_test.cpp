// What a decoder layer costs: dispatches, barriers and bytes, as the schedule has them.
#include <cstdio>

#include "graph/fuse.h"
#include "models/builder.h"
#include "schedule/limits.h"
#include "schedule/steps.h"
#include "support/golden.h"

namespace tessera::test {
namespace {

// Layers of a Llama of 8 thousand million parameters, Q4_0, f16 caches.
class Layers {
 public:
  Layers(std::uint32_t layers, std::uint32_t rows) {
    const ValueId state = program.state = value("state", Storage::input, DType::u32, {8});
    const ValueId table = value("rope_table", Storage::constant, DType::f32, {kContext, kHeadDim / 2, 2});
    program.values[table].data = std::make_shared<const std::vector<float>>(std::size_t{kContext} * kHeadDim);
    ValueId x = value("x", Storage::output, DType::f32, {rows, kDim});
    program.values[x].dynamic_rows = rows > 1;
    GraphBuilder g(program, "layers", rows, rows > 1);
    for (std::uint32_t i = 0; i < layers; ++i) x = layer(g, x, state, table, rows);
    g.finish();
  }
  Program program;
  double weight_bytes = 0;

 private:
  static constexpr std::uint32_t kDim = 4096, kHidden = 14336, kHeads = 32, kKvHeads = 8, kHeadDim = 128,
                                 kContext = 4096;

  ValueId value(const std::string& name, Storage storage, DType type, std::vector<std::uint64_t> shape) {
    return add_value(program, name, storage, type, std::move(shape));
  }
  ValueId matrix(std::uint64_t n, std::uint64_t k) {
    weight_bytes += static_cast<double>(n * k) * 18 / 32;
    return value("matrix", Storage::weight, DType::q4_0, {n, k});
  }
  ValueId vector() { return value("vector", Storage::weight, DType::f32, {kDim}); }

  ValueId layer(GraphBuilder& g, ValueId x, ValueId state, ValueId table, std::uint32_t rows) {
    const std::uint64_t kv = kKvHeads * kHeadDim;
    OpAttrs heads;
    heads.head_dim = heads.rope_dims = kHeadDim;
    heads.heads = kHeads;
    OpAttrs append;
    append.head_dim = kHeadDim;
    append.kv_heads = kKvHeads;
    const ValueId k_cache = value("k", Storage::cache, DType::f16, {kKvHeads, kContext, kHeadDim});
    const ValueId v_cache = value("v", Storage::cache, DType::f16, {kKvHeads, kContext, kHeadDim});
    ValueId h = g.rms_norm("attn_norm", x, vector(), 1e-5f);
    const ValueId q = g.rope("q", g.matmul("attn_q", h, matrix(kDim, kDim)), table, heads);
    heads.heads = kKvHeads;
    g.kv_append("k", g.rope("k", g.matmul("attn_k", h, matrix(kv, kDim)), table, heads), k_cache, append);
    g.kv_append("v", g.matmul("attn_v", h, matrix(kv, kDim)), v_cache, append);
    AttentionAttrs a;
    a.q_len = rows;
    a.kv_len = kContext;
    a.heads = kHeads;
    a.kv_heads = kKvHeads;
    a.head_dim = a.v_dim = kHeadDim;
    a.scale = 0.1f;
    a.causal = Causal::bottom_right;
    a.cache = true;
    const ValueId o = g.attention("attn", q, k_cache, v_cache, a, {.state = state});
    x = g.add("attn_sum", x, g.matmul("attn_output", o, matrix(kDim, kDim)));
    h = g.rms_norm("ffn_norm", x, vector(), 1e-5f);
    const ValueId gate = g.matmul("ffn_gate", h, matrix(kHidden, kDim));
    const ValueId up = g.matmul("ffn_up", h, matrix(kHidden, kDim));
    h = g.glu("ffn_hidden", gate, up, Activation::silu);
    return g.add("ffn_sum", x, g.matmul("ffn_down", h, matrix(kDim, kHidden)));
  }
};

struct Cost {
  double dispatches = 0, barriers = 0, bytes = 0;
};
Cost cost(std::uint32_t layers, std::uint32_t rows, const Fusion* fusion) {
  Layers l(layers, rows);
  if (fusion) l.program = fuse(l.program, *fusion);
  const Target target = desktop_target();
  const auto map = map_memory(l.program, target.limits);
  EXPECT_TRUE(map.ok()) << map.error().message;
  const auto scheduled = schedule(l.program, l.program.graphs[0], *map, target, true);
  EXPECT_TRUE(scheduled.ok()) << scheduled.error().message;
  Cost out{.bytes = -l.weight_bytes};
  for (const Step& step : scheduled->steps) {
    ++out.dispatches;
    out.barriers += step.barrier_before;
    out.bytes += step.dispatch.bytes;
  }
  return out;
}

struct Form {
  const char* name;
  const Fusion* fusion;
};

// By layer: what the third adds to two.
TEST(Layer, CostsWhatTheGoldenSays) {
  const Fusion none{.sums = false, .norms = false, .heads = false}, all;
  const Fusion sums{.norms = false, .heads = false}, norms{.heads = false};
  std::string text;
  for (const std::uint32_t rows : {1u, 512u})
    for (const Form& form : {Form{"every op", nullptr}, Form{"products apart", &none}, Form{"+ sums", &sums},
                             Form{"+ norms", &norms}, Form{"+ heads", &all}}) {
      const Cost two = cost(2, rows, form.fusion), three = cost(3, rows, form.fusion);
      char line[160];
      std::snprintf(line, sizeof line,
                    "%3u rows, %-14s: %2.0f dispatches, %2.0f barriers, %9.0f bytes beside weights\n", rows,
                    form.name, three.dispatches - two.dispatches, three.barriers - two.barriers,
                    three.bytes - two.bytes);
      text += line;
    }
  expect_golden("tests/schedule/golden/layer.txt", text);
}

}  // namespace
}  // namespace tessera::test
