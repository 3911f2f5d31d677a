// Trials: the errors of a chain of products drawn several times, with signs by what is rounded, so that what
// makes one error of many does so here too. docs/verification.md, "Chains of products".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "graph/graph.h"

namespace tessera::trials {

inline constexpr std::size_t kTrials = 16;
// How far a number is off, in each trial.
using Shifts = std::array<float, kTrials>;

double root_mean_square(const Shifts& shifts);

// What is rounded: equal keys have equal signs in every trial, others independent ones.
using Key = std::uint32_t;
// What shifts all numbers alike: the root that a norm divides by, and a device that truncates.
inline constexpr Key kAll = 0x6a09e667;
// Of the mantissa: x, -x and 2x are rounded alike.
Key key_of(double x);
// Of a number among those rounded to multiples of one step: x and -x are rounded alike.
Key key_of(double x, std::size_t block);

// Adds what a number is off by that has an error of `error` at most: with a sign that all numbers of key
// `own` have, and half as much with one that all of `common` have.
void shift(Shifts& shifts, double error, Key own, Key common = kAll);

// What act(x) is off by where x is off by `shifts`, which are likely of the size `likely`.
Shifts activation(Activation act, double x, const Shifts& shifts, double likely);
// What a b is off by.
Shifts product(double a, const Shifts& off_a, double b, const Shifts& off_b);
// What a sum of x w is off by: where x is off by `shifts`,
Shifts sum(std::span<const Shifts> shifts, std::span<const float> w);
// and by roundings of w and of the sum itself, which go along its terms: equal rows of w make equal errors,
// and rows of many equal terms similar ones. An error is of the size `likely` where terms have signs by
// accident and `most` at most. With `by_value` equal weights of a row are rounded alike.
void add_sum_error(Shifts& shifts, std::span<const double> x, std::span<const float> w, double likely,
                   double most, bool by_value);

}  // namespace tessera::trials
