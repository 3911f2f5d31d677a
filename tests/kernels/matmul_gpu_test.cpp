#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "interface/matmul.h"
#include "kernels/matmul_run.h"
#include "support/gpu_fixture.h"
#include "support/pairwise.h"
#include "support/refusal.h"
#include "support/sweep.h"

namespace tessera::test {
namespace {

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
    Bytes x = stored(p.shape.x_type, p.x), bias = to_bytes(p.bias), up_bias = to_bytes(p.up_bias);
    Bytes residual = stored(p.shape.y_type, p.residual), state = state_bytes(7, p.live_rows);
    Bytes y = poisoned(p.shape.y_type == DType::f16 ? (p.y_elems() + 1) / 2 : p.y_elems());
    Bytes* up = p.shape.gated ? &p.up.device : &p.w.device;
    Bytes norm = to_bytes(p.norm);
    EXPECT_TRUE(run_call(*device_, {*dispatch}, {},
                         {&x, &p.w.device, up, &bias, &up_bias, &y, &state, &residual, &norm}, slices));
    return y;
  }

  // The form for GPUs last.
  std::vector<Target> forms() const {
    std::vector<Target> all{target()};
    if (all[0].caps.software) all.push_back(all[0]);
    all.back().caps.software = false;
    return all;
  }

