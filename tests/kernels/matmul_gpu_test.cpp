#include <bit>
#include <cmath>
#include <limits>

#include "interface/matmul.h"
#include "kernels/matmul_case.h"
#include "support/gpu_fixture.h"
#include "support/refusal.h"

namespace tessera::test {
namespace {

constexpr DType kTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
                            DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k};

// Each case runs in the form that the device gets; on a software driver in the one for GPUs too.
class MatmulGpu : public GpuTest {
 protected:
  std::uint32_t most_invocations_ = 1024;
  std::uint32_t group_ = 0;  // invocations of a matrix-vector workgroup instead of the chosen ones

  Target target() const {
    Target target = target_of(*device_);
    target.limits.max_group_invocations = std::min(target.limits.max_group_invocations, most_invocations_);
    return target;
  }

  // Bytes of y.
  Bytes run(Product& p, const Target& target, std::uint32_t slices = 1) {
    auto dispatch = choose_matmul(p.shape, target);
    EXPECT_TRUE(dispatch) << dispatch.error().message;
    if (!dispatch) return {};
    if (group_ != 0) dispatch->spec[shader::kMatmulSpecGroup] = group_;
    Bytes x = Product::stored(p.shape.x_type, p.x), bias = to_bytes(p.bias), up_bias = to_bytes(p.up_bias);
    Bytes residual = Product::stored(p.shape.y_type, p.residual), state = state_bytes(7, p.live_rows);
    Bytes y = poisoned(p.shape.y_type == DType::f16 ? (p.y_elems() + 1) / 2 : p.y_elems());
    Bytes* up = p.shape.gated ? &p.up.device : &p.w.device;
    Bytes norm = to_bytes(p.norm);
    EXPECT_TRUE(run_call(*device_, {*dispatch}, {},
                         {&x, &p.w.device, up, &bias, &up_bias, &y, &state, &residual, &norm}, slices));
    return y;
  }

  void compare(const Product& p, const Bytes& bytes) {
    const bool half = p.shape.y_type == DType::f16;
    const auto words = from_bytes<std::uint32_t>(bytes);
    const auto halves = from_bytes<std::uint16_t>(bytes);
    const auto untouched = [&](std::size_t i) {
      return half ? halves[i] == (i % 2 == 0 ? kPoison & 0xffff : kPoison >> 16) : words[i] == kPoison;
    };
    std::vector<bool> mine(p.y_elems());
    for (std::uint32_t b = 0; b < p.shape.batch; ++b)
      for (std::uint32_t row = 0; row < p.live_rows; ++row)
        for (std::uint32_t n = 0; n < p.shape.n; ++n) {
          const std::size_t i = p.y_at(b, row, n);
          mine[i] = true;
          const double y = half ? f16_to_f32(halves[i]) : std::bit_cast<float>(words[i]);
          const Product::Value e = p.expected(b, row, n);
          ASSERT_LE(std::abs(y - e.value), e.bound)
              << p.what() << ": y[" << b << "," << row << "," << n << "] is " << y << ", not " << e.value;
        }
    for (std::size_t i = 0; i < mine.size(); ++i)
      ASSERT_TRUE(mine[i] || untouched(i)) << p.what() << ": element " << i << " of y was touched";
  }

