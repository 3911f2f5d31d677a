// Which form a product gets, on devices of plain data.
#include <gmock/gmock.h>

#include "interface/matmul.h"
#include "kernels/choose.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;

Target large() {
  Target t;
  t.limits.max_group_invocations = 1024;
  t.limits.max_group_size = {1024, 1024, 64};
  t.limits.max_shared_bytes = 49152;
  t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = 32;
  Caps& c = t.caps;
  c.fp16 = c.subgroup_arithmetic = c.subgroup_size_control = c.coopmat = true;
  t.matrices.shapes = {{.m = 16, .n = 8, .k = 16, .a = MatrixType::f16, .c = MatrixType::f32},
                       {.m = 16, .n = 16, .k = 16, .a = MatrixType::f16, .c = MatrixType::f32},
                       {.m = 16, .n = 16, .k = 32, .a = MatrixType::s8, .c = MatrixType::s32}};
  return t;
}

MatmulShape product(std::uint32_t rows, std::uint32_t n, std::uint32_t k, DType type = DType::f16) {
  MatmulShape s;
  s.rows = rows;
  s.n = n;
  s.k = k;
  s.y_stride = n;
  s.type = type;
  s.precision = Precision::mixed;
  return s;
}

std::string_view form_of(const MatmulShape& s, const Target& t) {
  const auto choice = choose_matmul_call(s, t);
  return choice ? kernel(choice->dispatches.back().kernel).name : std::string_view("refused");
}

std::string describe_spec(const Dispatch& d) {
  std::string text;
  for (std::uint32_t value : d.spec) text += (text.empty() ? "" : " ") + std::to_string(value);
  return text;
}

std::string refusal(const MatmulShape& s, const Target& t, std::string_view tier) {
  const auto choice = choose_matmul_call(s, t);
  if (choice)
    for (const Refusal& r : choice->refused)
      if (r.tier == tier) return r.reason;
  return {};
}

TEST(ChooseMatmulForm, FragmentsForManyRows) {
  const auto choice = choose_matmul_call(product(4096, 4096, 4096), large());
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->dispatches.size(), 1u);
  const Dispatch& d = choice->dispatches[0];
  EXPECT_EQ(kernel(d.kernel).name, "matmul_coopmat");
  EXPECT_EQ(d.subgroup_size, 32u);
  EXPECT_EQ(d.spec[shader::kFragmentSpecM], 16u);
  EXPECT_EQ(d.spec[shader::kFragmentSpecN], 16u);  // the largest fragments
  EXPECT_EQ(d.spec[shader::kFragmentSpecTileM], 128u);
  EXPECT_EQ(d.spec[shader::kFragmentSpecTileN], 128u);
  EXPECT_EQ(d.grid[0] * d.grid[1] * d.grid[2], 32u * 32u);
  ASSERT_EQ(choice->refused.size(), 1u);
  EXPECT_EQ(choice->refused[0].reason, "the device lacks coopmat2");
}

