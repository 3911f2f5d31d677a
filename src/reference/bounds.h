// How far a device may be from the exact result: every constant and formula, in one place.
// docs/verification.md derives them from "Precision of Operation of SPIR-V Instructions" in the Vulkan
// specification. Bounds are absolute; an "error" argument is the absolute error that an operand already has.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "graph/graph.h"

namespace tessera::bounds {

// Unit roundoff of f32: a sum or product rounded to nearest is off by at most kUnit times itself.
inline constexpr double kUnit = 0x1p-24;
// One ulp, relative to the result. Vulkan's "correctly rounded" leaves the direction open, so a single
// operation is granted the whole ulp.
inline constexpr double kUlp = 0x1p-23;
// Smallest normal f32: devices may flush operands and results below it to zero.
inline constexpr double kFlush = 0x1p-126;
// Smallest normal f16: devices may read f16 weights and cache elements below it as zero. (Not so the f16
// scales of quantised blocks: there a flush would lose a whole block, and counts as an error.)
inline constexpr double kFlushF16 = 0x1p-14;
// Rounding of an operand to 16 bits, relative: a whole ulp, as conversions may go either way. And the largest
// f16.
inline constexpr double kRoundF16 = 0x1p-10;
inline constexpr double kRoundBf16 = 0x1p-7;
inline constexpr double kMostF16 = 65504;
// The smallest f16: rounding below kFlushF16 is off by that at most.
inline constexpr double kStepF16 = 0x1p-24;
// log2 of a sum, absolute: 2^-21 near 1, 3 ulps elsewhere (those count with the result).
inline constexpr double kLog = 0x1p-20;
// OpFDiv, in ulps.
inline constexpr double kDivUlps = 2.5;
// exp(x) and exp2(x): 3 + 2|x| ulps. exp(x) as exp2(x log2 e) takes 3 + 2 |x| log2 e, and the rounded product
// in the exponent adds 2 kUnit |x|: at most 4 a unit of x in all.
inline constexpr double kExpUlps = 3;
inline constexpr double kExpUlpsPerUnit = 4;
// Kernels clamp tanh's argument: tanh(10) is 1 in f32, so no error grows past there.
inline constexpr double kTanhClamp = 10;
// erf by a fit times exp, absolute: fits are within 2e-7, and their coefficients of up to 1.5 add 2e-6 of
// rounding in f32 at most.
inline constexpr double kErf = 0x1p-18;
// Largest slope of silu, gelu_tanh and gelu_erf: 1.0998, 1.1289 and 1.1290.
inline constexpr double kSlope = 1.13;
// What a norm does to each element beside its reduction: inverse square root 2 ulps (4.5 as a division),
// operand, two products and the mean's division about 1 each.
inline constexpr double kNormUlps = 8;
// Roundings a rope output passes: two products and a sum, one ulp each.
inline constexpr double kRopeUlps = 2;
// Times that a running maximum of attention grows: each rescale costs an exp2, a product and a subtraction.
// The worst case is one a key; more than this needs scores that rise tile after tile.
inline constexpr double kRescales = 32;
// Ulps of one rescale or one exp2 beside those that grow with its argument: 3 and a subtraction's 1.
inline constexpr double kRescaleUlps = 4;
// Linear attention: the most rows that are computed together; roundings of a term on its way into a sum
// (decay and its product, an exp of 0, feature map, scale); and what positive decays over such rows may add
// up to before a device's exp may overflow. Kernels clamp decays below: exp of them is 0 in f32.
inline constexpr double kLinearChunk = 32;
inline constexpr double kLinearSteps = 8;
inline constexpr double kMostGrowth = 80;
inline constexpr double kLeastDecay = -104;
// Sampling: partial sums that a parallel sum over the vocabulary has at least.
inline constexpr double kSamplePartials = 32;

// Rounding of n successive operations, n u / (1 - n u): a sum of n terms in any order is off by at most
// gamma(n) times the sum of their magnitudes. Infinite when n u reaches 1.
double gamma(double n);

// What storing `magnitude` as `type` adds: nothing for f32, where the last operation's rounding is it; half
// an ulp for f16 and bf16, as kernels round to nearest themselves (what packHalf2x16 does is up to the
// driver). Blocks of Q8_0 have stored_q8_0() instead.
double rounding(DType type, double magnitude);
// Error of `value` (off by `error`) once stored as `type`; words are exact. Infinite where the device may
// hold an infinity or NaN.
double stored(DType type, double value, double error);

// A Q8_0 block of 32 elements that are off by `errors`: what it holds, and how far a device may be from that.
// A device quantises bit by bit as base/dtype.h says, so without errors the bound is 0; an error moves the
// scale, and a quant by one where it lies at the edge between two.
struct Q8Block {
  std::array<double, 32> expected{}, bound{};
};
Q8Block stored_q8_0(std::span<const double, 32> values, std::span<const double, 32> errors);

// Relative error of exp(x), x exact.
double exp_relative(double x);
// Absolute error of tanh(x), as sinh / cosh or through one exponential of 2x.
double tanh_error(double x);

// Relative error of exp(x - max) in f32: the difference is rounded once, which exp turns into |x - max| ulp.
double softmax_term(double difference);

// act(x), x exact.
double activation(Activation act, double x);
// |act(x + d) - act(x)| for |d| <= error.
double activation_shift(Activation act, double x, double error);

// f(x) of a linear attention, x exact.
double feature(FeatureMap map, double x);
// Relative error that decaying a state by exp(g) adds to it, whether step by step or at once over rows whose
// |g| add up to `passed`: exp's, and those of a running sum of g and of a difference of two.
double decay(double g, double passed);

// Below this, an element read as `type` may come as zero.
double flush_below(DType type);

// Relative error of a weight decoded from `type`: of types with a minimum it is a rounded sum, of others
// exact.
double decoding(DType type);

// scale times a sum over n products, plus a bias.
struct Products {
  std::size_t n = 0;
  double magnitude = 0;  // sum of |a b|
  double operands = 0;   // sum of |a| + |b|
  double flushed = 0;    // sum of |a b| over those a and b that may be read as zero
  double relative = 0;   // error of each term for its decoding
};
double products(const Products& sum, double bias, double scale = 1);

// What precision mixed adds to a sum of x w before its scale. Either both are rounded to f16 and sums on
// matrix units cut off instead of rounded (kMatrixSum), or, with weights in blocks, x is rounded to whole
// multiples of max|x| / 127 over blocks of kDotBlock elements: off by half a step at most, and w not at all.
inline constexpr double kMatrixSum = 4;  // times gamma, as a matrix unit may keep two bits less
inline constexpr std::size_t kDotBlock = 32;
inline constexpr double kDotHalfStep = 0.5 + 0x1p-8;  // the quotient x / step is itself rounded in f32
inline constexpr double kDotLeast = 3.01e-36;         // blocks below it may become zero
double mixed_products(std::span<const double> x, DType x_type, std::span<const float> w, DType w_type);

// The two above where each rounding is an accident of its own: the root of the sum of squares instead of the
// sum. A device's errors of many sums, themselves summed up, stay within kDeviations times the root of the
// squares of these (docs/verification.md, "Chains of products").
inline constexpr double kDeviations = 4;
double likely_products(const Products& sum, double bias, double scale = 1);
double likely_mixed_products(std::span<const double> x, DType x_type, std::span<const float> w, DType w_type);

}  // namespace tessera::bounds
