// Faults planted in an op that fusion makes.
#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "graph/fuse.h"
#include "graph/tiny_program.h"

namespace tessera::test {
namespace {

constexpr std::uint32_t kHeadDim = 4;

// q, k and v of 4 + 2 + 2 heads in one product, rotated and appended.
struct Append : TinyProgram {
  Append() : TinyProgram(kHeadDim) {
    const std::uint64_t n = (kHeads + 2 * kKvHeads) * kHeadDim;
    OpAttrs attrs = head_attrs(kHeads, kKvHeads);
    attrs.rope_dims = kHeadDim;
    attrs.rope_adjacent = true;
    attrs.eps = 1e-5f;
    const ValueId x = embedding(), w = weight("qkv.weight", {n, kDim}), b = weight("qkv.bias", {n});
    const ValueId norm = weight("norm.weight", {kDim}), q = rows("q", kHeads * kHeadDim);
    op(OpKind::qkv_append, "qkv", {x, w, b, norm, table, state, k_cache, v_cache, kNoValue},
       {q, k_cache, v_cache}, attrs);
    finish();
  }
  Op& append() { return program.graphs[0].ops[1]; }
  OpAttrs& attrs() { return append().attrs; }
  Value& in(std::size_t i) { return program.values[append().in[i]]; }
};

struct Fault {
  const char* name;
  std::function<void(Append&)> plant;
  const char* message;  // a part of it
};

class AppendFault : public testing::TestWithParam<Fault> {};

TEST_P(AppendFault, IsNamed) {
  Append t;
  const auto sound = t.program.check();
  ASSERT_TRUE(sound.ok()) << sound.error().message;
  GetParam().plant(t);
  const auto result = t.program.check();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::internal);
  EXPECT_THAT(result.error().message, testing::HasSubstr(GetParam().message));
  EXPECT_THAT(result.error().message, testing::HasSubstr("op qkv (qkv_append): "));
}

std::vector<Fault> operands() {
  return {
      Fault{"inputs", [](Append& t) { t.append().in.pop_back(); },
            "has 8 inputs and 3 outputs, needs 9 and 3"},
      Fault{"no_weight", [](Append& t) { t.append().in[1] = kNoValue; }, "input 1 is absent"},
      Fault{"no_cache", [](Append& t) { t.append().in[7] = kNoValue; }, "input 7 is absent"},
      Fault{"no_q", [](Append& t) { t.append().out[0] = kNoValue; }, "output 0 is absent"},
      Fault{"weight_rows",
            [](Append& t) {
              t.in(1).shape = {28, 8};
            },
            "value qkv.weight is (28,8), expected (32,8)"},
      Fault{"weight_k",
            [](Append& t) {
              t.in(1).shape = {32, 4};
            },
            "value qkv.weight is (32,4), expected (32,8)"},
      Fault{"weight_rank", [](Append& t) { t.in(1).shape = {256}; },
            "value qkv.weight is (256), expected 2 dimensions"},
      Fault{"weight_storage", [](Append& t) { t.in(1).storage = Storage::input; },
            "value qkv.weight must be a weight or a constant"},
      Fault{"bias", [](Append& t) { t.in(2).shape = {16}; }, "value qkv.bias is (16), expected (32)"},
      Fault{"norm", [](Append& t) { t.in(3).shape = {32}; }, "value norm.weight is (32), expected (8)"},
      Fault{"table", [](Append& t) { t.append().in[4] = t.append().in[1]; },
            "value qkv.weight is (32,8), expected 3 dimensions"},
      Fault{"state", [](Append& t) { t.append().in[5] = t.sampler; },
            "value sampler is not the program's state"},
      Fault{"cache_type", [](Append& t) { t.in(7).dtype = DType::bf16; },
            "value v_cache is BF16, expected F16"},
      Fault{"cache_heads",
            [](Append& t) {
              t.in(6).shape = {4, 32, 4};
            },
            "value k_cache is (4,32,4), expected (2,32,4)"},
      Fault{"cache_storage", [](Append& t) { t.in(6).storage = Storage::input; },
            "value k_cache must be a cache of F32, F16, BF16 or Q8_0"},
      Fault{"in_place", [](Append& t) { std::swap(t.append().out[1], t.append().out[2]); },
            "value v_cache must be written in place"},
      Fault{"q_shape",
            [](Append& t) {
              t.program.values[t.append().out[0]].shape = {4, 8};
            },
            "value q is (rows,8), expected (4,16)"},
      Fault{"q_type", [](Append& t) { t.program.values[t.append().out[0]].dtype = DType::f16; },
            "value q is F16, expected F32"},
      Fault{"q_rows", [](Append& t) { t.program.values[t.append().out[0]].dynamic_rows = false; },
            "values x and q do not both have dynamic rows"},
  };
}

std::vector<Fault> attributes() {
  return {
      Fault{"no_heads", [](Append& t) { t.attrs().heads = 0; }, "heads is 0"},
      Fault{"no_kv_heads", [](Append& t) { t.attrs().kv_heads = 0; }, "kv_heads is 0"},
      Fault{"no_head_dim", [](Append& t) { t.attrs().head_dim = 0; }, "head_dim is 0"},
      Fault{"rope_dims", [](Append& t) { t.attrs().rope_dims = 8; }, "at most head_dim"},
      Fault{"half_a_four", [](Append& t) { t.attrs().rope_dims = 2; }, "must be multiples of 4"},
      Fault{"v_dim", [](Append& t) { t.attrs().attention.v_dim = 6; }, "must be multiples of 4"},
      Fault{"heads", [](Append& t) { t.attrs().heads = 6; }, "value qkv.weight is (32,8), expected (40,8)"},
      Fault{"eps", [](Append& t) { t.attrs().eps = std::numeric_limits<float>::quiet_NaN(); },
            "eps must not be negative"},
      Fault{"by_row", [](Append& t) { t.attrs().table_by_row = true; }, "table_by_row is not for qkv_append"},
      Fault{"heads_first", [](Append& t) { t.attrs().attention.heads_first = true; },
            "qkv_append takes rows only"},
      Fault{"strides",
            [](Append& t) {
              t.attrs().attention.q_strides = {1, 2, 3, 4};
            },
            "qkv_append takes rows only"},
      Fault{"no_batch", [](Append& t) { t.attrs().attention.batch = 0; }, "batch is 0"},
      Fault{"block_size", [](Append& t) { t.attrs().attention.block_size = 16; },
            "has a block_size but no block table"},
      Fault{"ring",
            [](Append& t) {
              t.attrs().attention.ring = true;
              t.in(6).shape[1] = t.in(7).shape[1] = 2;
            },
            "value k_cache is a ring of 2 keys, too few for 4 rows"},
  };
}

const auto kNamed = [](const auto& param) { return std::string(param.param.name); };
INSTANTIATE_TEST_SUITE_P(Operands, AppendFault, testing::ValuesIn(operands()), kNamed);
INSTANTIATE_TEST_SUITE_P(Attributes, AppendFault, testing::ValuesIn(attributes()), kNamed);

TEST(CheckAppend, RefusesBlockCaches) {
  TinyProgram t(32);
  t.attention(t.norm("norm", t.embedding()));
  Program program = fuse(t.finish());
  program.values[t.k_cache].dtype = program.values[t.v_cache].dtype = DType::q8_0;
  EXPECT_THAT(program.check().error().message, testing::HasSubstr("its caches must not be Q8_0"));
}

TEST(CheckAppend, RefusesStacksInAnotherOrder) {
  for (const bool adjacent : {false, true}) {
    TinyProgram t(8);
    t.rope_adjacent = adjacent;
    t.attention(t.norm("norm", t.embedding()));
    Program program = fuse(t.finish());
    ASSERT_TRUE(program.check().ok());
    for (Op& op : program.graphs[0].ops)
      if (op.kind == OpKind::qkv_append) op.attrs.rope_adjacent = !adjacent;
    EXPECT_THAT(program.check().error().message,
                testing::HasSubstr("rows of value attn_qkv.weight are not in the order of their pairs"));
  }
}

}  // namespace
}  // namespace tessera::test