  void check(const MatmulShape& shape, std::uint32_t live = 0, std::uint32_t slices = 1) {
    Product p(shape, live);
    Target t = target();
    for (const bool software : {true, false}) {
      if (software && !t.caps.software) continue;
      t.caps.software = software;
      const Bytes y = run(p, t, slices);
      ASSERT_FALSE(y.empty());
      compare(p, y);
      if (HasFatalFailure()) return;
    }
  }
};

MatmulShape shape_of(DType type, std::uint32_t rows, std::uint32_t n, std::uint32_t k) {
  MatmulShape s;
  s.type = type;
  s.rows = rows;
  s.n = n;
  s.k = k;
  return s;
}

TEST_F(MatmulGpu, AwkwardSizes) {
  for (DType type : kTypes) {
    const std::uint32_t block = info(type).block_elems;
    const std::vector<std::uint32_t> ks = block > 1
                                              ? std::vector<std::uint32_t>{block, 3 * block, 512 + block}
                                              : std::vector<std::uint32_t>{1, 3, 4, 12, 61, 172};
    for (std::uint32_t k : ks)
      for (std::uint32_t rows : {1u, 7u, 65u})
        for (std::uint32_t n : {1u, 5u, 67u}) check(shape_of(type, rows, n, k));
  }
}

TEST_F(MatmulGpu, EveryTile) {
  for (std::uint32_t rows : {8u, 9u, 16u, 17u, 32u, 33u, 64u, 129u})
    for (DType type : {DType::f32, DType::q8_0}) check(shape_of(type, rows, 130, 96));
}

TEST_F(MatmulGpu, TilesOfSmallDevices) {
  for (std::uint32_t most : {64u, 16u, 4u})
    for (bool gated : {false, true}) {
      most_invocations_ = most;
      MatmulShape s = shape_of(DType::f16, 37, 35, 43);
      s.gated = gated;
      check(s);
    }
}

TEST_F(MatmulGpu, ManyColumnsAWorkgroup) {
  for (DType type : {DType::f32, DType::q4_0})
    for (std::uint32_t n : {515u, 2051u}) check(shape_of(type, 1, n, 64));
}

TEST_F(MatmulGpu, EveryNumberOfFewRows) {
  for (DType type : {DType::f16, DType::q4_k})
    for (std::uint32_t rows = 2; rows <= 17; rows += rows < 10 ? 1 : 3)
      check(shape_of(type, rows, 61, 2 * std::max(info(type).block_elems, 32u)));
}

TEST_F(MatmulGpu, EveryGroupSizeReduces) {  // one subgroup, several, and one that is not full
  Target gpu = target();
  gpu.caps.software = false;
  for (std::uint32_t rows : {1u, 3u})
    for (std::uint32_t group : {1u, 2u, 4u, 8u, 32u, 128u}) {
      group_ = group;
      Product p(shape_of(DType::f32, rows, 259, 301));
      compare(p, run(p, gpu));
    }
}

TEST_F(MatmulGpu, FewLiveRowsOfFew) {
  MatmulShape s = shape_of(DType::f16, 6, 40, 20);
  s.dynamic_rows = true;
  for (std::uint32_t live : {1u, 4u, 6u}) check(s, live);
}

TEST_F(MatmulGpu, LongRows) {
  for (DType type : kTypes) {
    check(shape_of(type, 1, 9, 4096));
    check(shape_of(type, 3, 9, 2048 + std::max(info(type).block_elems, 32u)));
  }
}

// Each type and family with all of the epilogue.
TEST_F(MatmulGpu, EpiloguesOfEveryType) {
  for (DType type : kTypes)
    for (std::uint32_t rows : {1u, 6u, 33u}) {
      MatmulShape s = shape_of(type, rows, 35, std::max(info(type).block_elems, 32u));
      s.act = 1 + (rows + static_cast<std::uint32_t>(type)) % 6;
      s.gated = (static_cast<std::uint32_t>(type) + rows) % 2 == 0;
      s.bias = s.residual = true;
      s.scale = -0.75f;
      check(s);
    }
}

TEST_F(MatmulGpu, EachPartOfTheEpilogueAlone) {
  for (std::uint32_t rows : {1u, 3u, 40u})
    for (std::uint32_t part = 0; part < 8; ++part) {
      MatmulShape s = shape_of(DType::f16, rows, 21, 37);
      s.bias = (part & 1) != 0;
      s.residual = (part & 2) != 0;
      s.scale = (part & 4) != 0 ? 2.5f : 1;
      check(s);
    }
}

TEST_F(MatmulGpu, RowsNormalisedOnTheirLoad) {
  for (DType type : kTypes)
    for (std::uint32_t rows : {1u, 2u, 9u}) {
      MatmulShape s = shape_of(type, rows, 35, 2 * std::max(info(type).block_elems, 32u));
      s.norm = true;
      s.eps = 1e-5f;
      s.gated = rows == 2;
      s.act = s.gated ? 1 : 0;
      s.bias = rows == 9;
      check(s);
    }
}

TEST_F(MatmulGpu, NormsOfAwkwardSizes) {
  for (std::uint32_t k : {1u, 3u, 12u, 61u, 260u, 1028u})
    for (std::uint32_t rows : {1u, 5u, 16u}) {
      MatmulShape s = shape_of(DType::f16, rows, 7, k);
      s.norm = s.dynamic_rows = true;
      s.eps = 0.25f;
      s.residual = rows == 5;
      s.x_stride = k + rows;
      check(s, (rows + 1) / 2);
    }
}

TEST_F(MatmulGpu, EveryGroupSizeNormalises) {
  Target gpu = target();
  gpu.caps.software = false;
  for (std::uint32_t group : {1u, 2u, 8u, 32u, 128u}) {
    group_ = group;
    MatmulShape s = shape_of(DType::f32, 3, 19, 301);
    s.norm = true;
    Product p(s);
    compare(p, run(p, gpu));
  }
}

TEST_F(MatmulGpu, ManyRowsAreNotNormalised) {
  MatmulShape s = shape_of(DType::f32, 17, 4, 4);
  s.norm = true;
  s.y_stride = 4;
  expect_refused(choose_matmul(s, target()), Code::unsupported, {"17 rows", "normalised"});
}

TEST_F(MatmulGpu, HalfActivations) {
  for (DType type : {DType::f32, DType::f16, DType::q8_0, DType::q5_k})
    for (std::uint32_t rows : {1u, 4u, 40u})
      for (std::uint32_t k : {256u, 257u}) {
        if (k % info(type).block_elems != 0) continue;
        MatmulShape s = shape_of(type, rows, 19, k);
        for (bool x : {false, true})
          for (bool y : {false, true}) {
            s.x_type = x ? DType::f16 : DType::f32;
            s.y_type = y ? DType::f16 : DType::f32;
            s.residual = rows == 4;
            check(s);
          }
      }
}

TEST_F(MatmulGpu, StridesAndBatches) {
  for (DType type : {DType::f32, DType::f16, DType::q4_0, DType::q6_k})
    for (std::uint32_t rows : {1u, 6u, 35u})
      for (bool shared : {false, true})
        for (std::uint32_t gap : {0u, 3u, 8u}) {
          MatmulShape s = shape_of(type, rows, 13, std::max(info(type).block_elems, 32u));
          s.x_stride = s.k + gap;
          s.y_stride = s.n + gap;
          s.batch = 3;
          s.x_batch = rows * s.x_stride + gap;
          s.y_batch = rows * s.y_stride + 2 * gap;
          s.w_batch = shared ? 0 : s.n + 1;
          s.residual = gap == 3;
          check(s);
        }
}

TEST_F(MatmulGpu, BiasActivationAndGate) {
  for (std::uint32_t act = 0; act <= 6; ++act)
    for (std::uint32_t rows : {1u, 11u})
      for (bool gated : {false, true}) {
        MatmulShape s = shape_of(DType::f32, rows, 37, 30);
        s.act = act;
        s.gated = gated;
        s.bias = true;
        check(s);
      }
}

TEST_F(MatmulGpu, GatedOfEveryType) {
  for (DType type : kTypes)
    for (std::uint32_t rows : {1u, 70u}) {
      MatmulShape s = shape_of(type, rows, 70, 2 * std::max(info(type).block_elems, 32u));
      s.act = 1;
      s.gated = true;
      check(s);
    }
}

TEST_F(MatmulGpu, GatedColumnsAWorkgroup) {
  MatmulShape s = shape_of(DType::q8_0, 1, 1027, 32);
  s.gated = true;
  check(s);
}

TEST_F(MatmulGpu, AWindowOfColumns) {
  for (std::uint32_t rows : {1u, 20u}) {
    MatmulShape s = shape_of(DType::f16, rows, 33, 24);
    s.first = 10;
    s.y_stride = 50;
    s.bias = true;
    check(s);
  }
}

TEST_F(MatmulGpu, RowsFromTheState) {
  for (std::uint32_t live : {1u, 5u, 64u, 65u, 130u}) {
    MatmulShape s = shape_of(DType::f32, 130, 67, 36);
    s.dynamic_rows = true;
    check(s, live);
  }
}

TEST_F(MatmulGpu, SlicesAndAFoldedGrid) {
  auto small = make_device({{"max_group_count_x", 7}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  check(shape_of(DType::f32, 1, 203, 20), 0, 3);
  check(shape_of(DType::f32, 70, 600, 20), 0, 2);
}

TEST_F(MatmulGpu, NotANumberSpreads) {
  for (std::uint32_t rows : {1u, 4u}) {
    Product p(shape_of(DType::f32, rows, 70, 20));
    p.x[3] = std::numeric_limits<float>::quiet_NaN();
    if (rows > 1) p.x[20 + 3] = std::numeric_limits<float>::infinity();
    const std::vector<float> y = from_bytes<float>(run(p, target()));
    ASSERT_EQ(y.size(), std::size_t{rows} * 70);
    for (std::uint32_t n = 0; n < 70; ++n) {
      EXPECT_TRUE(std::isnan(y[n]));
      if (rows > 1) {
        EXPECT_TRUE(std::isinf(y[70 + n]));
      }
      for (std::uint32_t row = 2; row < rows; ++row) EXPECT_TRUE(std::isfinite(y[row * 70 + n]));
    }
  }
}

}  // namespace
}  // namespace tessera::test
