// A product with each of several matrices, on the device against the reference and its bounds.
#include <cmath>
#include <random>

#include "reference/one_op.h"
#include "schedule/batched_product.h"
#include "schedule/gpu_walker.h"
#include "support/gpu_fixture.h"
#include "support/random_blocks.h"
#include "support/swept_types.h"

namespace tessera::test {
namespace {

std::vector<float> random_numbers(std::size_t n, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> number(-1, 1);
  std::vector<float> out(n);
  for (float& x : out) x = number(engine);
  return out;
}

std::vector<std::byte> encoded(DType type, const std::vector<float>& values) {
  std::vector<std::byte> out(file_bytes(values.size(), info(type)));
  encode_row(type, values, out);
  return out;
}

class MatmulBatchGpu : public GpuTest {
 protected:
  // live: rows of the pass, 0: all. What lies behind them in x is NaN and must not be read into a result.
  void check(const BatchedProduct& shape, std::uint32_t live = 0, Device* on = nullptr) {
    SCOPED_TRACE(testing::Message() << info(shape.type).name << " batch " << shape.batch << " rows "
                                    << shape.rows << " n " << shape.n << " k " << shape.k
                                    << (shape.rows_first ? " rows_first" : "")
                                    << (shape.more ? " more" : ""));
    BatchedProgram made(shape);
    auto weights = std::make_shared<MemoryWeights>();
    for (const ValueId id : {made.w, made.up})
      if (id != kNoValue)
        weights->files[made.program.values[id].name] = matrices(shape.type, made.elems(id), id);
    made.program.weights = weights;
    const auto program = std::make_shared<const Program>(made.program);
    const auto gpu = take(GpuWalker::create(on != nullptr ? *on : *device_, program, {}));
    const auto reference = take(ReferenceWalker::create(program));
    ASSERT_TRUE(gpu && reference);
    const StepState state{.position = 0, .rows = live != 0 ? live : static_cast<std::uint32_t>(shape.rows)};
    for (Walker* walker : {static_cast<Walker*>(gpu.get()), static_cast<Walker*>(reference.get())}) {
      expect_ok(walker->write(program->state, 0, std::as_bytes(std::span(&state, 1))));
      write(*walker, made.x, 5, shape.dynamic ? state.rows : shape.rows);
      if (made.residual != kNoValue) write(*walker, made.residual, 6, shape.rows);
    }
    expect_ok(gpu->run(0));
    const auto expected = take(reference->run_op(0, 0, true));
    ASSERT_EQ(expected.size(), 1u);
    compare(*gpu, made.y, expected[0]);
  }

 private:
  static std::vector<std::byte> matrices(DType type, std::uint64_t elems, std::uint32_t seed) {
    if (info(type).block_elems > 1) return random_blocks(type, elems / info(type).block_elems, seed);
    return encoded(type, random_numbers(elems, seed));
  }
  void write(Walker& walker, ValueId id, std::uint32_t seed, std::uint64_t live) {
    const Value& value = walker.program().values[id];
    std::vector<float> numbers = random_numbers(value.elems(), seed);
    if (value.dynamic_rows) {
      const auto first = static_cast<std::ptrdiff_t>(live * (value.elems() / value.shape[0]));
      std::fill(numbers.begin() + first, numbers.end(), std::nanf(""));
    }
    expect_ok(walker.write(id, 0, encoded(value.dtype, numbers)));
  }
  void compare(Walker& gpu, ValueId y, const ReferenceOutput& expected) {
    const Value& value = gpu.program().values[y];
    std::vector<std::byte> bytes(value_bytes(value));
    expect_ok(gpu.read(y, 0, bytes));
    std::vector<float> found(value.elems());
    decode_row(value.dtype, bytes, found);
    int wrong = 0;
    for (std::size_t i = 0; i < expected.expected.size(); ++i)
      if (!expected.accepts(i, double{found[i]}) && ++wrong <= 3)
        ADD_FAILURE() << "y[" << i << "] is " << found[i] << ", not " << expected.expected[i] << " +- "
                      << expected.bound[i];
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
           .more = true},
          0, small.get());
}

}  // namespace
}  // namespace tessera::test
