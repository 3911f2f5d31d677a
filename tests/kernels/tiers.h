// Which forms of matmul for precision mixed a device has.
#pragma once

#include <algorithm>
#include <string_view>

#include "kernels/choose.h"

namespace tessera::test {

// matmul_dot: products with weights in blocks.
inline bool has_dots(const DeviceReport& device, DType type, std::uint32_t rows) {
  return device.caps.int_dot && info(type).block_elems > 1 &&
         (rows > kMatmulFewRows || device.caps.subgroup_arithmetic);
}

// matmul_coopmat, or matmul_coopmat2: products of many rows.
inline bool has_matrices(const DeviceReport& device, std::string_view form, std::uint32_t rows) {
  const Caps& caps = device.caps;
  const Matrices& m = device.matrices;
  const bool flexible = form == "matmul_coopmat2";
  const auto takes = [&](const MatrixShape& s) {
    return s.flexible == flexible && s.a == MatrixType::f16 && s.c == MatrixType::f32 &&
           ((s.scope == MatrixScope::subgroup && caps.subgroup_size_control) ||
            (flexible && s.scope == MatrixScope::workgroup && s.group <= m.max_group));
  };
  return rows > kMatmulFewRows && (flexible ? caps.coopmat2 : caps.coopmat) && caps.fp16 &&
         m.emulated.empty() && std::ranges::any_of(m.shapes, takes);
}

inline bool has_form(const DeviceReport& device, std::string_view form, DType type, std::uint32_t rows) {
  return form == "matmul_dot" ? has_dots(device, type, rows) : has_matrices(device, form, rows);
}

// Whether a kernel is that form's.
inline bool is_form(std::string_view kernel, std::string_view form) {
  return kernel == form || (form == "matmul_dot" && kernel == "matmul_dot_few");
}

}  // namespace tessera::test
