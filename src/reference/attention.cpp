// attention, as base/attention.h defines it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "reference/attention_scores.h"
#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Attention : AttentionScorer {
 public:
  explicit Attention(const OpCall& call) : AttentionScorer(call) {}

  Result<Outputs> run() {
    TSR_CHECK(load());
    y_.value = call_.out(0);
    lse_.value = call_.out(1);
    scores_.value = call_.out(2);
    for (std::uint64_t b = 0; b < a_.batch; ++b) {
      TSR_CHECK(begin_sequence(b));
      for (std::uint64_t group = 0; group < a_.kv_heads; ++group) {
        TSR_CHECK(load_keys(b, group));
        const std::uint64_t heads = a_.heads / a_.kv_heads;
        for (std::uint64_t head = group * heads; head < (group + 1) * heads; ++head)
          for (std::uint64_t row = 0; row < n_q_; ++row) one_row(b, head, row);
      }
    }
    Outputs out{std::move(y_)};
    if (lse_.value != kNoValue) out.push_back(std::move(lse_));
    if (scores_.value != kNoValue) out.push_back(std::move(scores_));
    return out;
  }

 private:
  void one_row(std::uint64_t b, std::uint64_t head, std::uint64_t row) {
    const AttentionRow r = place(b, head, row);
    const KeySpan keys = seen(r);
    std::vector<Inexact> score = scores(r, keys);
    highest_ = Highest(score, a_.top_k);
    double most = -kInfinity;
    for (const Inexact& s : score) most = std::max(most, s.value);
    const bool sink = !sinks_.empty();
    if (sink) most = std::max<double>(most, sinks_[head]);
    weigh(r, keys, score, most);
    write_lse(r, most);
    write_scores(r, keys, score, most);
  }

  // By how much the weights of unsure keys may differ, as a factor.
  double unsure_ratio() const { return highest_.unsure().empty() ? 1 : highest_.ratio() * (1 + spread_); }

  // How far an output moves when unsure keys change places.
  template <typename Value>
  double unsure_shift(double o, double most, const Value& v_at) const {
    double shift = 0;
    for (const auto& [j, score] : highest_.unsure())
      shift += std::exp(score - most) / total_ * std::fabs(v_at(j) - o);
    return shift * unsure_ratio();
  }

  // The weights, their total, and what each is off by relatively.
  void weigh(const AttentionRow& r, KeySpan keys, const std::vector<Inexact>& score, double most) {
    const std::uint64_t n = score.size();
    weight_.assign(n, 0);
    off_.assign(n, 0);
    total_ = 0;
    visible_ = 0;
    if (most == -kInfinity) {
      for (std::uint64_t i = 0; i < a_.v_dim; ++i) put_y(r, i, 0, 0);
      return;
    }
    for (std::uint64_t j = 0; j < n; ++j) {
      total_ += weight_[j] = std::exp(score[j].value - most);
      visible_ += score[j].value != -kInfinity;
    }
    if (!sinks_.empty()) total_ += std::exp(sinks_[r.head] - most);
    rescales_ = std::min(static_cast<double>(visible_ + 1), bounds::kRescales);
    spread_ = 0;
    for (std::uint64_t j = 0; j < n; ++j) {
      if (weight_[j] == 0) continue;
      off_[j] = std::expm1(score[j].error + bounds::kRescaleUlps * bounds::kUlp * (rescales_ + 1) +
                           bounds::kExpUlpsPerUnit * bounds::kUlp * (most - score[j].value) +
                           2 * bounds::kUlp * std::fabs(score[j].value));
      spread_ += weight_[j] / total_ * off_[j];
    }
    if (!sinks_.empty())
      spread_ += std::exp(sinks_[r.head] - most) / total_ * bounds::kUlp *
                 (bounds::kRescaleUlps * (rescales_ + 1) + 4 * (most - sinks_[r.head]) +
                  2 * std::fabs(sinks_[r.head]));
    for (std::uint64_t i = 0; i < a_.v_dim; ++i) element(r, keys, i, most);
  }

  // One element of the output. Each weight is off by a factor 1 + e_j, in the numerator and the denominator
  // alike, so that it shifts o by w_j e_j (v_j - o).
  void element(const AttentionRow& r, KeySpan keys, std::uint64_t i, double most) {
    const std::uint64_t n = weight_.size();
    const auto v_at = [&](std::uint64_t j) -> double {
      return v_[(r.key0 + keys.begin + j - first_key_) * a_.v_dim + i];
    };
    double o = 0;
    for (std::uint64_t j = 0; j < n; ++j)
      if (weight_[j] != 0) o += weight_[j] * v_at(j);
    o /= total_;
    if (!call_.bounds) return put_y(r, i, o, 0);
    const double h = operand_rounding();
    double shift = 0, magnitude = 0, largest = 0, flushed = 0;
    double shift_squares = 0, squares = 0, weight_squares = 0;
    for (std::uint64_t j = 0; j < n; ++j) {
      if (weight_[j] == 0) continue;
      const double w = weight_[j] / total_, v = v_at(j);
      const double moved = w * off_[j] * std::fabs(v - o);
      shift += moved;
      shift_squares += moved * moved;
      magnitude += w * std::fabs(v);
      squares += w * v * w * v;
      weight_squares += w * w;
      largest = std::max(largest, std::fabs(v));
      if (std::fabs(v) < kv_flush_) flushed += w * std::fabs(v);
      if (h > 0) {
        if (weight_[j] < bounds::kFlushF16) flushed += w * std::fabs(v);
        if (std::fabs(v) < bounds::kFlushF16) flushed += w * std::min(std::fabs(v), bounds::kFlushF16);
        if (std::fabs(v) > bounds::kMostF16) flushed = kInfinity;
      }
    }
    if (likely()) shift = std::sqrt(shift_squares);
    const double rounded =
        2 * h *
        (likely() ? std::sqrt(squares) + std::sqrt(weight_squares) * std::fabs(o) : magnitude + std::fabs(o));
    // The sink has a weight and no value: the same as a value of 0.
    shift += sinks_.empty() ? 0 : spread_ * std::fabs(o);
    const double summed = bounds::gamma(static_cast<double>(visible_) + rescales_ + 2);
    const double error = spread_ < 0.5
                             ? shift / (1 - spread_) + unsure_shift(o, most, v_at) + flushed + rounded +
                                   summed * (magnitude + std::fabs(o)) +
                                   (bounds::kDivUlps + 1) * bounds::kUlp * std::fabs(o) +
                                   bounds::kFlush * static_cast<double>(visible_ + 1) * (1 + largest)
                             : kInfinity;
    put_y(r, i, o, error);
  }

  void put_y(const AttentionRow& r, std::uint64_t i, double value, double error) {
    y_.elements.push_back(r.batch * a_.y_strides[0] + r.head * a_.y_strides[1] + r.whole * a_.y_strides[2] +
                          i * a_.y_strides[3]);
    put(call_, y_, value, error);
  }

  // Exact: nothing is rounded on the way to an infinity.
  void put_exact(ReferenceOutput& out, double value) const {
    out.expected.push_back(value);
    if (call_.bounds) out.bound.push_back(0);
  }

  double lse_error(double most) const {
    if (spread_ >= 0.5) return kInfinity;
    const double h = operand_rounding();
    return spread_ / (1 - spread_) + bounds::gamma(static_cast<double>(visible_) + rescales_ + 4) + 2 * h +
           bounds::kLog + std::log(unsure_ratio()) +
           4 * bounds::kUlp * (std::fabs(most) + std::fabs(std::log(total_)));
  }

  void write_lse(const AttentionRow& r, double most) {
    if (lse_.value == kNoValue) return;
    lse_.elements.push_back((r.batch * a_.heads + r.head) * a_.q_len + r.whole);
    if (most == -kInfinity) return put_exact(lse_, most);
    put(call_, lse_, most + std::log(total_), lse_error(most));
  }

  void write_scores(const AttentionRow& r, KeySpan keys, const std::vector<Inexact>& score, double most) {
    const std::uint64_t heads = a_.score_heads ? a_.score_heads : a_.heads - a_.score_head;
    const std::uint64_t rows = a_.score_rows ? a_.score_rows : a_.q_len - a_.score_row;
    if (scores_.value == kNoValue || r.head < a_.score_head || r.head >= a_.score_head + heads ||
        r.whole < a_.score_row || r.whole >= a_.score_row + rows)
      return;
    const std::uint64_t head = r.head - a_.score_head, row = r.whole - a_.score_row, slots = score_slots(a_);
    const bool average = a_.scores == AttentionScores::average, last = !average || head + 1 == heads;
    if (average && head == 0 && row == 0) mean_.assign(rows * a_.kv_len, {0, 0});
    for (std::uint64_t column = 0; column < a_.kv_len; ++column) {
      if (last)
        scores_.elements.push_back(((r.batch * slots + head % slots) * rows + row) * a_.kv_len + column);
      if (a_.scores == AttentionScores::raw || a_.scores == AttentionScores::capped) {
        raw_column(r, column);
        continue;
      }
      const std::optional<Inexact> found = after_masks(r, keys, score, most, column);
      if (average)
        average_column(found.value_or(Inexact{}), static_cast<double>(heads), last,
                       mean_[row * a_.kv_len + column]);
      else if (found)
        put(call_, scores_, found->value, found->error);
      else
        put_exact(scores_, a_.scores == AttentionScores::weights ? 0 : -kInfinity);
    }
  }

  // The masked score or the weight of a key that is not masked.
  std::optional<Inexact> after_masks(const AttentionRow& r, KeySpan keys, const std::vector<Inexact>& score,
                                     double most, std::uint64_t column) const {
    const bool weights = are_weights(a_.scores);
    const std::uint64_t i = column - r.key0 - keys.begin;  // wraps around below the first
    if (highest_.unsure().contains(i)) {
      if (!weights) return Inexact{score[i].value, kInfinity};
      return Inexact{weight_[i] / total_,
                     (1 + spread_) * std::exp(highest_.unsure().at(i) - most) / total_ * unsure_ratio()};
    }
    if (column < r.key0 + keys.begin || i >= score.size() || score[i].value == -kInfinity) return {};
    if (!weights) return score[i];
    const double w = weight_[i] / total_;
    const double exponent = score[i].error + lse_error(most) +
                            bounds::kUlp * (4 + 4 * (most + std::log(total_) - score[i].value) +
                                            3 * std::fabs(most + std::log(total_)));
    return Inexact{w, exponent < 1 ? w * std::expm1(exponent) + 2 * bounds::kFlush : kInfinity};
  }

  // Of one head more; of the last one the mean goes out.
  void average_column(Inexact weight, double heads, bool last, Inexact& mean) {
    mean.value += weight.value / heads;
    mean.error += weight.error / heads;
    if (last)
      put(call_, scores_, mean.value,
          mean.error + bounds::gamma(heads + bounds::kDivUlps + 1) * mean.value + heads * bounds::kFlush);
  }

  // raw and capped: every key, masked or not; 0 where there is none.
  void raw_column(const AttentionRow& r, std::uint64_t column) {
    if (column < first_key_ || column >= n_k_) return put_exact(scores_, 0);
    AttentionRow whole = r;
    whole.key0 = 0;
    Inexact s = raw_score(whole, column);
    if (a_.scores == AttentionScores::capped) s = capped(s);
    put(call_, scores_, s.value, s.error);
  }

  // Of the row at hand.
  std::vector<double> weight_, off_;
  Highest highest_;
  double total_ = 0, spread_ = 0, rescales_ = 0;
  std::uint64_t visible_ = 0;
  std::vector<Inexact> mean_;  // of the weights of the heads so far, of a sequence
  ReferenceOutput y_, lse_, scores_;
};

}  // namespace

Result<Outputs> run_attention(const OpCall& call) {
  if (call.op.attrs.attention.user != nullptr)
    return Error{Code::unsupported, "attention: the reference does not run a user's GLSL, choose a device"};
  return Attention(call).run();
}

}  // namespace tessera