TEST(ChooseMatmulForm, TilesFitWhateverTheShape) {
  for (std::uint32_t shared : {16384u, 32768u, 49152u, 233472u})
    for (std::uint32_t subgroup : {8u, 16u, 32u, 64u})
      for (std::uint32_t lanes : {128u, 1024u})
        for (std::uint32_t rows : {17u, 64u, 512u, 5000u})
          for (bool gated : {false, true}) {
            Target t = large();
            t.limits.max_shared_bytes = shared;
            t.limits.subgroup_size = t.limits.min_subgroup_size = t.limits.max_subgroup_size = subgroup;
            t.limits.max_group_invocations = t.limits.max_group_size[0] = lanes;
            if (subgroup == 8) t.matrices.shapes = {{8, 8, 16, MatrixType::f16, MatrixType::f32}};
            MatmulShape s = product(rows, 1000, 300);
            s.gated = gated;
            const auto choice = choose_matmul_call(s, t);
            ASSERT_TRUE(choice);
            const Dispatch& d = choice->dispatches[0];
            ASSERT_EQ(kernel(d.kernel).name, "matmul_coopmat") << shared << " " << subgroup << " " << lanes;
            const auto spec = [&](std::uint32_t i) { return d.spec[i]; };
            const std::uint32_t groups_m = spec(shader::kFragmentSpecGroupsM),
                                groups_n = spec(shader::kFragmentSpecGroupsN);
            EXPECT_EQ(spec(0), subgroup * groups_m * groups_n);
            EXPECT_LE(spec(0), lanes);
            EXPECT_EQ(spec(shader::kFragmentSpecTileM) % (groups_m * spec(shader::kFragmentSpecM)), 0u);
            EXPECT_EQ(spec(shader::kFragmentSpecTileN) % (groups_n * spec(shader::kFragmentSpecN)), 0u);
            EXPECT_EQ(spec(shader::kFragmentSpecTileK) % spec(shader::kFragmentSpecK), 0u);
            EXPECT_LE(
                spec(shader::kFragmentSpecStages) *
                    (spec(shader::kFragmentSpecTileM) + (gated ? 2 : 1) * spec(shader::kFragmentSpecTileN)) *
                    (spec(shader::kFragmentSpecTileK) + 8) * 2,
                shared);
          }
}

TEST(ChooseMatmulForm, SmallProductsGetSmallTiles) {
  const auto small = choose_matmul_call(product(64, 1024, 4096), large());
  ASSERT_TRUE(small);
  EXPECT_LT(small->dispatches[0].spec[shader::kFragmentSpecTileN], 128u);
  EXPECT_GE(small->dispatches[0].grid[0], 32u);
}

// A step waits for its loads: subgroups share what comes before and after, and every processor has some.
TEST(ChooseMatmulForm, FewRowsHaveManyLanesAndLongSteps) {
  for (const DType type : {DType::f32, DType::f16, DType::q8_0, DType::q4_k})
    for (std::uint32_t rows : {17u, 32u, 64u, 128u})
      for (bool gated : {false, true}) {
        MatmulShape s = product(rows, 4096, 4096, type);
        s.gated = gated;
        const auto choice = choose_matmul_call(s, large());
        ASSERT_TRUE(choice);
        const Dispatch& d = choice->dispatches[0];
        const std::string what = describe_spec(d) + " for " + std::to_string(rows);
        EXPECT_GE(d.spec[0], 128u) << what;
        EXPECT_GE(d.grid[0], 128u) << what;
        EXPECT_EQ(d.spec[shader::kFragmentSpecTileK], 64u) << what;
        EXPECT_LE(d.spec[shader::kFragmentSpecTileM], std::max(32u, rows)) << what;
      }
}

TEST(ChooseMatmulForm, RefusalsHaveReasons) {
  const MatmulShape s = product(512, 512, 512);
  Target t = large();
  t.caps.coopmat = false;
  EXPECT_EQ(form_of(s, t), "tile");
  EXPECT_EQ(refusal(s, t, "matmul_coopmat"), "the device lacks coopmat");
  t = large();
  t.caps.subgroup_size_control = false;
  EXPECT_THAT(refusal(s, t, "matmul_coopmat"), HasSubstr("subgroup_size_control"));
  t = large();
  t.matrices.emulated = "not real";
  EXPECT_EQ(refusal(s, t, "matmul_coopmat"), "not real");
  t = large();
  t.matrices.shapes = {{16, 16, 16, MatrixType::f16, MatrixType::f16}};
  EXPECT_THAT(refusal(s, t, "matmul_coopmat"), HasSubstr("f32 sums"));
  EXPECT_THAT(refusal(product(16, 64, 64), large(), "matmul_coopmat"), HasSubstr("few rows"));
  MatmulShape exact = s;
  exact.precision = Precision::f32;
  EXPECT_EQ(form_of(exact, large()), "tile");
  EXPECT_THAT(refusal(exact, large(), "matmul_coopmat"), HasSubstr("precision f32"));
}

