// What a device's matrix units multiply, as plain data: what kernel choice looks at beside limits and
// capabilities.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "device/limits.h"

namespace tessera {

enum class MatrixType : std::uint8_t { f16, bf16, f32, s8, u8, s32, u32, other };
enum class MatrixScope : std::uint8_t { subgroup, workgroup, other };

// c(m,n) += a(m,k) b(k,n); a and b of one type, c and the result of another.
struct MatrixShape {
  std::uint32_t m = 0, n = 0, k = 0;  // flexible: any multiple of them up to Matrices::max_dimension
  MatrixType a = MatrixType::other, c = MatrixType::other;
  MatrixScope scope = MatrixScope::subgroup;
  bool flexible = false;    // of VK_NV_cooperative_matrix2
  std::uint32_t group = 0;  // workgroup scope: invocations of the workgroup
  bool operator==(const MatrixShape&) const = default;
};

struct Matrices {
  std::vector<MatrixShape> shapes;    // without saturation; as the driver orders them, flexible ones last
  std::uint32_t max_dimension = 0;    // of flexible shapes
  std::uint32_t max_group = 0;        // invocations of a workgroup at workgroup scope; 0: no such scope
  std::uint32_t reserved_shared = 0;  // bytes of shared memory that workgroup scope takes away
  bool tensor_addressing = false;     // cooperativeMatrixTensorAddressing
  // Why the driver's matrices are no matrix units, so that scalar code is faster; empty when they are.
  std::string emulated;
};

// Takes away what `caps` no longer allow.
void restrict_to(const Caps& caps, Matrices& matrices);

std::string_view name(MatrixType type);  // "f16"
// "16x16x16 f16->f32", "8x8x8 f16->f32 flexible", "32x32x16 f16->f32 flexible workgroup of 128".
std::string describe(const MatrixShape& shape);

}  // namespace tessera
