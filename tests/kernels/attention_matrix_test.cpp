// Attention on matrix units: every form that the device has, against plain loops in double.
#include <gmock/gmock.h>

#include <algorithm>
#include <bit>

#include "kernels/attention_run.h"

namespace tessera::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

AttentionCase case_of(std::uint32_t batch, std::uint32_t rows, std::uint32_t keys, std::uint32_t heads,
                      std::uint32_t kv_heads, std::uint32_t dim, std::uint32_t v_dim) {
  AttentionCase c;
  AttentionAttrs& a = c.shape.attrs;
  a.batch = batch;
  a.q_len = rows;
  a.kv_len = keys;
  a.heads = heads;
  a.kv_heads = kv_heads;
  a.head_dim = dim;
  a.v_dim = v_dim;
  a.scale = 1 / std::sqrt(static_cast<float>(dim));
  a.precision = Precision::mixed;
  return c;
}

// Strides of a mask or bias of the whole (batch, heads, rows, keys).
Strides whole(const AttentionAttrs& a) {
  return {std::uint64_t{a.heads} * a.q_len * a.kv_len, std::uint64_t{a.q_len} * a.kv_len, a.kv_len, 1};
}

std::string_view form_of(const AttentionChoice& choice) { return kernel(choice.dispatches[0].kernel).name; }

bool is_matrix(const AttentionChoice& choice) { return form_of(choice).starts_with("attention_coopmat"); }

enum class Tier { fixed, flexible };

// Every test runs on the device without coopmat2, and as it is.
class AttentionMatrixGpu : public AttentionGpu, public ::testing::WithParamInterface<Tier> {
 protected:
  void SetUp() override {
    AttentionGpu::SetUp();
    if (device_ && GetParam() == Tier::fixed && device_->report().caps.coopmat2) device_ = lowered({});
  }

  std::unique_ptr<Device> lowered(std::vector<CapOverride> caps) {
    for (CapOverride& cap : take(caps_from_env())) caps.push_back(std::move(cap));
    if (GetParam() == Tier::fixed && device_->report().caps.coopmat2) caps.push_back({"coopmat2", 0});
    return make_device(std::move(caps));
  }

  // Where no matrix form takes it, there are reasons.
  void check_matrix(const AttentionCase& c, std::uint32_t slices = 1) {
    const auto choice = choose_attention(c.shape, target_of(*device_));
    ASSERT_TRUE(choice) << describe(c) << ": " << choice.error().message;
    if (!is_matrix(*choice)) {
      ASSERT_GE(choice->refused.size(), 2u) << describe(c);  // and that for software drivers
    }
    for (const Refusal& r : choice->refused) EXPECT_NE(r.reason, "") << describe(c);
    check(c, slices);
  }
};
INSTANTIATE_TEST_SUITE_P(Tiers, AttentionMatrixGpu, ::testing::Values(Tier::fixed, Tier::flexible),
                         [](const auto& tier) { return tier.param == Tier::fixed ? "Fixed" : "Flexible"; });

// Software drivers may refuse attention_keys too.
bool of_matrices(const Refusal& r) { return r.tier.starts_with("attention_coopmat"); }
std::ptrdiff_t matrix_refusals(const AttentionChoice& choice) {
  return std::ranges::count_if(choice.refused, of_matrices);
}

TEST_P(AttentionMatrixGpu, EveryDeviceHasATierOrAReason) {
  const auto choice = choose_attention(case_of(1, 64, 64, 2, 2, 64, 64).shape, target_of(*device_));
  ASSERT_TRUE(choice);
  const Target target = target_of(*device_);
  const auto has = [&](bool flexible) {
    for (const MatrixShape& m : target.matrices.shapes)
      if (m.flexible == flexible && m.a == MatrixType::f16 && m.c == MatrixType::f32)
        return target.caps.fp16 && target.caps.subgroup_size_control && target.matrices.emulated.empty();
    return false;
  };
  if (has(true))
    EXPECT_EQ(form_of(*choice), "attention_coopmat2");
  else if (has(false))
    EXPECT_THAT(std::string(form_of(*choice)), StartsWith("attention_coopmat"));
  else
    EXPECT_FALSE(is_matrix(*choice));
  ASSERT_EQ(matrix_refusals(*choice), has(true) ? 0 : has(false) ? 1 : 2);
  for (const Refusal& r : choice->refused) EXPECT_NE(r.reason, "") << r.tier;
}

