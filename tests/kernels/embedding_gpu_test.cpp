#include "kernels/data.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

class EmbeddingGpu : public GpuTest {
 protected:
  // Table rows [first, first+count) of `vocab`, `live` of 4 rows from position 2 on.
  void check(DType type, std::uint32_t dim, std::uint32_t first, std::uint32_t count, std::uint32_t live) {
    const std::uint32_t vocab = 11, rows = 4, position = 2;
    TestWeights table = make_weights(type, vocab, dim, dim);
    const std::vector<std::uint32_t> ids = {99, 99, 10, 0, 5, 0xffffffffu};
    const EmbeddingShape shape{rows, dim, type, first, count};
    const auto dispatch = choose_embedding(shape, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    const std::uint64_t row_bytes = device_row_bytes(type, dim);
    const auto begin = table.device.begin();
    Bytes part(begin + static_cast<std::ptrdiff_t>(first * row_bytes),
               begin + static_cast<std::ptrdiff_t>((first + count) * row_bytes));
    Bytes tokens = to_bytes(ids), state = state_bytes(position, live), out = poisoned(rows * dim);
    ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&tokens, &state, &part, &out}));
    const auto words = from_bytes<std::uint32_t>(out);
    const auto values = from_bytes<float>(out);
    for (std::uint32_t row = 0; row < rows; ++row) {
      const std::uint32_t id = ids[position + row];
      const bool bound = row < live && id >= first && id < first + count;
      for (std::uint32_t i = 0; i < dim; ++i) {
        if (bound) {
          ASSERT_EQ(values[row * dim + i], table.values[id * dim + i]) << info(type).name << " row " << row;
        } else {
          ASSERT_EQ(words[row * dim + i], kPoison) << info(type).name << " row " << row;
        }
      }
    }
  }
};

TEST_F(EmbeddingGpu, EveryTypeIsExact) {
  for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0})
    for (std::uint32_t dim : info(type).block_elems > 1 ? std::vector<std::uint32_t>{32, 96, 1056}
                                                        : std::vector<std::uint32_t>{1, 6, 37, 64, 1100})
      check(type, dim, 0, 11, 4);
}

TEST_F(EmbeddingGpu, ATableInParts) {
  check(DType::q8_0, 64, 0, 6, 4);
  check(DType::q8_0, 64, 6, 5, 4);
}

TEST_F(EmbeddingGpu, RowsFromTheState) {
  check(DType::f16, 20, 0, 11, 0);
  check(DType::f16, 20, 0, 11, 2);
}

}  // namespace
}  // namespace tessera::test
