#include <cmath>

#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

class EmbeddingGpu : public GpuTest {
 protected:
  void check(DType type, std::uint32_t dim, std::uint32_t first, std::uint32_t count, std::uint32_t live) {
    check({.rows = 4, .dim = dim, .type = type, .first = first, .count = count}, live);
  }
  // Table rows [first, first+count) of `vocab`, `live` of 4 rows from position 2 on; or a batch of 4.
  void check(const EmbeddingShape& shape, std::uint32_t live) {
    const auto [rows, dim, type, first, count, batch, positions, scale] = shape;
    const std::uint32_t vocab = 11, position = 2;
    TestWeights table = make_weights(type, vocab, dim, dim);
    std::vector<std::uint32_t> ids = {99, 99, 10, 0, 5, 0xffffffffu};
    if (batch) ids.erase(ids.begin(), ids.begin() + position);
    const std::vector<float> added = random_floats(std::size_t{position + rows} * dim, 7);
    const auto dispatch = choose_embedding(shape, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    const std::uint64_t row_bytes = device_row_bytes(type, dim);
    const auto begin = table.device.begin();
    Bytes part(begin + static_cast<std::ptrdiff_t>(first * row_bytes),
               begin + static_cast<std::ptrdiff_t>((first + count) * row_bytes));
    Bytes tokens = to_bytes(ids), state = state_bytes(position, live), out = poisoned(rows * dim);
    Bytes added_bytes = positions ? to_bytes(added) : Bytes(16);
    ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&tokens, &state, &part, &out, &added_bytes}));
    const auto words = from_bytes<std::uint32_t>(out);
    const auto values = from_bytes<float>(out);
    for (std::uint32_t row = 0; row < rows; ++row) {
      const std::uint32_t id = ids[batch ? row : position + row];
      const bool bound = (batch || row < live) && id >= first && id < first + count;
      for (std::uint32_t i = 0; i < dim; ++i) {
        if (bound) {
          const double product = double{scale} * table.values[id * dim + i];
          const double sum = product + (positions ? added[(position + (batch ? 0 : row)) * dim + i] : 0.0);
          const bool exact = scale == 1 && !positions;  // a copy; else a product and a sum
          const double most = exact ? 0 : 0x1p-23 * (std::fabs(product) + std::fabs(sum));
          ASSERT_NEAR(values[row * dim + i], sum, most) << info(type).name << " row " << row;
        } else {
          ASSERT_EQ(words[row * dim + i], kPoison) << info(type).name << " row " << row;
        }
      }
    }
  }
};

TEST_F(EmbeddingGpu, EveryTypeIsExact) {
  for (DType type : kWeightTypes) {
    const std::uint32_t block = info(type).block_elems;
    for (std::uint32_t dim : block > 1 ? std::vector<std::uint32_t>{block, 3 * block, 1024 + block}
                                       : std::vector<std::uint32_t>{1, 6, 37, 64, 1100})
      check(type, dim, 0, 11, 4);
  }
}

TEST_F(EmbeddingGpu, ATableInParts) {
  check(DType::q8_0, 64, 0, 6, 4);
  check(DType::q8_0, 64, 6, 5, 4);
}

TEST_F(EmbeddingGpu, ScaleAndPositions) {
  for (bool batch : {false, true})
    for (bool positions : {false, true})
      for (float scale : {1.0f, 5.5f})
        for (DType type : {DType::f32, DType::q8_0}) check({4, 96, type, 0, 11, batch, positions, scale}, 3);
}

TEST_F(EmbeddingGpu, RowsFromTheState) {
  check(DType::f16, 20, 0, 11, 0);
  check(DType::f16, 20, 0, 11, 2);
}

}  // namespace
}  // namespace tessera::test
