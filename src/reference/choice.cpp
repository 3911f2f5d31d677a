// Which token a row of logits gives: graph/state.h defines it. Beside the choice itself, which other ids a
// device that computes in f32 may arrive at.
#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A logit, and how far f32 may be off after the penalty and the temperature.
struct Candidate {
  std::uint32_t id;
  double logit;
  double error;
};

// Higher logit first, ties to the lower id: the order that everything below means by "before".
bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

std::vector<Candidate> candidates(std::span<const float> logits, std::span<const std::uint32_t> recent,
                                  const SamplerParams& params) {
  std::vector<Candidate> out;
  for (std::uint32_t id = 0; id < logits.size(); ++id) out.push_back({id, logits[id], 0});
  std::vector<std::uint32_t> distinct(recent.begin(), recent.end());
  std::ranges::sort(distinct);
  const auto end = std::unique(distinct.begin(), distinct.end());
  const double penalty = params.penalty;
  for (auto at = distinct.begin(); at != end && penalty != 1; ++at) {
    if (*at >= out.size() || std::isinf(out[*at].logit)) continue;
    Candidate& c = out[*at];
    c.logit = c.logit > 0 ? c.logit / penalty : c.logit * penalty;
    if (std::fabs(c.logit) > std::numeric_limits<float>::max()) c.logit = std::copysign(kInfinity, c.logit);
    if (std::isfinite(c.logit))
      c.error = bounds::kDivUlps * bounds::kUlp * std::fabs(c.logit) + bounds::kFlush;
  }
  return out;
}

void divide(std::vector<Candidate>& all, double temperature) {
  if (temperature == 1) return;
  for (Candidate& c : all) {
    c.logit /= temperature;
    if (std::isfinite(c.logit))
      c.error =
          c.error / temperature + (bounds::kDivUlps + 1) * bounds::kUlp * std::fabs(c.logit) + bounds::kFlush;
  }
}

// Greedy: the first in order, and whoever rounding may put there.
Choice greedy(const std::vector<Candidate>& all, bool bounds) {
  Choice choice;
  const Candidate& best = *std::ranges::min_element(all, before);
  choice.id = best.id;
  if (!bounds) return choice;
  double least = -kInfinity;  // the winner is at least this high
  for (const Candidate& c : all) least = std::max(least, c.logit - c.error);
  for (const Candidate& c : all)
    if (c.id == best.id || (c.error + best.error > 0 && c.logit + c.error >= least))
      choice.acceptable.push_back(c.id);
  return choice;
}

// An id's unnormalised probability exp(logit - largest): 0 where it is out. With rounding it may be anything
// in [low, high], where low is 0 for one that may be out, and high is 0 for one that surely is.
struct Mass {
  Candidate candidate;
  double exact, low, high;
};

// How far the argument of exp may be off for `c`, as f32 computes (c - first) log2(e) / temperature.
double exponent_error(const Candidate& c, const Candidate& first) {
  const double x = c.logit - first.logit;
  if (std::isinf(x)) return 0;
  if (x == 0 && c.error == 0 && first.error == 0) return 0;  // exp2(0) is 1 everywhere
  return c.error + first.error + bounds::exp_relative(x) - x * (bounds::kDivUlps + 2) * bounds::kUlp;
}

// All of the vocabulary, before the filters, in order.
std::vector<Mass> masses(std::vector<Candidate> all) {
  std::ranges::sort(all, before);
  const Candidate first = all.front();
  std::vector<Mass> out;
  for (const Candidate& c : all) {
    const double x = c.logit - first.logit, e = exponent_error(c, first);
    Mass m{c, std::exp(x), std::exp(x - e) - bounds::kFlush,
           std::exp(std::min(x + e, 700.0)) + bounds::kFlush};
    if (m.low < 0) m.low = 0;
    if (std::isinf(x)) m.high = 0;
    out.push_back(m);
  }
  return out;
}

// Stays: the k first. Unsure: those that overlap with the last one in or the first one out.
void keep_top_k(std::vector<Mass>& all, std::uint32_t k) {
  if (k == 0 || k >= all.size()) return;
  double in_low = kInfinity, out_high = -kInfinity;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Candidate& c = all[i].candidate;
    if (i < k) in_low = std::min(in_low, c.logit - c.error);
    if (i >= k) out_high = std::max(out_high, c.logit + c.error);
  }
  const double edge = all[k - 1].candidate.error + all[k].candidate.error;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Candidate& c = all[i].candidate;
    const bool rounds = c.error + edge > 0;
    if (i < k && rounds && c.logit - c.error <= out_high) all[i].low = 0;
    if (i >= k) all[i].exact = 0;
    if (i >= k && !(rounds && c.logit + c.error >= in_low)) all[i].low = all[i].high = 0;
    if (i >= k) all[i].low = 0;
  }
}

double total(const std::vector<Mass>& all, double Mass::*mass) {
  double sum = 0;
  for (const Mass& m : all) sum += m.*mass;
  return sum;
}

