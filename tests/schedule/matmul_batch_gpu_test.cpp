// A product with each of several matrices, on the device against the reference and its bounds.
#include "schedule/batched_product.h"
#include "schedule/one_op_gpu.h"
#include "support/swept_types.h"

namespace tessera::test {
namespace {

class MatmulBatchGpu : public OneOpGpu {
 protected:
  // live: rows of the pass, 0: all.
  void check(const BatchedProduct& shape, std::uint32_t live = 0, Device* on = nullptr) {
    SCOPED_TRACE(testing::Message() << info(shape.type).name << " batch " << shape.batch << " rows "
                                    << shape.rows << " n " << shape.n << " k " << shape.k
                                    << (shape.rows_first ? " rows_first" : "") << (shape.more ? " more" : "")
                                    << (shape.biases ? " biases" : "") << " x " << print_shape(shape.x_dims())
                                    << " w " << print_shape(shape.w_dims()));
    BatchedProgram made(shape);
    std::vector<ValueId> given{made.x};
    if (made.residual != kNoValue) given.push_back(made.residual);
    expect_agrees(std::move(made.program), given, live != 0 ? live : static_cast<std::uint32_t>(shape.rows),
                  on);
  }
};

struct Sizes {
  std::uint64_t batch, rows, n, k;
  bool rows_first, more;
};
constexpr Sizes kSizes[] = {{2, 1, 1, 1, false, true},      {3, 1, 13, 67, true, false},
                            {5, 3, 7, 96, false, true},     {2, 16, 65, 37, true, true},
                            {3, 17, 63, 129, false, false}, {2, 65, 33, 64, true, true}};

class EveryTypeOfBatch : public MatmulBatchGpu, public testing::WithParamInterface<DType> {};

TEST_P(EveryTypeOfBatch, AgreesWithTheReference) {
  const std::uint64_t block = tessera::info(GetParam()).block_elems;
  for (const Sizes& s : kSizes)
    check({.batch = s.batch,
           .rows = s.rows,
           .n = s.n,
           .k = (s.k + block - 1) / block * block,
           .rows_first = s.rows_first,
           .gated = s.more,
           .more = s.more,
           .type = GetParam()});
}

INSTANTIATE_TEST_SUITE_P(Types, EveryTypeOfBatch, testing::ValuesIn(swept_weight_types()),
                         [](const auto& i) { return std::string(tessera::info(i.param).name); });

TEST_F(MatmulBatchGpu, BothLayoutsOfEverySize) {
  for (const bool rows_first : {false, true})
    for (const std::uint64_t rows : {1, 2, 16, 17, 64, 65})
      for (const std::uint64_t n : {1, 31, 64})
        check({.batch = 3, .rows = rows, .n = n, .k = 36, .rows_first = rows_first, .more = true});
}

TEST_F(MatmulBatchGpu, HalfActivations) {
  for (const bool rows_first : {false, true})
    for (const std::uint64_t n : {5, 8})
      for (const DType type : {DType::f16, DType::q4_0})
        check({.batch = 3,
               .rows = 5,
               .n = n,
               .k = 64,
               .rows_first = rows_first,
               .more = true,
               .type = type,
               .x_type = DType::f16,
               .y_type = DType::f16});
}

TEST_F(MatmulBatchGpu, PrecisionMixed) {
  for (const bool rows_first : {false, true})
    for (const DType type : {DType::f32, DType::f16, DType::q8_0, DType::q4_k})
      for (const std::uint64_t rows : {3, 33})
        check({.batch = 3,
               .rows = rows,
               .n = 40,
               .k = 256,
               .rows_first = rows_first,
               .gated = rows == 3,
               .more = true,
               .type = type,
               .precision = Precision::mixed});
}

constexpr std::uint64_t kBroadcasts[][4] = {{2, 1, 1, 3}, {1, 3, 2, 3}, {2, 3, 1, 3}, {2, 1, 2, 3},
                                            {1, 3, 2, 1}, {2, 3, 2, 1}, {1, 1, 2, 3}, {1, 3, 1, 3}};

// x of (2, 1, rows, k) by w of (1, 3, n, k), and so on.
TEST_F(MatmulBatchGpu, DimensionsOfOneAreBroadcast) {
  std::uint32_t i = 0;
  for (const auto& dims : kBroadcasts)
    for (const std::uint64_t rows : {1, 5, 33})
      for (const Precision precision : {Precision::f32, Precision::mixed}) {
        const bool blocks = ++i % 2 == 0;
        check({.rows = rows,
               .n = rows == 5 ? 7u : 36u,
               .k = blocks ? 64u : 37u,
               .gated = i % 3 == 0,
               .more = true,
               .biases = i % 4 != 0,
               .type = blocks ? DType::q8_0 : DType::f16,
               .precision = precision,
               .x_batch = {dims[0], dims[1]},
               .w_batch = {dims[2], dims[3]}});
      }
  for (const std::uint64_t rows : {1, 18}) {
    check({.rows = rows, .n = 5, .k = 9, .more = true, .biases = true, .x_batch = {1}, .w_batch = {3}});
    check({.rows = rows, .n = 5, .k = 9, .more = true, .x_batch = {3}, .w_batch = {1}});
  }
}

TEST_F(MatmulBatchGpu, ABiasOfEachMatrix) {
  for (const bool rows_first : {false, true})
    for (const std::uint64_t rows : {1, 7, 40})
      check({.batch = 3,
             .rows = rows,
             .n = 13,
             .k = 20,
             .rows_first = rows_first,
             .gated = rows == 7,
             .more = true,
             .biases = true});
}

TEST_F(MatmulBatchGpu, OnlyTheRowsOfThePass) {
  for (const std::uint32_t live : {1u, 4u, 20u})
    check({.batch = 3, .rows = 20, .n = 9, .k = 48, .rows_first = true, .dynamic = true, .more = true}, live);
}

// 81,920 bytes a matrix: 12 of the 41 fit a binding of 1 MiB.
TEST_F(MatmulBatchGpu, MoreMatricesThanABinding) {
  constexpr std::uint64_t kRange = 1 << 20;
  auto caps = take(caps_from_env());
  if (device_->report().limits.max_storage_range > kRange) caps.push_back({"max_storage_range", kRange});
  const auto small = make_device(caps);
  ASSERT_TRUE(small);
  for (const bool rows_first : {false, true})
    check({.batch = 41,
           .rows = 2,
           .n = 64,
           .k = 320,
           .rows_first = rows_first,
           .gated = rows_first,
           .more = true,
           .biases = rows_first},
          0, small.get());
  check({.rows = 2, .n = 64, .k = 320, .more = true, .biases = true, .x_batch = {2, 41}, .w_batch = {1, 41}},
        0, small.get());
}

}  // namespace
}  // namespace tessera::test