TEST(ChooseMatmulForm, MatricesOfAnySizeFirst) {
  Target t = large();
  t.caps.coopmat2 = true;
  t.matrices.max_dimension = 256;
  t.matrices.max_group = 256;
  t.matrices.reserved_shared = 8192;
  const MatmulShape s = product(4096, 4096, 4096);
  EXPECT_EQ(form_of(s, t), "matmul_coopmat");  // none is flexible
  EXPECT_THAT(refusal(s, t, "matmul_coopmat2"), HasSubstr("flexible"));
  t.matrices.shapes.push_back(
      {16, 8, 16, MatrixType::f16, MatrixType::f32, MatrixScope::workgroup, true, 128});
  const auto whole = choose_matmul_call(s, t);
  ASSERT_TRUE(whole);
  EXPECT_EQ(kernel(whole->dispatches[0].kernel).name, "matmul_coopmat2");
  EXPECT_EQ(whole->dispatches[0].subgroup_size, 0u);
  EXPECT_EQ(whole->dispatches[0].spec[0], 128u);
  EXPECT_EQ(whole->dispatches[0].spec[shader::kWholeSpecScope], shader::kProductScopeWorkgroup);
  t.matrices.shapes.push_back({16, 8, 16, MatrixType::f16, MatrixType::f32, MatrixScope::subgroup, true});
  const auto parts = choose_matmul_call(s, t);
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->dispatches[0].spec[shader::kWholeSpecScope], shader::kProductScopeSubgroup);
  EXPECT_EQ(parts->dispatches[0].subgroup_size, 32u);
}

Target with_dots() {
  Target t = large();
  t.caps.int_dot = t.caps.int_dot_fast = true;
  return t;
}

TEST(ChooseMatmulForm, DotsForFewRowsAndWhereFragmentsAreMissing) {
  Target t = with_dots();
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k,
                           DType::q5_k, DType::q6_k}) {
    EXPECT_EQ(form_of(product(1, 4096, 4096, type), t), "matmul_dot_few");
    EXPECT_EQ(form_of(product(16, 4096, 4096, type), t), "matmul_dot_few");
    EXPECT_EQ(form_of(product(17, 4096, 4096, type), t), "matmul_coopmat");
  }
  EXPECT_EQ(form_of(product(1, 4096, 4096, DType::f16), t), "matvec_subgroup");
  EXPECT_THAT(refusal(product(1, 4096, 4096, DType::f16), t, "matmul_dot"), HasSubstr("F16"));
  t.caps.coopmat = false;
  EXPECT_EQ(form_of(product(512, 4096, 4096, DType::q4_k), t), "matmul_dot");
  MatmulShape exact = product(1, 4096, 4096, DType::q8_0);
  exact.precision = Precision::f32;
  EXPECT_EQ(form_of(exact, t), "matvec_subgroup");
  EXPECT_THAT(refusal(exact, t, "matmul_dot"), HasSubstr("precision f32"));
}

TEST(ChooseMatmulForm, DotsThatAreNotFastRunOnlyWhenAskedFor) {
  Target t = with_dots();
  t.caps.int_dot_fast = false;
  const MatmulShape s = product(1, 4096, 4096, DType::q8_0);
  EXPECT_EQ(form_of(s, t), "matvec_subgroup");
  EXPECT_THAT(refusal(s, t, "matmul_dot"), HasSubstr("accelerate"));
  t.form = "matmul_dot";
  EXPECT_EQ(form_of(s, t), "matmul_dot_few");
  t.caps.int_dot = false;
  EXPECT_EQ(form_of(s, t), "refused");
}

