#include "reference/bounds.h"

#include <algorithm>
#include <cmath>
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
  if (type == DType::bf16) return std::exp2(std::floor(std::log2(std::max(magnitude, kFlush))) - 8);
  if (type != DType::f16) return 0;
  return magnitude < kFlushF16 ? 0x1p-25 : std::exp2(std::floor(std::log2(magnitude)) - 11);
}

double stored(DType type, double value, double error) {
  const double most = std::fabs(value) + error;
  const double largest = type == DType::f16 ? kMostF16 : std::numeric_limits<float>::max();
  if (!is_real(type)) return 0;
  return most <= largest ? error + rounding(type, most) : kInfinity;
}

double flush_below(DType type) { return type == DType::f16 ? kFlushF16 : kFlush; }

double exp_relative(double x) { return (kExpUlps + kExpUlpsPerUnit * std::fabs(x)) * kUlp; }

double activation(Activation act, double x) {
  switch (act) {
    case Activation::silu: return silu(x);
    case Activation::gelu_tanh: return gelu_tanh(x);
    case Activation::gelu_erf: return gelu_erf(x);
    case Activation::relu2: return x > 0 ? x * x * kUlp + kFlush : 0;
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
    case Activation::relu:
    case Activation::none: break;
  }
  return error;
}

double products(const Products& sum, double bias) {
  return gamma(static_cast<double>(sum.n) + 2) * (sum.magnitude + std::fabs(bias)) +
         kFlush * (sum.operands + static_cast<double>(sum.n)) + sum.flushed;
}

}  // namespace tessera::bounds
