#include "reference/bounds.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace tessera::bounds {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// x sigmoid(x): the exponential's error is damped by 1 - sigmoid; then a sum, a division and perhaps a
// product. The floor covers exp(-x) past the range where divisions are accurate.
double silu(double x) {
  const double y = std::fabs(x) * sigmoid(x);
  return y * ((1 - sigmoid(x)) * exp_relative(x) + (kDivUlps + 2) * kUlp) + 4 * kFlush * (1 + std::fabs(x));
}

double sigmoid_error(double x) {
  const double y = sigmoid(x);
  return y * ((1 - y) * exp_relative(x) + (kDivUlps + 1) * kUlp) + 4 * kFlush;
}

// 0.5 x (1 + tanh z), z = sqrt(2/pi) (x + 0.044715 x^3): z is off by 6 roundings; tanh, as sinh/cosh or
// through one exponential of 2z, by twice the exponential's error and a division.
double gelu_tanh(double x) {
  const double z = std::fabs(0.7978845608028654 * (x + 0.044715 * x * x * x));
  const double t = std::tanh(z);
  return 0.5 * std::fabs(x) * (tanh_error(z) + (1 - t * t) * 6 * kUlp * z + 4 * kUlp) + 4 * kFlush;
}

double gelu_erf(double x) {
  const double z = std::fabs(x) * 0.7071067811865476;
  const double slope = 1.1283791670955126 * std::exp(-z * z);
  return 0.5 * std::fabs(x) * (kErf + slope * 2 * kUlp * z + 4 * kUlp) + 4 * kFlush;
}

}  // namespace

double gamma(double n) { return n * kUnit < 1 ? n * kUnit / (1 - n * kUnit) : kInfinity; }

double tanh_error(double x) {
  return 2 * exp_relative(std::min(std::fabs(x), kTanhClamp)) + (kDivUlps + 1) * kUlp;
}

double rounding(DType type, double magnitude) {
  const double exponent = magnitude > 0 ? std::floor(std::log2(magnitude)) : -1000;
  if (type == DType::f16) return magnitude < kFlushF16 ? 0x1p-25 : std::exp2(exponent - 11);
  if (type == DType::bf16) return magnitude < kFlush ? 0x1p-134 : std::exp2(exponent - 8);
  return 0;
}

double stored(DType type, double value, double error) {
  const double most = std::fabs(value) + error;
  const double largest = type == DType::f16    ? kMostF16
                         : type == DType::bf16 ? 0x1.fep127
                                               : std::numeric_limits<float>::max();
  if (!is_real(type)) return 0;
  return most <= largest ? error + rounding(type, most) : kInfinity;
}

namespace {

double f16_scale(double largest) { return f16_to_f32(f32_to_f16(static_cast<float>(largest / 127))); }

}  // namespace

Q8Block stored_q8_0(std::span<const double, 32> values, std::span<const double, 32> errors) {
  Q8Block out;
  std::array<float, 32> in{}, decoded{};
  std::array<std::byte, 34> file{};
  std::ranges::transform(values, in.begin(), [](double v) { return static_cast<float>(v); });
  encode_row(DType::q8_0, in, file);
  decode_row(DType::q8_0, file, decoded);
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    largest = std::max(largest, std::fabs(values[i]));
    error = std::max(error, errors[i] > 0 ? errors[i] + kUnit * std::fabs(values[i]) : 0.0);
  }
  const double scale = f16_scale(largest), low = f16_scale(std::max(largest - error, 0.0)),
               high = f16_scale(largest + error);
  const double moved = error == 0 ? 0 : std::max(high - scale, scale - low);
  for (std::size_t i = 0; i < in.size(); ++i) {
    out.expected[i] = decoded[i];
    if (!std::isfinite(largest) || !std::isfinite(high)) {
      out.bound[i] = kInfinity;
      continue;
    }
    if (error == 0 || largest == 0) {
      out.bound[i] = error == 0 ? 0 : high * 127;
      continue;
    }
    // In quants: where the element is, and how far the device's may be from there.
    const double at = std::fabs(values[i]) * 127 / largest;
    const double off = error * 127 / largest * (1 + at / 127) + 8 * kUlp * (at + 1);
    const double first = std::floor(std::max(at - off, 0.0) + 0.5), last = std::floor(at + off + 0.5);
    const double quant = std::floor(at + 0.5);
    out.bound[i] = std::max(last - quant, quant - first) * scale + last * moved;
  }
  return out;
}

double feature(FeatureMap map, double x) {
  switch (map) {
    case FeatureMap::elu_plus_one: return x > 0 ? kUlp * (x + 1) : std::exp(x) * exp_relative(x) + kFlush;
    case FeatureMap::exp: return std::exp(x) * exp_relative(x) + kFlush;
    case FeatureMap::none:
    case FeatureMap::relu: break;
  }
  return 0;
}

double decay(double g, double passed) { return exp_relative(g) + kUlp * (1 + 2 * passed); }

