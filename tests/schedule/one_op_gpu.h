// Programs of one op, on the device against the reference and its bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "reference/one_op.h"
#include "schedule/gpu_walker.h"
#include "support/gpu_fixture.h"
#include "support/random_blocks.h"

namespace tessera::test {

class OneOpGpu : public GpuTest {
 protected:
  // Writes random numbers to all weights and to the `given` values, runs the op with `live` rows on both, and
  // compares its first output. Rows of given values behind the live ones are NaN and must not be read into a
  // result.
  void expect_agrees(Program made, const std::vector<ValueId>& given, std::uint32_t live,
                     Device* on = nullptr) {
    auto weights = std::make_shared<MemoryWeights>();
    for (ValueId id = 0; id < made.values.size(); ++id)
      if (const Value& v = made.values[id]; v.storage == Storage::weight)
        weights->files[v.name] = matrices(v.dtype, v.elems(), id);
    made.weights = weights;
    const auto program = std::make_shared<const Program>(std::move(made));
    const auto gpu = take(GpuWalker::create(on != nullptr ? *on : *device_, program, {}));
    const auto reference = take(ReferenceWalker::create(program));
    ASSERT_TRUE(gpu && reference);
    const StepState state{.position = 0, .rows = live};
    for (Walker* walker : {static_cast<Walker*>(gpu.get()), static_cast<Walker*>(reference.get())}) {
      expect_ok(walker->write(program->state, 0, std::as_bytes(std::span(&state, 1))));
      for (const ValueId id : given) write(*walker, id, live);
    }
    expect_ok(gpu->run(0));
    const auto expected = take(reference->run_op(0, 0, true));
    ASSERT_EQ(expected.size(), 1u);
    compare(*gpu, program->graphs[0].ops[0].out[0], expected[0]);
  }

 private:
  static std::vector<float> random_numbers(std::size_t n, std::uint32_t seed) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> number(-1, 1);
    std::vector<float> out(n);
    for (float& x : out) x = number(engine);
    return out;
  }
  static std::vector<std::byte> encoded(DType type, const std::vector<float>& values) {
    std::vector<std::byte> out(file_bytes(values.size(), info(type)));
    encode_row(type, values, out);
    return out;
  }
  static std::vector<std::byte> matrices(DType type, std::uint64_t elems, std::uint32_t seed) {
    if (info(type).block_elems > 1) return random_blocks(type, elems / info(type).block_elems, seed);
    return encoded(type, random_numbers(elems, seed));
  }
  void write(Walker& walker, ValueId id, std::uint64_t live) {
    const Value& value = walker.program().values[id];
    std::vector<float> numbers = random_numbers(value.elems(), 100 + id);
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
        ADD_FAILURE() << value.name << "[" << i << "] is " << found[i] << ", not " << expected.expected[i]
                      << " +- " << expected.bound[i];
  }
};

}  // namespace tessera::test
