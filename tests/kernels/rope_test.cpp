#include "kernels/rope_fixture.h"

namespace tessera::test {
namespace {

TEST_F(RopeGpu, AppendOfManyShapes) {
  const std::uint32_t heads[][2] = {{1, 1}, {4, 2}, {7, 7}, {6, 2}};
  for (DType type : {DType::f32, DType::f16, DType::bf16})
    for (bool adjacent : {true, false}) {
      std::uint32_t i = 0;
      for (std::uint32_t dim : {1u, 2u, 3u, 7u, 32u, 80u, 200u})
        for (std::uint32_t part : {0u, 1u, 2u}) {
          const auto& h = heads[i++ % std::size(heads)];
          const std::uint32_t rope_dims = dim / 2 * part / 2 * 2;
          for (std::uint32_t rows : {1u, 5u})
            for (std::uint32_t position : {0u, 1u, 40u - rows})
              check_append({shape_of(rows, h[0], h[1], dim, rope_dims, adjacent, type), position, 0});
        }
    }
}

TEST_F(RopeGpu, FewerRowsAndTheEndOfTheContext) {
  for (DType type : {DType::f32, DType::f16}) {
    check_append({shape_of(9, 4, 2, 5, 4, false, type), 3, 4});
    for (std::uint32_t position : {35u, 40u, 0xfffffff0u})
      check_append({shape_of(9, 4, 2, 5, 4, false, type), position, 9});
  }
}

// The rounding that f16 storage has everywhere: ties, subnormals, overflow.
TEST_F(RopeGpu, HalvesAreRoundedToNearestEven) {
  std::vector<float> x = {1.00048828125f, 1.00146484375f, 1.0005f,  65504.0f,      65519.99f,
                          65520.0f,       1e9f,           -1e9f,    5.9604645e-8f, 2.9802322e-8f,
                          2.99e-8f,       8.9e-8f,        6.1e-5f,  6.097555e-5f,  6.1035156e-5f,
                          0.0f,           -0.0f,          -3.0e-6f, 1e-20f,        0.1f};
  for (int e = -30; e <= 17; ++e)
    for (float m : random_floats(8, static_cast<std::uint32_t>(e + 99))) x.push_back(std::ldexp(m, e));
  for (DType type : {DType::f16, DType::bf16}) {
    const Case c{shape_of(1, 0, 1, static_cast<std::uint32_t>(x.size()), 0, false, type, 3), 1, 1};
    check_kv_append(c, x);
  }
}

TEST_F(RopeGpu, KvAppendAlone) {
  for (DType type : {DType::f32, DType::f16, DType::bf16})
    for (std::uint32_t dim : {1u, 3u, 64u})
      for (std::uint32_t position : {0u, 7u, 37u})
        check_kv_append({shape_of(5, 0, 3, dim, 0, false, type), position, 5});
}

struct Layout {
  std::array<std::uint32_t, 3> x, y;  // batch, head, row
};

// Every row of `s` that `live` and the table allow is turned, the others are left alone.
class RopeAloneGpu : public RopeGpu {
 protected:
  void check(RopeAppendShape s, std::uint32_t position, std::uint32_t live, const Layout& given = {}) {
    s.x_strides = given.x;
    s.y_strides = given.y;
    const std::array<std::uint32_t, 3> plain{s.rows * s.heads * s.head_dim, s.head_dim, s.heads * s.head_dim};
    const Layout l{given.x == std::array<std::uint32_t, 3>{} ? plain : given.x,
                   given.y == std::array<std::uint32_t, 3>{} ? plain : given.y};
    const auto dispatch = choose_rope(s, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    const auto reach = [&](const std::array<std::uint32_t, 3>& strides) {
      return (s.batch - 1) * strides[0] + (s.heads - 1) * strides[1] + (s.rows - 1) * strides[2] + s.head_dim;
    };
    const std::vector<float> x = random_floats(reach(l.x), 4), table = angles(s.context, s.rope_dims);
    Bytes in = to_bytes(x), table_bytes = to_bytes(table), y = poisoned(reach(l.y)),
          state = s.all_rows ? poisoned(1) : state_bytes(position, live);
    ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&in, &table_bytes, &state, &y}));
    const std::vector<float> out = from_bytes<float>(y);
    std::vector<bool> expected(out.size(), false);
    for (std::uint32_t b = 0; b < s.batch; ++b)
      for (std::uint32_t h = 0; h < s.heads; ++h)
        for (std::uint32_t row = 0; row < s.rows; ++row) {
          const std::uint32_t angle = s.table_by_row ? b * s.rows + row : position + row;
          if ((!s.all_rows && row >= live) || angle >= s.context) continue;
          const std::size_t from = b * l.x[0] + h * l.x[1] + row * l.x[2],
                            to = b * l.y[0] + h * l.y[1] + row * l.y[2];
          for (std::uint32_t d = 0; d < s.head_dim; ++d) {
            expected[to + d] = true;
            ASSERT_NO_FATAL_FAILURE(expect_near(out[to + d], turn(s, table, &x[from], d, angle), "rope"));
          }
        }
    for (std::size_t i = 0; i < out.size(); ++i)
      ASSERT_TRUE(expected[i] || std::isnan(out[i])) << "element " << i << " was touched";
  }
};

