#include "kernels/matmul_shape.h"

#include <bit>
#include <utility>

#include "base/dtype.h"
#include "interface/matmul.h"
#include "kernels/grid.h"
#include "kernels/layout.h"
#include "kernels/loops.h"

namespace tessera {
namespace {

// Elements from the first to the last that a dispatch touches; a double, for no product of 32 bits wraps
// there.
double span_of(double rows, double stride, double columns, double batch, double batch_stride) {
  return (rows - 1) * stride + columns + (batch - 1) * batch_stride;
}
double grouped(const MatmulShape& s, double span, double outer) {
  return span + (groups_of_products(s) - 1) * outer;
}

// Whether no two products of the batch write the same element: one after the other, or side by side in rows.
bool apart(const MatmulShape& s) {
  const double last = span_of(s.rows, s.y_stride, s.n, 1, 0);
  return s.batch <= 1 || s.y_batch >= last ||
         (s.y_batch >= s.n && s.first + span_of(1, 0, s.n, s.batch, s.y_batch) <= s.y_stride);
}

}  // namespace

std::uint32_t matmul_flags(const MatmulShape& s) {
  const bool vec4 = s.k % 4 == 0 && x_stride(s) % 4 == 0 && s.x_batch % 4 == 0 && s.x_outer % 4 == 0;
  return (s.bias ? shader::kMatmulFlagBias : 0) | (s.gated ? shader::kMatmulFlagGated : 0) |
         (s.dynamic_rows ? shader::kMatmulFlagDynamic : 0) | (vec4 ? shader::kMatmulFlagVec4 : 0) |
         (s.residual ? shader::kMatmulFlagResidual : 0) | (s.scale != 1 ? shader::kMatmulFlagScale : 0) |
         (s.x_type == DType::f16 ? shader::kMatmulFlagXHalf : 0) |
         (s.y_type == DType::f16 ? shader::kMatmulFlagYHalf : 0) |
         (s.batch > 1 ? shader::kMatmulFlagBatch : 0) | (s.biases ? shader::kMatmulFlagBiases : 0);
}

std::string describe(const MatmulShape& shape) {
  return "matmul of " + std::to_string(shape.rows) + " rows, n=" + std::to_string(shape.n) +
         " k=" + std::to_string(shape.k) + " " + std::string(info(shape.type).name);
}

Result<void> check_matmul(const MatmulShape& shape) {
  const std::string what = describe(shape);
  const std::uint64_t row_bytes = device_row_bytes(shape.type, shape.k);
  if (shape.rows == 0 || shape.n == 0 || shape.k == 0 || shape.batch == 0)
    return Error{Code::invalid_argument,
                 what + ": a dimension or the batch, " + std::to_string(shape.batch) + ", is 0"};
  if (row_bytes == 0 || !is_real(shape.type))
    return Error{Code::invalid_argument, what + ": weights of this type cannot have that k"};
  if (std::uint64_t{shape.first} + shape.n > shape.y_stride)
    return Error{Code::invalid_argument, what + ": columns from " + std::to_string(shape.first) +
                                             " on do not fit " + std::to_string(shape.y_stride) +
                                             " columns of y"};
  if (x_stride(shape) < shape.k)
    return Error{Code::invalid_argument, what + ": rows of x are " + std::to_string(shape.x_stride) +
                                             " elements apart, fewer than k"};
  if (shape.norm && (shape.rows > kMatmulFewRows || shape.x_type != DType::f32))
    return Error{Code::unsupported, what + ": only few rows of F32 are normalised as they are loaded"};
  for (const DType type : {shape.x_type, shape.y_type})
    if (type != DType::f32 && type != DType::f16)
      return Error{Code::unsupported,
                   what + ": activations of " + std::string(info(type).name) + ", they must be F32 or F16"};
  if (shape.batch % products_in_group(shape) != 0)
    return Error{Code::invalid_argument, what + ": a batch of " + std::to_string(shape.batch) +
                                             " is no whole groups of " + std::to_string(shape.inner)};
  if (!apart(shape))
    return Error{Code::invalid_argument, what + ": products of the batch, " + std::to_string(shape.y_batch) +
                                             " elements apart, overlap in y"};
  const std::uint32_t inner = products_in_group(shape);
  const std::pair<const char*, double> spans[] = {
      {"x",
       grouped(shape, span_of(shape.rows, x_stride(shape), shape.k, inner, shape.x_batch), shape.x_outer)},
      {"the weights' words", grouped(shape, span_of(shape.n, 1, 1, inner, shape.w_batch), shape.w_outer) *
                                 static_cast<double>(row_bytes) / 4},
      {"y", span_of(shape.rows, shape.y_stride, shape.y_stride, shape.batch, shape.y_batch)}};
  for (const auto& [name, span] : spans)
    if (span > 0xfffff000p0)  // indices are 32 bits, and lanes count a little past the end
      return Error{Code::unsupported, what + ": more than 2^32 elements of " + name};
  return {};
}

std::uint32_t wide_flags(const MatmulShape& s) {
  const bool vec8 = s.k % 8 == 0 && x_stride(s) % 8 == 0 && s.x_batch % 8 == 0 && s.x_outer % 8 == 0;
  const bool y4 = s.n % 4 == 0 && s.first % 4 == 0 && s.y_stride % 4 == 0 && s.y_batch % 4 == 0;
  return (vec8 ? shader::kMatmulFlagVec8 : 0) | (y4 ? shader::kMatmulFlagY4 : 0);
}

Result<void> complete_matmul(const MatmulShape& shape, const Target& target, std::uint64_t groups,
                             std::uint32_t more_flags, Dispatch& d) {
  TSR_TRY(d.grid, fold_grid(groups * shape.batch, target.limits, describe(shape)));
  d.spec[shader::kMatmulSpecType] = static_cast<std::uint32_t>(shape.type);
  d.spec[shader::kMatmulSpecFlags] = matmul_flags(shape) | more_flags;
  d.spec[shader::kMatmulSpecAct] = shape.act;
  const std::uint64_t row_bytes = device_row_bytes(shape.type, shape.k);
  const auto row_words = static_cast<std::uint32_t>(row_bytes / 16);
  d.push = {shape.rows,
            shape.n,
            shape.k,
            row_words,
            shape.first,
            shape.y_stride,
            d.grid[0],
            d.grid[1],
            x_stride(shape),
            shape.x_batch,
            shape.w_batch,
            shape.y_batch,
            shape.batch,
            products_in_group(shape),
            shape.x_outer,
            shape.w_outer,
            std::bit_cast<std::uint32_t>(shape.scale)};
  const double batch = shape.batch;
  d.flops = 2.0 * shape.rows * shape.n * shape.k * matrices(shape) * batch;
  const double x_matrices = count_matrices(shape, shape.x_batch, shape.x_outer),
               w_matrices = count_matrices(shape, shape.w_batch, shape.w_outer);
  d.bytes = matrices(shape) * shape.n * static_cast<double>(row_bytes) * w_matrices +
            x_matrices * shape.rows * element_bytes(shape.x_type) * shape.k +
            batch * shape.rows * element_bytes(shape.y_type) * shape.n * (shape.residual ? 2 : 1);
  return check_loops(d, target.limits, describe(shape));
}

}  // namespace tessera