TEST_P(AttentionMatrixGpu, DimensionsAndTypes) {
  constexpr std::uint32_t kDims[][2] = {{64, 64}, {128, 128}, {1, 1},    {3, 5},
                                        {48, 80}, {80, 16},   {100, 33}, {256, 256}};
  constexpr DType kTypes[][3] = {{DType::f16, DType::f16, DType::f16},
                                 {DType::f32, DType::f32, DType::f32},
                                 {DType::f32, DType::f16, DType::f32},
                                 {DType::bf16, DType::bf16, DType::bf16}};
  std::uint32_t i = 0;
  for (const auto& dims : kDims)
    for (const auto& types : kTypes) {
      AttentionCase c = case_of(1, 37, 75, 4, i % 2 == 0 ? 2 : 4, dims[0], dims[1]);
      c.shape.q_type = types[0];
      c.shape.kv_type = types[1];
      c.shape.y_type = types[2];
      c.shape.operands.lse = i++ % 3 == 0;
      if (dims[0] > 64 && i % 4 != dims[0] / 16 % 4) continue;  // one type: those take long to compile
      check_matrix(c);
    }
}

TEST_P(AttentionMatrixGpu, BlocksOfQ8) {
  AttentionCase c = case_of(2, 40, 100, 4, 2, 64, 32);
  c.shape.kv_type = DType::q8_0;
  check_matrix(c);
}

TEST_P(AttentionMatrixGpu, RowsAndKeys) {
  for (std::uint32_t rows : {9u, 16u, 31u, 32u, 33u, 64u, 65u, 101u})
    for (std::uint32_t keys : {1u, 15u, 32u, 33u, 64u, 129u})
      check_matrix(case_of(1, rows, keys, 3, 1, 16, 16));
}

TEST_P(AttentionMatrixGpu, NoKeys) {
  AttentionCase c = case_of(2, 20, 30, 2, 2, 32, 32);
  c.lengths = {0, 7};
  c.shape.operands.lengths = c.shape.operands.lse = true;
  check_matrix(c);
  c.shape.operands.sinks = true;
  check_matrix(c);
}