TEST_F(RopeAloneGpu, RowsAtAPosition) {
  for (bool adjacent : {true, false})
    for (std::uint32_t dim : {2u, 5u, 64u})
      for (std::uint32_t batch : {1u, 3u}) {
        RopeAppendShape s = shape_of(6, 3, 0, dim, dim / 2 * 2, adjacent, DType::f32);
        s.batch = batch;
        check(s, 33, 5);
        check(s, 37, 6);
      }
}

TEST_F(RopeAloneGpu, ATableOfTheRows) {
  for (std::uint32_t batch : {1u, 3u}) {
    RopeAppendShape s = shape_of(7, 2, 0, 10, 6, false, DType::f32, 7 * batch);
    s.batch = batch;
    s.table_by_row = true;
    check(s, 1000, 4);
    s.all_rows = true;
    check(s, 0, 0);
  }
}

TEST_F(RopeAloneGpu, HeadsFirstAndStrides) {
  RopeAppendShape s = shape_of(5, 3, 0, 7, 6, true, DType::f32);
  s.batch = 2;
  const std::array<std::uint32_t, 3> heads_first{3 * 5 * 7, 5 * 7, 7};
  check(s, 4, 5, {heads_first, heads_first});
  check(s, 4, 3, {heads_first, {}});
  check(s, 4, 5, {{200, 9, 31}, {0 + 400, 120, 8}});
  check(s, 4, 5, {{0, 7, 0}, {}});  // a broadcast batch and row
}

TEST_F(RopeGpu, LastRowAndAdvance) {
  const std::vector<float> x = random_floats(5 * 131, 8);
  Bytes state = state_bytes(17, 3);
  for (bool residual : {false, true}) {
    const auto last = choose_last_row(131, residual, target_of(*device_));
    ASSERT_TRUE(last) << last.error().message;
    Bytes in = to_bytes(x), other = to_bytes(x), y = poisoned(131);
    ASSERT_TRUE(run_dispatch(*device_, *last, {&in, &state, &other, &y}));
    std::vector<float> expected(x.begin() + 2 * 131, x.begin() + 3 * 131);
    for (float& value : expected) value += residual ? value : 0;
    EXPECT_EQ(from_bytes<float>(y), expected);
  }
  const auto advance = choose_advance(4, target_of(*device_));
  ASSERT_TRUE(advance) << advance.error().message;
  using Words = std::vector<std::uint32_t>;
  state = to_bytes(Words{17, 3, 0, 9, 6, 1, 2, 3});
  for (const Words& after : {Words{20, 4, 0, 9, 2, 1, 2, 3}, Words{24, 2, 0, 9, 0, 1, 2, 3},
                             Words{26, 0, 0, 9, 0, 1, 2, 3}, Words{26, 0, 0, 9, 0, 1, 2, 3}}) {
    ASSERT_TRUE(run_dispatch(*device_, *advance, {&state}));
    EXPECT_EQ(from_bytes<std::uint32_t>(state), after);
  }
}

TEST(ChooseRope, Refusals) {
  Target target;
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 4, 3, false, DType::f32), target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 4, 6, false, DType::f32), target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 4, 4, false, DType::q8_0), target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(1, 1, 1, 64, 4, false, DType::q4_0), target).ok());
  RopeAppendShape shape = shape_of(1, 1, 1, 64, 4, false, DType::q8_0);
  EXPECT_TRUE(choose_rope_append(shape, target).ok());
  shape.v_dim = 33;
  EXPECT_FALSE(choose_rope_append(shape, target).ok());
  shape = shape_of(41, 1, 1, 4, 4, false, DType::f32);
  shape.ring = true;
  EXPECT_FALSE(choose_rope_append(shape, target).ok());
  shape = shape_of(1, 1, 1, 4, 4, false, DType::f32);
  shape.block_size = 7;
  shape.blocks = 9;
  EXPECT_FALSE(choose_rope_append(shape, target).ok());
  shape.block_size = 8;
  EXPECT_TRUE(choose_rope_append(shape, target).ok());
  shape.blocks = 1u << 30;
  EXPECT_FALSE(choose_kv_append(shape, target).ok());
  shape = shape_of(1, 1, 1, 4, 4, false, DType::f32);
  shape.batch = 70000;
  EXPECT_FALSE(choose_rope(shape, target).ok());
  EXPECT_FALSE(choose_rope_append(shape_of(70000, 1, 1, 4, 4, false, DType::f32), target).ok());
}

}  // namespace
}  // namespace tessera::test