double flush_below(DType type) { return type == DType::f16 ? kFlushF16 : kFlush; }

double decoding(DType type) {
  switch (type) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k: return kUlp;
    default: return 0;
  }
}

double exp_relative(double x) { return (kExpUlps + kExpUlpsPerUnit * std::fabs(x)) * kUlp; }

double softmax_term(double difference) { return exp_relative(difference) + kUlp * std::fabs(difference); }

double activation(Activation act, double x) {
  switch (act) {
    case Activation::silu: return silu(x);
    case Activation::gelu_tanh: return gelu_tanh(x);
    case Activation::gelu_erf: return gelu_erf(x);
    case Activation::relu2: return x > 0 ? x * x * kUlp + kFlush : 0;
    case Activation::sigmoid: return sigmoid_error(x);
    case Activation::relu:
    case Activation::none: break;
  }
  return 0;
}

double activation_shift(Activation act, double x, double error) {
  switch (act) {
    case Activation::silu:
    case Activation::gelu_tanh:
    case Activation::gelu_erf: return kSlope * error;
    case Activation::relu2: return (2 * std::max(x, 0.0) + error) * error;
    case Activation::sigmoid: return error / 4;
    case Activation::relu:
    case Activation::none: break;
  }
  return error;
}

namespace {

double steps_of(const Products& sum, double scale) {
  return static_cast<double>(sum.n) + (scale == 1 ? 2 : 3);
}

double summed(const Products& sum, double bias, double scale, double rounding) {
  const double size = std::fabs(scale);
  return rounding * (size * sum.magnitude + std::fabs(bias)) + size * sum.relative * sum.magnitude +
         size * (kFlush * (sum.operands + static_cast<double>(sum.n)) + sum.flushed) + kFlush;
}

}  // namespace

double products(const Products& sum, double bias, double scale) {
  return summed(sum, bias, scale, gamma(steps_of(sum, scale)));
}

double likely_products(const Products& sum, double bias, double scale) {
  return summed(sum, bias, scale, kUnit * std::sqrt(steps_of(sum, scale)));
}

namespace {

// Sums of errors, and of their squares where each is an accident of its own.
struct Errors {
  double sum = 0, squares = 0;
};

// How far an operand of magnitude a is off as f16. x may carry an error across the edge of what is flushed.
double to_f16(double a, DType type) {
  if (a == 0) return 0;
  const bool kept = type == DType::f16 || type == DType::bf16;
  const double flushed = a < 2 * kFlushF16 ? std::min(a, kFlushF16) : 0;
  return std::max({flushed, kept ? 0 : kRoundF16 * a, a < kFlushF16 && type != DType::f16 ? kStepF16 : 0});
}

Errors as_f16(std::span<const double> x, DType x_type, std::span<const float> w, DType w_type) {
  const double cut = kMatrixSum * gamma(static_cast<double>(x.size()) + 4);
  double one_way = 0, either_way = 0, squares = 0;  // what is flushed or cut off adds up
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double a = std::fabs(x[i]), b = std::fabs(double{w[i]});
    if (a > kMostF16 || b > kMostF16) return {kInfinity, kInfinity};
    one_way += cut * a * b;
    const double off_x = to_f16(a, x_type), off_w = to_f16(b, w_type);
    const double error = a * off_w + off_x * (b + off_w);
    if (std::min(a, b) < 2 * kFlushF16) {
      one_way += error;
    } else {
      either_way += error;
      squares += a * off_w * a * off_w + off_x * b * off_x * b;
    }
  }
  const double root = std::sqrt(squares) + one_way;
  return {one_way + either_way, root * root};
}

Errors as_bytes(std::span<const double> x, std::span<const float> w) {
  Errors error;
  for (std::size_t first = 0; first < x.size(); first += kDotBlock) {
    const std::size_t end = std::min(first + kDotBlock, x.size());
    double largest = 0, weights = 0, squares = 0;
    for (std::size_t i = first; i < end; ++i) {
      largest = std::max(largest, std::fabs(x[i]));
      weights += std::fabs(double{w[i]});
      squares += double{w[i]} * w[i];
    }
    const double zeroed = largest < kDotLeast ? largest : 0;
    const double step = kDotHalfStep * (largest / 127) + zeroed + kFlush;
    error.sum += step * weights;
    error.squares += step * step * squares;
  }
  return error;
}

}  // namespace

double mixed_products(std::span<const double> x, DType x_type, std::span<const float> w, DType w_type) {
  const double halves = as_f16(x, x_type, w, w_type).sum;
  return info(w_type).block_elems > 1 ? std::max(halves, as_bytes(x, w).sum) : halves;
}

double likely_mixed_products(std::span<const double> x, DType x_type, std::span<const float> w,
                             DType w_type) {
  const double halves = as_f16(x, x_type, w, w_type).squares;
  return std::sqrt(info(w_type).block_elems > 1 ? std::max(halves, as_bytes(x, w).squares) : halves);
}

}  // namespace tessera::bounds