  void check(const MatmulShape& shape, std::uint32_t live = 0, std::uint32_t slices = 1) {
    Product p(shape, live);
    for (const Target& t : forms()) {
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

// Rows and columns of 1, primes, and those around the sizes of tiles; elements of a row of plain types.
constexpr std::uint32_t kRows[] = {1, 2, 9, 16, 31, 33, 65, 127};
constexpr std::uint32_t kColumns[] = {1, 2, 31, 33, 63, 65, 67, 127};
constexpr std::uint32_t kElements[] = {1, 61, 172};

// From a number of each option: the type of weights first.
MatmulShape shape_of(const std::vector<std::size_t>& options) {
  auto next = options.begin();
  const auto any = [&] { return *next++ != 0; };
  MatmulShape s;
  s.type = kWeightTypes[*next++];
  s.rows = kRows[*next++];
  s.n = kColumns[*next++];
  const std::uint32_t block = info(s.type).block_elems;
  s.k = block > 1 ? block * static_cast<std::uint32_t>(*next + 1) : kElements[*next];
  s.act = static_cast<std::uint32_t>(*++next);
  put_in_place(s, *++next);
  ++next;
  take_parts(s, any);
  s.precision = any() ? Precision::mixed : Precision::f32;
  return s;
}

TEST_F(MatmulGpu, EveryTwoOptions) {
  std::vector<std::size_t> levels{std::size(kWeightTypes), std::size(kRows), std::size(kColumns)};
  levels.insert(levels.end(), {std::size(kElements), 7, 4, 2, 2, 2, 2, 2, 2, 2, 2});
  Sweep sweep;
  for (const std::vector<std::size_t>& options : pairwise(levels)) {
    if (!sweep.next()) continue;
    const MatmulShape s = shape_of(options);
    check(s, s.dynamic_rows ? (2 * s.rows + 2) / 3 : 0);
    if (HasFatalFailure()) return;
  }
}

TEST_F(MatmulGpu, GroupsOfProducts) {
  Sweep sweep;
  for (std::uint32_t which = 0; which < 16; ++which)
    for (const std::uint32_t rows : {1u, 7u, 33u}) {
      const bool blocks = which % 3 == 1;
      MatmulShape s = shape_of(blocks ? DType::q4_0 : DType::f32, rows, 13,
                               blocks      ? 64
                               : which % 2 ? 21
                                           : 24);
      put_in_groups(s, which);
      s.gated = s.residual = which > 7;
      if (sweep.next()) check(s);
      if (HasFatalFailure()) return;
    }
}

// Whatever the remainders of k by 4 and by a chunk.
TEST_F(MatmulGpu, EveryLengthOfPlainRows) {
  Sweep sweep;
  for (DType type : {DType::f32, DType::f16, DType::bf16})
    for (std::uint32_t rows : {1u, 7u, 65u})
      for (std::uint32_t k = 1; k <= 20; ++k)
        if (sweep.next()) check(shape_of(type, rows, 5, k));
}

TEST_F(MatmulGpu, EveryNumberOfFewRows) {
  Sweep sweep;
  for (std::uint32_t rows = 1; rows <= 17; ++rows)
    if (sweep.next()) check(shape_of(DType::q5_k, rows, 61, 512));
}

TEST_F(MatmulGpu, WholeTilesOfRows) {
  for (std::uint32_t rows : {32u, 63u, 64u, 128u}) check(shape_of(DType::q8_0, rows, 64, 64));
}

// A row of x with a single 1 brings forth weights as they are decoded, whichever load a form has.
TEST_F(MatmulGpu, OneHotRowsReadTheWeights) {
  const std::uint32_t k = 256, n = 11;
  Sweep sweep;
  for (DType type : kWeightTypes)
    for (std::uint32_t rows : {16u, k}) {
      if (!sweep.next()) continue;
      Product p(shape_of(type, rows, n, k));
      for (std::uint32_t first = 0; first < k; first += rows) {
        std::fill(p.x.begin(), p.x.end(), 0.0f);
        for (std::uint32_t row = 0; row < rows; ++row) p.x[row * k + first + row] = 1;
        for (const Target& t : forms()) {
          const auto y = from_bytes<float>(run(p, t));
          ASSERT_EQ(y.size(), std::size_t{rows} * n);
          for (std::uint32_t row = 0; row < rows; ++row)
            for (std::uint32_t i = 0; i < n; ++i)
              ASSERT_EQ(y[row * n + i], p.w.values[i * k + first + row])
                  << p.what() << " element " << first + row << " of row " << i;
        }
      }
    }
}

// Twice as many workgroups as there are tiles, by rounding: those past the end have to leave y alone.
TEST_F(MatmulGpu, GridsPastTheEnd) {
  auto small = make_device({{"max_group_count_x", 5}});
  ASSERT_TRUE(small);
  device_ = std::move(small);
  for (std::uint32_t rows : {1u, 16u, 40u}) check(shape_of(DType::f32, rows, 393, 20));
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
  for (DType type : kWeightTypes) {
    check(shape_of(type, 1, 9, 4096));
    check(shape_of(type, 3, 9, 2048 + std::max(info(type).block_elems, 32u)));
  }
}

// Some drivers end the loops of an invocation after 65535 iterations in total.
TEST_F(MatmulGpu, VeryLongRows) {
  if (target().limits.max_storage_range < 1u << 24) return;
  check(shape_of(DType::f32, 1, 8, 200000));
  check(shape_of(DType::f32, 20, 3, 120000));
}

TEST_F(MatmulGpu, RowsNormalisedOnTheirLoad) {
  Sweep sweep;
  std::size_t i = 0;
  for (DType type : kWeightTypes) {
    const std::uint32_t rows = std::array{1u, 2u, 9u}[i++ % 3];
    if (!sweep.next()) continue;
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

TEST_F(MatmulGpu, GatedColumnsAWorkgroup) {
  MatmulShape s = shape_of(DType::q8_0, 1, 1027, 32);
  s.gated = true;
  check(s);
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
  for (std::uint32_t rows : {1u, 4u, 20u}) {
    Product p(shape_of(DType::f32, rows, 70, 20));
    p.x[3] = std::numeric_limits<float>::quiet_NaN();
    if (rows > 1) p.x[20 + 3] = std::numeric_limits<float>::infinity();
    for (const Target& t : forms()) {
      const std::vector<float> y = from_bytes<float>(run(p, t));
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
}

}  // namespace
}  // namespace tessera::test
