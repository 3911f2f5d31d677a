// The elements of a tensor under strides, as a test fills and encodes them.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "kernels/data.h"

namespace tessera::test {

// Elements of a strided tensor: NaN where nothing was put.
class Elements {
 public:
  Elements() = default;
  Elements(DType type, Strides strides, Strides extents) : type_(type), strides_(strides) {
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < 4; ++i)
      if (extents[i] == 0)
        return;
      else
        last += strides[i] * (extents[i] - 1);
    values_.assign(last + 1, std::numeric_limits<float>::quiet_NaN());
  }
  std::uint64_t at(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) const {
    return a * strides_[0] + b * strides_[1] + c * strides_[2] + d * strides_[3];
  }
  float& operator[](std::uint64_t i) { return values_[i]; }
  double operator()(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) const {
    return values_[at(a, b, c, d)];
  }
  // The bytes as kernels read them; values become what was stored. `row`: elements of a row of blocks.
  Bytes encode(std::uint32_t row) {
    if (type_ == DType::f32) return to_bytes(values_);
    if (type_ == DType::q8_0) return encode_blocks(row);
    std::vector<std::uint16_t> halves((values_.size() + 1) / 2 * 2, 0x7fff);
    for (std::size_t i = 0; i < values_.size(); ++i) {
      halves[i] = type_ == DType::f16 ? f32_to_f16(values_[i]) : f32_to_bf16(values_[i]);
      values_[i] = type_ == DType::f16 ? f16_to_f32(halves[i]) : bf16_to_f32(halves[i]);
    }
    return to_bytes(halves);
  }

 private:
  Bytes encode_blocks(std::uint32_t row) {
    const std::uint64_t bytes = device_row_bytes(type_, row), rows = values_.size() / row;
    Bytes out = to_bytes(std::vector<std::uint32_t>(rows * bytes / 4, 0x7fff7fffu));
    Bytes file(file_bytes(row, info(type_)));
    for (std::uint64_t r = 0; r < rows; ++r) {
      const std::span<float> values = std::span(values_).subspan(r * row, row);
      if (std::isnan(values[0])) continue;
      encode_row(type_, values, file);
      decode_row(type_, file, values);
      repack_row(type_, row, file, std::span(out).subspan(r * bytes, bytes));
    }
    return out;
  }

  DType type_ = DType::f32;
  Strides strides_{};
  std::vector<float> values_;
};

}  // namespace tessera::test
