#include "reference/trials.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera::trials {
namespace {

constexpr std::size_t kSignBits = 10;

// Rows of random signs, by SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014).
constexpr std::array<Shifts, 1 << kSignBits> make_signs() {
  std::array<Shifts, 1 << kSignBits> out{};
  std::uint64_t counter = 0;
  for (Shifts& row : out) {
    std::uint64_t bits = counter += 0x9e3779b97f4a7c15;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
    bits ^= bits >> 31;
    for (float& sign : row) {
      sign = (bits & 1) != 0 ? -1.0f : 1.0f;
      bits >>= 1;
    }
  }
  return out;
}
constexpr std::array<Shifts, 1 << kSignBits> kSigns = make_signs();

constexpr Key kSpread = 0x9e3779b1;  // 2^32 / the golden ratio: neighbours among keys get rows far apart

const Shifts& signs(Key key) { return kSigns[key * kSpread >> (32 - kSignBits)]; }

Key bits_of(double x) { return std::bit_cast<Key>(static_cast<float>(x)); }

// The steeper of the chords from x to x - step and x + step.
double slope(Activation act, double x, double step) {
  if (act == Activation::none || step == 0) return 1;
  const double at = activate(act, x);
  const double down = at - activate(act, x - step), up = activate(act, x + step) - at;
  return (std::fabs(down) > std::fabs(up) ? down : up) / step;
}

}  // namespace

double root_mean_square(const Shifts& shifts) {
  double squares = 0;
  for (const double off : shifts) squares += off * off;
  return std::sqrt(squares / kTrials);
}

Key key_of(double x) { return bits_of(x) & 0x7fffff; }

Key key_of(double x, std::size_t block) {
  return bits_of(std::fabs(x)) + 0x85ebca6b * static_cast<Key>(block + 1);
}

void shift(Shifts& shifts, double error, Key own, Key common) {
  const Shifts &one = signs(own), &all = signs(common);
  const auto size = static_cast<float>(error);
  for (std::size_t t = 0; t < kTrials; ++t) shifts[t] += size * (one[t] + 0.5f * all[t]);
}

Shifts activation(Activation act, double x, const Shifts& shifts, double likely) {
  const auto factor = static_cast<float>(slope(act, x, likely));
  Shifts out{};
  for (std::size_t t = 0; t < kTrials; ++t) out[t] = factor * shifts[t];
  // A fit's error keeps its sign over some range of x: common to an octave.
  const Key bits = bits_of(x);
  shift(out, bounds::activation(act, x), bits, bits >> 23);
  return out;
}

Shifts product(double a, const Shifts& off_a, double b, const Shifts& off_b) {
  const auto value_a = static_cast<float>(a), value_b = static_cast<float>(b);
  Shifts out{};
  for (std::size_t t = 0; t < kTrials; ++t)
    out[t] = value_a * off_b[t] + value_b * off_a[t] + off_a[t] * off_b[t];
  shift(out, bounds::kUlp * a * b, key_of(a * b));
  return out;
}

Shifts sum(std::span<const Shifts> shifts, std::span<const float> w) {
  Shifts out{};
  for (std::size_t i = 0; i < shifts.size(); ++i)
    for (std::size_t t = 0; t < kTrials; ++t) out[t] += shifts[i][t] * w[i];
  return out;
}

void add_sum_error(Shifts& shifts, std::span<const double> x, std::span<const float> w, double likely,
                   double most, bool by_value) {
  Shifts along{};
  double sum = 0, squares = 0;
  Key place = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double term = x[i] * double{w[i]};
    sum += term;
    squares += term * term;
    const Shifts& sign = signs(key_of(w[i]) + place);
    if (!by_value) place += 0x85ebca6b;
    const auto size = static_cast<float>(term);
    for (std::size_t t = 0; t < kTrials; ++t) along[t] += size * sign[t];
  }
  if (squares == 0) return;  // nothing is rounded
  const double factor = likely / std::sqrt(squares);
  for (std::size_t t = 0; t < kTrials; ++t)
    shifts[t] += static_cast<float>(
        std::clamp(factor * (double{along[t]} + 0.5 * sum * double{signs(kAll)[t]}), -most, most));
}

}  // namespace tessera::trials