TEST_P(AttentionMatrixGpu, CausalityAndWindows) {
  for (Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
    for (std::uint32_t left : {kNoWindow, 0u, 5u, 40u})
      for (std::uint32_t right : {kNoWindow, 3u})
        for (const auto& [rows, keys] : {std::pair(50u, 70u), std::pair(70u, 50u)}) {
          AttentionCase c = case_of(1, rows, keys, 4, 2, 20, 20);
          c.shape.attrs.causal = causal;
          c.shape.attrs.window_left = left;
          c.shape.attrs.window_right = right;
          c.shape.operands.lse = true;
          check_matrix(c);
        }
}

TEST_P(AttentionMatrixGpu, TermsOfTheScore) {
  for (std::uint32_t options = 0; options < 64; ++options) {
    if (std::popcount(options) != 2 && options % 63 != 0) continue;  // each pair, none, all
    AttentionCase c = case_of(2, 21, 43, 4, 2, 24, 16);
    AttentionAttrs& a = c.shape.attrs;
    AttentionOperands& o = c.shape.operands;
    a.softcap = options & 1 ? 3.0f : 0;
    o.slopes = options & 2;
    o.sinks = options & 4;
    if (options & 8) a.score = AttentionScore::cosine;
    if (options & 16) o.mask = options & 1 ? DType::u8 : DType::f16;
    if (options & 32) o.bias = options & 2 ? DType::f32 : DType::bf16;
    o.mask_strides = whole(a);
    o.bias_strides = {0, std::uint64_t{a.q_len} * a.kv_len, a.kv_len, 1};
    o.lse = true;
    if (options % 3 == 1) a.causal = Causal::bottom_right;
    if (options % 3 == 2) c.keep = 0.05;
    check_matrix(c);
  }
}

TEST_P(AttentionMatrixGpu, Documents) {
  AttentionCase c = case_of(1, 60, 90, 2, 1, 32, 32);
  c.documents = {0, 7, 7, 40, 55, 0, 20, 21, 21, 88};
  c.shape.operands.documents = 4;
  c.shape.operands.lse = true;
  for (Causal causal : {Causal::none, Causal::bottom_right}) {
    c.shape.attrs.causal = causal;
    check_matrix(c);
  }
}

TEST_P(AttentionMatrixGpu, CachesAndPages) {
  for (DType type : {DType::f32, DType::f16, DType::q8_0})
    for (std::uint32_t position : {0u, 33u, 80u}) {
      AttentionCase c = case_of(1, 20, 96, 4, 2, 32, 32);
      c.shape.attrs.causal = Causal::bottom_right;
      c.shape.attrs.cache = true;
      c.shape.kv_type = type;
      c.shape.operands.state = true;
      c.position = position;
      c.rows = 15;
      check_matrix(c);
      c.shape.attrs.block_size = 16;
      c.shape.operands.table = true;
      c.shape.blocks = 8;
      c.table = {5, 0, 7, 1, 6, 2};
      check_matrix(c);
    }
  AttentionCase c = case_of(1, 20, 64, 4, 2, 32, 32);
  c.shape.attrs.causal = Causal::bottom_right;
  c.shape.attrs.cache = c.shape.attrs.ring = true;
  c.shape.attrs.window_left = 40;
  c.shape.operands.state = true;
  c.position = 100;
  c.rows = 20;
  check_matrix(c);
}

TEST_P(AttentionMatrixGpu, LayoutsAndSlices) {
  AttentionCase c = case_of(2, 70, 66, 6, 2, 40, 24);
  c.shape.attrs.heads_first = true;
  check_matrix(c);
  check_matrix(c, 3);
  c.shape.attrs.q_strides = {200000, 41, 6 * 41, 1};
  check_matrix(c);
}

TEST_P(AttentionMatrixGpu, LargeScores) {
  for (float spread : {30.0f, 3000.0f}) {
    AttentionCase c = case_of(1, 33, 128, 2, 1, 32, 32);
    c.spread = spread;
    check_matrix(c);
  }
  AttentionCase c = case_of(1, 33, 128, 2, 1, 32, 32);
  c.ones = true;
  check_matrix(c);
}

TEST_P(AttentionMatrixGpu, LowerLimits) {
  auto floor = lowered({{"max_group_invocations", 128}, {"max_shared_bytes", 16384}});
  ASSERT_TRUE(floor);
  device_ = std::move(floor);
  for (std::uint32_t dim : {16u, 64u, 128u}) check_matrix(case_of(1, 40, 70, 2, 2, dim, dim));
}

TEST_P(AttentionMatrixGpu, CapsSwitchItOff) {
  for (const char* cap : {"coopmat", "fp16"}) {
    const auto without = lowered({{cap, 0}});
    ASSERT_TRUE(without);
    const auto choice = choose_attention(case_of(1, 64, 64, 2, 2, 64, 64).shape, target_of(*without));
    ASSERT_TRUE(choice);
    EXPECT_FALSE(is_matrix(*choice));
    ASSERT_EQ(matrix_refusals(*choice), 2);
    const bool had = device_->report().caps.coopmat && device_->report().caps.fp16;
    for (const Refusal& r : choice->refused)
      if (of_matrices(r)) {
        EXPECT_THAT(r.reason, HasSubstr(had ? cap : "lacks"));
      }
  }
}

Target ampere() {
  Target t;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 49152;
  t.limits.max_storage_range = 1u << 30;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 32;
  t.caps.coopmat = t.caps.fp16 = t.caps.subgroup_size_control = true;
  t.matrices.shapes = {{16, 8, 16, MatrixType::f16, MatrixType::f32},
                       {16, 16, 16, MatrixType::f16, MatrixType::f16},
                       {16, 16, 16, MatrixType::f16, MatrixType::f32}};
  return t;
}

Target arc() {
  Target t = ampere();
  t.limits.max_shared_bytes = 65536;
  t.limits.min_subgroup_size = 8;
  t.matrices.shapes = {{8, 8, 16, MatrixType::f16, MatrixType::f32}};
  return t;
}

TEST(ChooseAttentionMatrix, FragmentsOfTheDevice) {
  const AttentionShape s = case_of(1, 512, 512, 8, 8, 64, 64).shape;
  auto choice = choose_attention(s, ampere());
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->dispatches[0].kernel, KernelId::attention_coopmat_half);
  EXPECT_EQ(choice->dispatches[0].subgroup_size, 32u);
  EXPECT_EQ(choice->dispatches[0].spec[shader::kMatrixSpecN], 16u);
  choice = choose_attention(s, arc());
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->dispatches[0].kernel, KernelId::attention_coopmat);
  EXPECT_EQ(choice->dispatches[0].subgroup_size, 8u);
  EXPECT_EQ(choice->dispatches[0].spec[0], 128u);
}

