// What the choices of all forms of matmul share.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/choose.h"

namespace tessera {

inline constexpr std::string_view kNeedsMixed = "precision f32 leaves operands unrounded";
inline constexpr std::string_view kNoNorm = "x is normalised as it is loaded";

inline constexpr std::size_t kMatmulOperands = 9;

inline std::uint32_t x_stride(const MatmulShape& s) { return s.x_stride != 0 ? s.x_stride : s.k; }
inline std::uint32_t matrices(const MatmulShape& s) { return s.gated ? 2 : 1; }

// Products of a batch in groups, and how many matrices of x and of w they have.
inline std::uint32_t products_in_group(const MatmulShape& s) { return s.inner != 0 ? s.inner : s.batch; }
inline std::uint32_t groups_of_products(const MatmulShape& s) { return s.batch / products_in_group(s); }
inline std::uint32_t count_matrices(const MatmulShape& s, std::uint32_t batch, std::uint32_t outer) {
  return (batch != 0 ? products_in_group(s) : 1) * (outer != 0 ? groups_of_products(s) : 1);
}

// Software drivers, whose lanes are elements of a vector register: workgroups are one subgroup.
inline bool takes_lanes(const Target& t) {
  return t.caps.software && t.caps.subgroup_shuffle && one_subgroup_size(t) && t.limits.subgroup_size >= 4 &&
         t.limits.subgroup_size <= 64;
}

std::string describe(const MatmulShape& shape);

// Dimensions, strides and types.
Result<void> check_matmul(const MatmulShape& shape);

// kMatmulFlagVec8 and kMatmulFlagY4, which only kernels that ask for them need.
std::uint32_t wide_flags(const MatmulShape& shape);

// Elements of f32 or f16, in bytes.
inline double element_bytes(DType type) { return type == DType::f16 ? 2 : 4; }

// Kernels for few rows, whose lanes run along k: rows of x that a workgroup multiplies at most, the columns
// it computes at once, and its lanes, each of which loads `chunk` elements of weights at a time.
inline constexpr std::uint32_t kMatvecGroupRows = 8;
std::uint32_t matvec_columns(const MatmulShape& shape, std::uint32_t rows);
std::uint32_t matvec_lanes(const MatmulShape& shape, std::uint64_t groups, std::uint32_t chunk,
                           const Limits& limits);

// Fills in what all families of products have: the grid of `groups` workgroups a product, type, flags and
// act, the push struct, the counts. unsupported if its loops are too long for the device.
Result<void> complete_matmul(const MatmulShape& shape, const Target& target, std::uint64_t groups,
                             std::uint32_t more_flags, Dispatch& d);

// kMatmulFlag* of the shape.
std::uint32_t matmul_flags(const MatmulShape& shape);

// One form each, in precision mixed; unsupported says why not.
Result<Dispatch> choose_matmul_coopmat(const MatmulShape& shape, const Target& target);
Result<Dispatch> choose_matmul_coopmat2(const MatmulShape& shape, const Target& target);
Result<MatmulChoice> choose_matmul_dot(const MatmulShape& shape, const Target& target);

// Appends choose_matmul_call's dispatches to those of a larger call, which has operand i of the product as
// operands[i], and their scratch behind the scratch that is there.
Result<void> add_product(const MatmulShape& shape, const Target& target,
                         const std::array<OperandIndex, kMatmulOperands>& operands, AttentionChoice& out);

}  // namespace tessera
