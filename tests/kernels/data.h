// Inputs of kernel tests: reproducible numbers, and weights in both layouts.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "kernels/layout.h"
#include "support/random_blocks.h"
#include "support/run_dispatch.h"

namespace tessera::test {

inline std::vector<float> random_floats(std::size_t count, std::uint32_t seed, float spread = 1.0f) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-spread, spread);
  std::vector<float> out(count);
  for (float& v : out) v = uniform(engine);
  return out;
}

struct TestWeights {
  std::vector<float> values;  // what the stored weights mean, (n, k)
  Bytes device;               // n rows of device layout
};

// n rows of a file's blocks.
inline TestWeights weights_of(DType type, std::uint32_t n, std::uint32_t k, const Bytes& file) {
  const std::uint64_t row = device_row_bytes(type, k), row_bytes = file_bytes(k, info(type));
  TestWeights out{std::vector<float>(std::size_t{n} * k), Bytes(n * row)};
  decode_row(type, file, out.values);
  for (std::uint32_t i = 0; i < n; ++i)
    repack_row(type, k, std::span(file).subspan(i * row_bytes, row_bytes),
               std::span(out.device).subspan(i * row, row));
  return out;
}

inline TestWeights encoded_weights(DType type, std::uint32_t n, std::uint32_t k,
                                   const std::vector<float>& values) {
  Bytes file(n * file_bytes(k, info(type)));
  encode_row(type, values, file);
  return weights_of(type, n, k, file);
}

inline TestWeights make_weights(DType type, std::uint32_t n, std::uint32_t k, std::uint32_t seed) {
  if (info(type).block_elems == 1)
    return encoded_weights(type, n, k, random_floats(std::size_t{n} * k, seed));
  return weights_of(type, n, k,
                    random_blocks(type, n * file_bytes(k, info(type)) / info(type).block_bytes, seed));
}

// Activations as the device has them in f32 or f16, and the numbers that they are then.
inline Bytes stored(DType type, const std::vector<float>& values) {
  if (type == DType::f32) return to_bytes(values);
  std::vector<std::uint16_t> halves((values.size() + 1) / 2 * 2);
  for (std::size_t i = 0; i < values.size(); ++i) halves[i] = f32_to_f16(values[i]);
  return to_bytes(halves);
}
inline std::vector<float> rounded(DType type, std::vector<float> values) {
  if (type == DType::f16)
    for (float& v : values) v = f16_to_f32(f32_to_f16(v));
  return values;
}

inline Bytes state_bytes(std::uint32_t position, std::uint32_t rows) {
  return to_bytes(std::vector<std::uint32_t>{position, rows, 0, 0, 0, 0, 0, 0});
}

inline Bytes poisoned(std::size_t words) { return to_bytes(std::vector<std::uint32_t>(words, kPoison)); }

// The slow activations, in double; numbers of graph::Activation.
inline double activate(std::uint32_t act, double x) {
  switch (act) {
    case 1: return x / (1 + std::exp(-x));
    case 2:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case 3: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case 4: return x < 0 ? 0 : x;
    case 5: return x < 0 ? 0 : x * x;
    case 6: return 1 / (1 + std::exp(-x));
    default: return x;
  }
}

// How far an f32 kernel may be from activate(x) when x itself is off by `error`: no activation here is
// steeper than 1.13 (relu2: 2|x|; sigmoid: 1/4); exp() is off by (3 + 2|argument|) ulp, which the activation
// multiplies by at most 0.3 |x| where the argument is not far beyond 10, and sigmoid y by 1 - y.
inline double activation_bound(std::uint32_t act, double x, double error) {
  const double ulp = 0x1p-23;
  const double steep = act == 5 ? 2 * std::abs(x) + error : act == 6 ? 0.25 : act == 0 || act == 4 ? 1 : 1.13;
  const double own = act == 0 || act == 4 ? 0
                     : act == 5           ? x * x * ulp
                     : act == 6           ? 5 * ulp
                                          : 40 * ulp * std::min(std::abs(x), 1.0) + 4 * ulp * std::abs(x);
  return steep * error + own;
}

}  // namespace tessera::test