// As VK_NV_cooperative_matrix2 may be: granularities for workgroups of 128 and for subgroups.
Target flexible() {
  Target t = ampere();
  t.caps.coopmat2 = true;
  t.matrices.max_dimension = 512;
  t.matrices.max_group = 256;
  t.matrices.reserved_shared = 4096;
  for (const MatrixScope scope : {MatrixScope::workgroup, MatrixScope::subgroup})
    t.matrices.shapes.push_back({16, 16, 16, MatrixType::f16, MatrixType::f32, scope, true,
                                 scope == MatrixScope::workgroup ? 128u : 0u});
  return t;
}

TEST(ChooseAttentionMatrix, FlexibleMatrices) {
  using namespace shader;
  const AttentionShape s = case_of(1, 512, 512, 8, 8, 80, 72).shape;
  auto choice = choose_attention(s, flexible());
  ASSERT_TRUE(choice);
  EXPECT_EQ(form_of(*choice), "attention_coopmat2");
  Dispatch d = choice->dispatches[0];
  EXPECT_EQ(d.spec[kFlexibleSpecScope], kScopeSubgroup);
  EXPECT_EQ(d.subgroup_size, 32u);
  EXPECT_EQ(d.spec[kAttentionSpecGroup], 32 * d.spec[kFlexibleSpecStrips]);
  EXPECT_EQ(d.spec[kFlexibleSpecDimBlock], 48u);  // two of 80 in steps of 16
  EXPECT_EQ(d.spec[kFlexibleSpecVBlock], 48u);

  Target t = flexible();
  t.matrices.shapes.pop_back();
  choice = choose_attention(s, t);
  ASSERT_TRUE(choice);
  d = choice->dispatches[0];
  EXPECT_EQ(form_of(*choice), "attention_coopmat2");
  EXPECT_EQ(d.spec[kFlexibleSpecScope], kScopeWorkgroup);
  EXPECT_EQ(d.spec[kAttentionSpecGroup], 128u);
  EXPECT_EQ(d.spec[kFlexibleSpecStrips], 1u);
  EXPECT_EQ(d.subgroup_size, 0u);

  t.matrices.max_dimension = 8;
  choice = choose_attention(s, t);
  ASSERT_TRUE(choice);
  EXPECT_EQ(form_of(*choice), "attention_coopmat_half");
  ASSERT_EQ(choice->refused.size(), 1u);
  EXPECT_EQ(choice->refused[0].tier, "attention_coopmat2");
  EXPECT_THAT(choice->refused[0].reason, HasSubstr("flexible"));
}

TEST(ChooseAttentionMatrix, Refusals) {
  const auto reason = [](AttentionShape s, const Target& t) {
    const auto choice = choose_attention(s, t);
    EXPECT_TRUE(choice);
    if (!choice || choice->refused.size() < 2) return std::string("chosen");
    return choice->refused.back().reason;
  };
  AttentionShape s = case_of(1, 64, 64, 2, 2, 64, 64).shape;
  EXPECT_EQ(reason(s, ampere()), "chosen");
  s.attrs.precision = Precision::f32;
  EXPECT_THAT(reason(s, ampere()), HasSubstr("precision f32"));
  s.attrs.precision = Precision::mixed;
  Target t = ampere();
  t.caps.coopmat = false;
  EXPECT_THAT(reason(s, t), HasSubstr("coopmat"));
  t = ampere();
  t.matrices.emulated = "emulated";
  EXPECT_EQ(reason(s, t), "emulated");
  t = ampere();
  t.matrices.shapes = {{16, 16, 16, MatrixType::bf16, MatrixType::f32}};
  EXPECT_THAT(reason(s, t), HasSubstr("no fragments"));
  s.attrs.v_dim = 512;
  EXPECT_THAT(reason(s, ampere()), HasSubstr("no tile"));
  s.attrs.v_dim = 64;
  s.attrs.q_len = 4;
  EXPECT_THAT(reason(s, ampere()), HasSubstr("few rows"));
}

}  // namespace
}  // namespace tessera::test