TEST(ChooseMatmulForm, BlocksOfXAreAScratch) {
  Target t = with_dots();
  t.caps.coopmat = false;
  MatmulShape s = product(100, 64, 256, DType::q4_0);
  s.batch = 3;
  s.x_batch = 100 * 256;
  s.y_batch = 100 * 64;
  auto choice = choose_matmul_call(s, t);
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->dispatches.size(), 2u);
  EXPECT_EQ(kernel(choice->dispatches[0].kernel).name, "quantise_rows");
  EXPECT_EQ(choice->scratch, std::vector<std::uint64_t>{3u * 100 * 8 * 48});
  EXPECT_EQ(choice->dispatches[0].operands, (std::vector<OperandIndex>{0, 6, kScratchOperand}));
  EXPECT_EQ(choice->dispatches[1].operands[0], kScratchOperand);
  s.x_batch = 0;  // of one matrix for all products, or one for each group of them
  EXPECT_EQ(choose_matmul_call(s, t)->scratch, std::vector<std::uint64_t>{100u * 8 * 48});
  s.batch = 6;
  s.inner = 3;
  s.x_outer = 100 * 256;
  EXPECT_EQ(choose_matmul_call(s, t)->scratch, std::vector<std::uint64_t>{2u * 100 * 8 * 48});
  s.batch = 3;
  s.inner = s.x_outer = 0;
  s.x_batch = 100 * 256;
  t.limits.max_storage_range = 1 << 16;
  EXPECT_THAT(refusal(s, t, "matmul_dot"), HasSubstr("max_storage_range"));
}

TEST(ChooseMatmulForm, MeasuredRatesDecideOfWeightsInBlocks) {
  const MatmulShape s = product(512, 512, 512, DType::q4_k);
  Target t = large();
  t.rates.list = {{"matmul_coopmat", 1e12}, {"matmul_scalar", 2e12}};
  EXPECT_EQ(form_of(s, t), "tile");
  EXPECT_THAT(refusal(s, t, "matmul_coopmat"), HasSubstr("measured at"));
  EXPECT_EQ(form_of(product(512, 512, 512, DType::f16), t), "matmul_coopmat");
  t.rates.list[0].flops_per_s = 3e12;
  EXPECT_EQ(form_of(s, t), "matmul_coopmat");
}

TEST(ChooseMatmulForm, AForcedFormOrWhyNot) {
  Target t = large();
  t.form = "matmul_scalar";
  EXPECT_EQ(form_of(product(512, 512, 512), t), "tile");
  t.form = "attention_coopmat";  // another op's
  EXPECT_EQ(form_of(product(512, 512, 512), t), "matmul_coopmat");
  t.form = "matmul_coopmat";
  t.caps.coopmat = false;
  const auto refused = choose_matmul_call(product(512, 512, 512), t);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unsupported);
}

TEST(ChooseMatmulForm, AFormForManyRowsRefusesFew) {
  Target t = with_dots();
  for (const char* form : {"matmul_coopmat", "matmul_coopmat2"}) {
    t.form = form;
    const auto refused = choose_matmul_call(product(16, 512, 512), t);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::unsupported);
    EXPECT_THAT(refused.error().message, HasSubstr("few rows"));
  }
}

TEST(ChooseMatmulForm, SoftwareHasNoMatrixUnits) {
  Target t = large();
  t.caps.software = t.caps.subgroup_shuffle = true;
  const MatmulShape s = product(512, 512, 512, DType::q8_0);
  EXPECT_EQ(form_of(s, t), "matmul_lanes");
  t.rates.list = {{"matmul_coopmat", 2e12}, {"matmul_scalar", 1e12}};
  EXPECT_EQ(form_of(s, t), "matmul_coopmat");
  t.form = "matmul_coopmat";
  EXPECT_EQ(form_of(s, t), "matmul_coopmat");
}

// As many lanes as those of the batch need, not of one product.
TEST(ChooseMatmulForm, BatchesFillTheDeviceWithDots) {
  const Target t = with_dots();
  MatmulShape s = product(1, 1024, 8192, DType::q8_0);
  const auto one = choose_matmul_call(s, t);
  s.batch = 64;
  s.x_batch = s.k;
  s.y_batch = s.n;
  const auto many = choose_matmul_call(s, t);
  ASSERT_TRUE(one && many);
  EXPECT_EQ(one->dispatches[1].spec[0], 128u);
  EXPECT_EQ(many->dispatches[1].spec[0], 32u);
}

TEST(ChooseMatmulForm, BadShapesAreErrors) {
  EXPECT_EQ(choose_matmul_call(product(64, 0, 64), large()).error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace tessera
