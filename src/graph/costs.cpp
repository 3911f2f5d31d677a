#include "graph/costs.h"

#include <algorithm>
#include <bit>

namespace tessera {
namespace {

// A time may come out a twentieth lower or higher than it is meant to. An envelope that stays within kKeep of
// what was measured last, times kMargin, covers 1.05 / 0.95 and the slope that such times show.
constexpr double kKeep = 1.1, kMargin = 1.125;
constexpr double kForget = 0.125;  // of what the envelope is too high, by each measurement
// Two points this far apart show the slope in spite of jitter. Nearer ones do not: then the line goes through
// the origin, the steepest that no negative fixed part allows.
constexpr double kFarApart = 4;
constexpr double kDue = 1.25;

std::size_t class_of(std::uint32_t rows) {
  return rows <= 1 ? 0 : static_cast<std::size_t>(std::bit_width(rows - 1));
}

}  // namespace

double SliceCost::line(double keys) const {
  const bool far = high_.keys >= kFarApart * low_.keys;
  const double slope = far ? std::max(0.0, (high_.us - low_.us) / (high_.keys - low_.keys))
                           : std::max(high_.us / high_.keys, low_.us / low_.keys);
  // Costs do not fall with keys, so both ends bound what comes after them.
  if (keys >= high_.keys) return std::max(high_.us, low_.us) + slope * (keys - high_.keys);
  const double between = far ? high_.us - slope * (high_.keys - keys) : high_.us;
  return std::max(keys <= low_.keys && far ? low_.us : between, low_.us);
}

void SliceCost::measured(std::uint32_t keys, double us) {
  const double k = std::max(1.0, static_cast<double>(keys));
  if (!known_) {
    known_ = true;
    low_ = high_ = {k, us};
    return;
  }
  const double was = line(k);
  const double now = std::max(us, std::min(was - (was - us) * kForget, us * kKeep));
  if (k >= high_.keys) {
    high_ = {k, now};
  } else if (k <= low_.keys) {
    low_ = {k, now};
  } else if (now >= was) {
    low_.us += now - was;
    high_.us += now - was;
  } else if (k * k >= low_.keys * high_.keys) {
    high_.us = std::max(0.0, high_.us + now - was);  // the nearer end alone: the other was not seen
  } else {
    low_.us = std::max(0.0, low_.us + now - was);
  }
  // What fixed + per_key * keys allows, from this measurement alone.
  low_.us = std::min(low_.us, k >= low_.keys ? now : low_.us);
  high_.us = std::min(high_.us, k <= high_.keys ? now * high_.keys / k : high_.us);
}

SlicePrediction SliceCost::predict(std::uint32_t keys) const {
  if (!known_) return {};
  const double k = std::max(1.0, static_cast<double>(keys));
  return {line(k) * kMargin, true, k > kDue * high_.keys};
}

void SliceCosts::reset(std::size_t slices, std::uint32_t max_rows) {
  slices_ = slices;
  max_rows_ = std::max(max_rows, 1u);
  costs_.assign(slices * (class_of(max_rows_) + 1), SliceCost());
}

void SliceCosts::measured(std::size_t slice, std::uint32_t rows, std::uint32_t keys, double us) {
  rows = std::clamp(rows, 1u, max_rows_);
  const std::size_t c = class_of(rows);
  // Of the class's most rows it takes no more than in proportion.
  const std::uint32_t most = std::min(1u << c, max_rows_);
  costs_[c * slices_ + slice].measured(keys, us * most / rows);
}

SlicePrediction SliceCosts::predict(std::size_t slice, std::uint32_t rows, std::uint32_t keys) const {
  rows = std::clamp(rows, 1u, max_rows_);
  const std::size_t own = class_of(rows);
  for (std::size_t at = own * slices_ + slice; at < costs_.size(); at += slices_) {
    const SlicePrediction found = costs_[at].predict(keys);
    if (found.known) return found;
  }
  for (std::size_t c = own; c-- > 0;) {
    SlicePrediction found = costs_[c * slices_ + slice].predict(keys);
    found.us *= static_cast<double>(rows) / (1u << c);
    if (found.known) return found;
  }
  return {};
}

BudgetFit::Verdict BudgetFit::offer(const SlicePrediction& slice) {
  if (closed_) return Verdict::full;
  const bool alone = !slice.known || slice.us > budget_us_;
  if (!empty_ && (alone || sum_us_ + slice.us > budget_us_)) {
    closed_ = true;
    return Verdict::full;
  }
  empty_ = false;
  closed_ = alone;
  sum_us_ += slice.us;
  return alone ? Verdict::alone : Verdict::take;
}

}  // namespace tessera