// Relative error of a cumulative sum in f32, over those that are in.
double summed(const std::vector<Mass>& all) {
  const auto count =
      static_cast<double>(std::ranges::count_if(all, [](const Mass& m) { return m.high > 0; }));
  return 2 * bounds::gamma(count / bounds::kSamplePartials + bounds::kSamplePartials);
}

// Stays: who has less than p before it (the first always). "Before" is unsure too where logits overlap.
void keep_top_p(std::vector<Mass>& all, double p) {
  if (p >= 1) return;
  const double exact_total = total(all, &Mass::exact), low_total = total(all, &Mass::low),
               high_total = total(all, &Mass::high), slack = summed(all);
  double reach = 0;  // how far apart two logits may be and yet swap
  for (const Mass& m : all)
    if (m.high > 0) reach = std::max(reach, 2 * m.candidate.error);
  std::vector<double> low_before{0}, high_before{0};
  for (const Mass& m : all) {
    low_before.push_back(low_before.back() + m.low);
    high_before.push_back(high_before.back() + m.high);
  }
  std::size_t surely = 0, possibly = 0;  // [0, surely) are before i for sure, [0, possibly) may be
  double exact_before = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    Mass& m = all[i];
    const double logit = m.candidate.logit;
    while (surely < i && (reach == 0 || all[surely].candidate.logit > logit + reach)) ++surely;
    possibly = std::max(possibly, i);
    while (reach > 0 && possibly < all.size() && all[possibly].candidate.logit >= logit - reach) ++possibly;
    const double own = possibly > i ? m.high : 0;  // i itself is not before i
    if (i > 0) {
      if ((high_before[possibly] - own) / low_total >= p - slack) m.low = 0;
      if (low_before[surely] / high_total >= p + slack) m.low = m.high = 0;
    }
    const double mass = m.exact;
    if (i > 0 && exact_before / exact_total >= p) m.exact = 0;
    exact_before += mass;
  }
}

// Stays: who has at least min_p of the largest probability (the first always).
void keep_min_p(std::vector<Mass>& all, double min_p) {
  if (min_p <= 0) return;
  const Candidate first = all[0].candidate;
  for (std::size_t i = 1; i < all.size(); ++i) {
    Mass& m = all[i];
    const double x = m.candidate.logit - first.logit, e = exponent_error(m.candidate, first);
    if (std::exp(x) < std::min(min_p, 1.0)) m.exact = 0;
    if (std::exp(x - e) < std::min(min_p, 1.0)) m.low = 0;
    if (std::exp(std::min(x + e, 700.0)) < std::min(min_p, 1.0)) m.low = m.high = 0;
  }
}

// The first id, ascending, whose cumulative probability exceeds u.
Choice draw(std::vector<Mass> all, double u, bool bounds) {
  std::ranges::sort(all, {}, [](const Mass& m) { return m.candidate.id; });
  Choice choice;
  const double exact_total = total(all, &Mass::exact);
  double cumulative = 0;
  for (const Mass& m : all) {
    if (m.exact == 0) continue;
    choice.id = m.candidate.id;
    cumulative += m.exact;
    if (cumulative > u * exact_total) break;
  }
  if (!bounds) return choice;
  // An id can be chosen when some masses within [low, high] put u into its part of the distribution.
  const double slack = summed(all);
  double low_before = 0, high_before = 0;
  double low_after = total(all, &Mass::low), high_after = total(all, &Mass::high);
  for (const Mass& m : all) {
    low_after -= m.low;
    high_after -= m.high;
    const double begins = low_before / (low_before + m.high + std::max(high_after, 0.0));
    const double ends = (high_before + m.high) / (high_before + m.high + std::max(low_after, 0.0));
    if (m.candidate.id == choice.id || (m.high > 0 && begins <= u + slack && ends > u - slack))
      choice.acceptable.push_back(m.candidate.id);
    low_before += m.low;
    high_before += m.high;
  }
  return choice;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
    counter = {high(b) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b), high(a) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

Choice choose_token(std::span<const float> logits, std::span<const std::uint32_t> recent,
                    std::uint32_t position, const SamplerParams& params, bool bounds) {
  std::vector<Candidate> all = candidates(logits, recent, params);
  const auto bad = [](const Candidate& c) { return std::isnan(c.logit) || c.logit == kInfinity; };
  const auto none = [](const Candidate& c) { return c.logit == -kInfinity; };
  if (std::ranges::any_of(all, bad) || std::ranges::all_of(all, none))
    return {.status = kStatusNaN, .id = 0, .acceptable = {}};
  if (!(params.temperature > 0)) return greedy(all, bounds);
  divide(all, params.temperature);
  std::vector<Mass> left = masses(std::move(all));
  keep_top_k(left, params.top_k);
  keep_top_p(left, params.top_p);
  keep_min_p(left, params.min_p);
  const std::uint32_t bits = philox4x32({position, 0, 0, 0}, {params.seed_low, params.seed_high})[0] >> 8;
  return draw(std::move(left), bits * 0x1p-24, bounds);
}

}  // namespace tessera
