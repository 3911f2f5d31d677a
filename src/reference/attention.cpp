// attention, as base/attention.h defines it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/attention_keys.h"
#include "reference/bounds.h"
#include "reference/ops.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A tensor of four dimensions under strides; 0 repeats.
struct Tensor4 {
  std::vector<float> data;
  Strides strides{};
  double flush = 0;  // elements below it may be read as zero
  bool present = false;
  double at(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) const {
    return data[a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]];
  }
};

struct Span {
  std::uint64_t begin = 0, end = 0;
};

// A row's place: `row` counts within the sequence or document, keys too, from `key0` on.
struct Row {
  std::uint64_t batch = 0, head = 0;
  std::uint64_t whole = 0;  // row of the sequence
  std::uint64_t row = 0, n_q = 0;
  std::uint64_t key0 = 0, n_k = 0;
};

class Attention {
 public:
  explicit Attention(const OpCall& call) : call_(call), a_(call.op.attrs.attention) { resolve_strides(a_); }

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
  ValueId id(AttentionIn in) const { return call_.in(static_cast<std::size_t>(in)); }
  bool has(AttentionIn in) const { return id(in) != kNoValue; }

  Tensor4 tensor(AttentionIn in) const {
    Tensor4 t;
    if (!has(in)) return t;
    const Value& value = call_.value(id(in));
    t.present = true;
    t.data = call_.tensors.floats(id(in), 0, value.elems());
    t.flush = bounds::flush_below(value.dtype);
    return t;
  }

  // Strides of (a|1, b|1, c|1, d|1).
  static Strides broadcast(const std::vector<std::uint64_t>& shape) {
    Strides strides{};
    std::uint64_t step = 1;
    for (std::size_t i = 4; i-- > 0; step *= shape[i]) strides[i] = shape[i] == 1 ? 0 : step;
    return strides;
  }

  Result<void> load() {
    q_ = tensor(AttentionIn::q);
    q_.strides = a_.q_strides;
    for (auto [in, t] : {std::pair(AttentionIn::mask, &mask_), std::pair(AttentionIn::bias, &bias_)}) {
      *t = tensor(in);
      if (t->present) t->strides = broadcast(call_.value(id(in)).shape);
    }
    boolean_ = mask_.present && call_.value(id(AttentionIn::mask)).dtype == DType::u8;
    for (auto [in, list] :
         {std::pair(AttentionIn::slopes, &slopes_), std::pair(AttentionIn::sinks, &sinks_),
          std::pair(AttentionIn::relative, &relative_), std::pair(AttentionIn::vector, &vector_)}) {
      if (!has(in)) continue;
      if (call_.value(id(in)).storage == Storage::weight) {
        TSR_TRY(*list, call_.tensors.vector(id(in)));
      } else {
        *list = call_.tensors.floats(id(in), 0, call_.value(id(in)).elems());
      }
    }
    TSR_TRY(lists_, BlockLists::load(call_));
    if (has(AttentionIn::documents)) {
      const std::uint64_t n = call_.value(id(AttentionIn::documents)).shape[1];
      for (std::uint64_t i = 0; i < 2 * n; ++i)
        documents_.push_back(call_.tensors.word(id(AttentionIn::documents), i));
      for (std::uint64_t side = 0; side < 2; ++side)
        for (std::uint64_t i = 0; i < n; ++i)
          if (documents_[side * n + i] > (side == 0 ? a_.q_len : a_.kv_len) ||
              (i > 0 && documents_[side * n + i] < documents_[side * n + i - 1]))
            return call_.error(Code::invalid_argument,
                               "documents do not ascend, or end past the rows or keys");
    }
    return {};
  }

  // n_q_ and n_k_ of sequence b.
  Result<void> begin_sequence(std::uint64_t b) {
    n_q_ = a_.q_len;
    n_k_ = a_.kv_len;
    if (has(AttentionIn::state)) {
      n_q_ = std::min<std::uint64_t>(call_.state.rows, a_.q_len);
      n_k_ = call_.state.position + n_q_;
      if (n_k_ > a_.kv_len && !a_.ring)
        return call_.error(Code::invalid_argument, "position " + std::to_string(call_.state.position) +
                                                       " and " + std::to_string(n_q_) +
                                                       " rows exceed the context of " +
                                                       std::to_string(a_.kv_len));
    }
    if (has(AttentionIn::lengths)) {
      n_k_ = call_.tensors.word(id(AttentionIn::lengths), b);
      if (n_k_ > a_.kv_len)
        return call_.error(Code::invalid_argument, "lengths[" + std::to_string(b) + "] is " +
                                                       std::to_string(n_k_) + ", of " +
                                                       std::to_string(a_.kv_len) + " keys");
    }
    prefix_ =
        has(AttentionIn::prefixes) ? call_.tensors.word(id(AttentionIn::prefixes), b) : a_.prefix_length;
    first_key_ = a_.ring && n_k_ > a_.kv_len ? n_k_ - a_.kv_len : 0;
    return {};
  }

  // Where row j of k or v begins.
  Result<std::uint64_t> key_at(const Strides& strides, AttentionIn in, std::uint64_t b, std::uint64_t head,
                               std::uint64_t j) const {
    if (a_.ring) j %= a_.kv_len;
    if (a_.block_size == 0) return b * strides[0] + head * strides[1] + j * strides[2];
    const std::uint64_t entry = b * (a_.kv_len / a_.block_size) + j / a_.block_size;
    const std::uint64_t block = call_.tensors.word(id(AttentionIn::table), entry);
    if (block >= call_.value(id(in)).shape[0])
      return call_.error(Code::invalid_argument,
                         "block table entry " + std::to_string(entry) + " is " + std::to_string(block) +
                             ", of " + std::to_string(call_.value(id(in)).shape[0]) + " blocks");
    return block * strides[0] + head * strides[1] + j % a_.block_size * strides[2];
  }

  // Keys [first_key_, n) of one KV head, rows one after the other. With raw scores every key there is.
  Result<void> load_keys(std::uint64_t b, std::uint64_t head) {
    for (auto [in, strides, dim, out] : {std::tuple(AttentionIn::k, &a_.k_strides, a_.head_dim, &k_),
                                         std::tuple(AttentionIn::v, &a_.v_strides, a_.v_dim, &v_)}) {
      out->assign((n_k_ - first_key_) * dim, 0);
      for (std::uint64_t j = first_key_; j < n_k_; ++j) {
        TSR_TRY(const std::uint64_t at, key_at(*strides, in, b, head, j));
        float* row = out->data() + (j - first_key_) * dim;
        if ((*strides)[3] == 1) {
          call_.tensors.read(id(in), at, {row, dim});
        } else {
          for (std::uint64_t e = 0; e < dim; ++e)
            call_.tensors.read(id(in), at + e * (*strides)[3], {row + e, 1});
        }
      }
    }
    kv_flush_ = bounds::flush_below(call_.value(id(AttentionIn::k)).dtype);
    return {};
  }

  Row place(std::uint64_t b, std::uint64_t head, std::uint64_t row) const {
    Row r{b, head, row, row, n_q_, 0, n_k_};
    if (documents_.empty()) return r;
    const std::size_t n = documents_.size() / 2;
    r.n_q = r.n_k = 0;
    for (std::size_t d = 0; d + 1 < n; ++d) {
      if (row < documents_[d] || row >= documents_[d + 1]) continue;
      r.row = row - documents_[d];
      r.n_q = documents_[d + 1] - documents_[d];
      r.key0 = documents_[n + d];
      r.n_k = documents_[n + d + 1] - documents_[n + d];
    }
    return r;
  }

  // Keys of the row's document that causality and the window leave.
  Span seen(const Row& r) const {
    const auto n_k = static_cast<std::int64_t>(r.n_k);
    const std::int64_t centre =
        static_cast<std::int64_t>(r.row) +
        (a_.causal == Causal::bottom_right ? n_k - static_cast<std::int64_t>(r.n_q) : 0);
    std::int64_t begin = static_cast<std::int64_t>(first_key_), end = n_k;
    if (a_.causal != Causal::none)
      end = std::min(end, std::max(centre + 1, static_cast<std::int64_t>(prefix_)));
    if (a_.window_left != kNoWindow)
      begin = std::max(begin, centre - static_cast<std::int64_t>(a_.window_left));
    if (a_.window_right != kNoWindow)
      end = std::min(end, centre + static_cast<std::int64_t>(a_.window_right) + 1);
    end = std::max(end, begin);
    return {static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end)};
  }

  // Relative error of rounding an operand to 16 bits, f16 for bf16 too; 0 where that is not allowed.
  double operand_rounding() const {
    if (a_.precision == Precision::f32) return 0;
    const bool bf16 = call_.value(id(AttentionIn::k)).dtype == DType::bf16 ||
                      call_.value(id(AttentionIn::q)).dtype == DType::bf16;
    return bf16 ? bounds::kRoundBf16 : bounds::kRoundF16;
  }

  // Whether each of those roundings is an accident of its own, or all go the same way.
  bool likely() const { return call_.likely && a_.precision == Precision::mixed; }

  // scale * sum v tanh(q + k). The sum q + k is off by an ulp, through tanh's slope.
  Inexact additive_score(const Row& r, const float* key) const {
    double sum = 0, off = 0, magnitude = 0;
    for (std::uint64_t i = 0; i < a_.head_dim; ++i) {
      const double q = q_.at(r.batch, r.head, r.whole, i), k = key[i], x = q + k, t = std::tanh(x);
      const double v = vector_[r.head * a_.head_dim + i];
      double moved = bounds::kUlp * std::fabs(x);
      if (std::fabs(k) < kv_flush_) moved += std::fabs(k);
      if (std::fabs(q) < q_.flush) moved += std::fabs(q);
      sum += v * t;
      magnitude += std::fabs(v * t);
      off += std::fabs(v) * (bounds::tanh_error(x) + moved + bounds::kFlush);
    }
    off += bounds::gamma(static_cast<double>(a_.head_dim) + 4) * magnitude;
    return {a_.scale * sum, std::fabs(a_.scale) * off + bounds::kFlush};
  }

  // scale * q.k, the cosine, or the additive score.
  Inexact raw_score(const Row& r, std::uint64_t j) const {
    const std::uint64_t d = a_.head_dim;
    const float* key = k_.data() + (r.key0 + j - first_key_) * d;
    if (a_.score == AttentionScore::additive) return additive_score(r, key);
    const double h = operand_rounding(), scale = a_.scale;
    double sum = 0, magnitude = 0, flushed = 0, q_square = 0, k_square = 0, squares = 0;
    for (std::uint64_t i = 0; i < d; ++i) {
      const double q = q_.at(r.batch, r.head, r.whole, i), k = key[i], term = q * k;
      sum += term;
      magnitude += std::fabs(term);
      squares += term * term;
      if (std::fabs(k) < kv_flush_ || std::fabs(q) < q_.flush) flushed += std::fabs(term);
      if (h > 0) {  // f16 below its normal numbers: an absolute error
        flushed += bounds::kFlushF16 * ((std::fabs(k) < bounds::kFlushF16 ? std::fabs(q) : 0) +
                                        (std::fabs(q) < bounds::kFlushF16 ? std::fabs(k) : 0));
        if (std::fabs(q) > bounds::kMostF16 || std::fabs(k) > bounds::kMostF16) flushed = kInfinity;
      }
      q_square += q * q;
      k_square += k * k;
    }
    const double rounded = likely() ? h * std::sqrt(2 * squares) : (2 * h + h * h) * magnitude;
    const double off = bounds::gamma(static_cast<double>(d) + 4) * magnitude + rounded + flushed;
    if (a_.score == AttentionScore::dot) {
      // With mixed, scale may be multiplied into q before it is rounded: the same relative error.
      return {scale * sum, std::fabs(scale) * off + bounds::kFlush};
    }
    const double norm = std::sqrt(q_square) * std::sqrt(k_square);
    if (norm == 0) return {0, 0};
    const double value = scale * sum / norm;
    return {value,
            std::fabs(scale) / norm * off + std::fabs(value) * (bounds::gamma(static_cast<double>(d) + 4) +
                                                                2 * bounds::kNormUlps * bounds::kUlp)};
  }

  Inexact capped(Inexact s) const {
    if (a_.softcap == 0) return s;
    const double c = a_.softcap, z = s.value / c, t = std::tanh(z);
    const double tanh_error = bounds::tanh_error(z);
    return {c * t, std::min(s.error + 2 * bounds::kUlp * std::fabs(s.value), 2 * c) +
                       c * (tanh_error + 2 * bounds::kUlp)};
  }

  std::uint64_t relative_entry(const Row& r, std::uint64_t j) const {
    const auto signed_of = [](std::uint64_t x) { return static_cast<std::int64_t>(x); };
    const std::int64_t size = a_.relative_size;
    if (a_.relative == RelativeBias::distance)
      return static_cast<std::uint64_t>(
          std::clamp(signed_of(j + r.n_q) - signed_of(r.row + r.n_k), -size, size) + size);
    const std::int64_t row = signed_of(r.whole), key = signed_of(r.key0 + j), rows = a_.q_len / size;
    return static_cast<std::uint64_t>((row / size - key / size + rows - 1) * (2 * size - 1) + row % size -
                                      key % size + size - 1);
  }

  // Bias, mask, relative bias and ALiBi added; -infinity when one of them masks.
  Inexact added(const Row& r, std::uint64_t j, Inexact s) const {
    double sum = s.value, magnitude = std::fabs(s.value), flushed = 0;
    const std::uint64_t key = r.key0 + j;
    for (const Tensor4* t : {&bias_, &mask_}) {
      if (!t->present) continue;
      const double x = t->at(r.batch, r.head, r.whole, key);
      if (t == &mask_ && boolean_) {
        if (x == 0) return {-kInfinity, 0};
        continue;
      }
      sum += x;
      magnitude += std::fabs(x);
      if (std::fabs(x) < t->flush) flushed += std::fabs(x);
    }
    if (!relative_.empty()) {
      const double x = relative_[relative_entry(r, j) * a_.heads + r.head];
      sum += x;
      magnitude += std::fabs(x);
    }
    if (!slopes_.empty()) {
      const double far = std::fabs(static_cast<double>(r.row) + static_cast<double>(r.n_k) -
                                   static_cast<double>(r.n_q) - static_cast<double>(j));
      sum -= slopes_[r.head] * far;
      magnitude += std::fabs(slopes_[r.head] * far);
    }
    if (!(sum >= kLeast)) return {std::isnan(sum) ? sum : -kInfinity, 0};
    return {sum, s.error + flushed + 4 * bounds::kUlp * magnitude};
  }

  void one_row(std::uint64_t b, std::uint64_t head, std::uint64_t row) {
    const Row r = place(b, head, row);
    const Span keys = seen(r);
    const std::uint64_t n = keys.end - keys.begin;
    std::vector<Inexact> score(n);
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t j = keys.begin + i;
      score[i] = lists_.name(r.batch, r.head, r.whole, r.key0 + j) ? added(r, j, capped(raw_score(r, j)))
                                                                   : Inexact{-kInfinity, 0};
    }
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
  void weigh(const Row& r, Span keys, const std::vector<Inexact>& score, double most) {
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
  void element(const Row& r, Span keys, std::uint64_t i, double most) {
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

  void put_y(const Row& r, std::uint64_t i, double value, double error) {
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

  void write_lse(const Row& r, double most) {
    if (lse_.value == kNoValue) return;
    lse_.elements.push_back((r.batch * a_.heads + r.head) * a_.q_len + r.whole);
    if (most == -kInfinity) return put_exact(lse_, most);
    put(call_, lse_, most + std::log(total_), lse_error(most));
  }

  void write_scores(const Row& r, Span keys, const std::vector<Inexact>& score, double most) {
    const std::uint64_t heads = a_.score_heads ? a_.score_heads : a_.heads - a_.score_head;
    const std::uint64_t rows = a_.score_rows ? a_.score_rows : a_.q_len - a_.score_row;
    if (scores_.value == kNoValue || r.head < a_.score_head || r.head >= a_.score_head + heads ||
        r.whole < a_.score_row || r.whole >= a_.score_row + rows)
      return;
    const std::uint64_t at =
        ((r.batch * heads + r.head - a_.score_head) * rows + r.whole - a_.score_row) * a_.kv_len;
    const bool weights = a_.scores == AttentionScores::weights;
    for (std::uint64_t column = 0; column < a_.kv_len; ++column) {
      scores_.elements.push_back(at + column);
      if (a_.scores == AttentionScores::raw || a_.scores == AttentionScores::capped) {
        raw_column(r, column);
        continue;
      }
      const std::uint64_t i = column - r.key0 - keys.begin;  // wraps around below the first
      const bool inside = column >= r.key0 + keys.begin && i < score.size() && score[i].value != -kInfinity;
      if (highest_.unsure().contains(i)) {
        const double value = weights ? weight_[i] / total_ : score[i].value;
        put(call_, scores_, value,
            weights ? (1 + spread_) * std::exp(highest_.unsure().at(i) - most) / total_ * unsure_ratio()
                    : kInfinity);
      } else if (!inside) {
        put_exact(scores_, weights ? 0 : -kInfinity);
      } else if (!weights) {
        put(call_, scores_, score[i].value, score[i].error);
      } else {
        const double w = weight_[i] / total_;
        const double exponent = score[i].error + lse_error(most) +
                                bounds::kUlp * (4 + 4 * (most + std::log(total_) - score[i].value) +
                                                3 * std::fabs(most + std::log(total_)));
        put(call_, scores_, w, exponent < 1 ? w * std::expm1(exponent) + 2 * bounds::kFlush : kInfinity);
      }
    }
  }

  // raw and capped: every key, masked or not; 0 where there is none.
  void raw_column(const Row& r, std::uint64_t column) {
    if (column < first_key_ || column >= n_k_) return put_exact(scores_, 0);
    Row whole = r;
    whole.key0 = 0;
    Inexact s = raw_score(whole, column);
    if (a_.scores == AttentionScores::capped) s = capped(s);
    put(call_, scores_, s.value, s.error);
  }

  static constexpr double kLeast = -1e38;  // an additive mask below it masks

  const OpCall& call_;
  AttentionAttrs a_;
  Tensor4 q_, mask_, bias_;
  bool boolean_ = false;
  std::vector<float> slopes_, sinks_, relative_, vector_;
  std::vector<std::uint64_t> documents_;  // first rows, then first keys
  BlockLists lists_;
  std::vector<float> k_, v_;  // of the KV head at hand
  double kv_flush_ = 0;
  std::uint64_t n_q_ = 0, n_k_ = 0, first_key_ = 0, prefix_ = 0;

  // Of the row at hand.
  std::vector<double> weight_, off_;
  Highest highest_;
  double total_ = 0, spread_ = 0, rescales_ = 0;
  std::uint64_t visible_ = 0;
  ReferenceOutput y_, lse_, scores_;
};

}  // namespace

Result<Outputs> run_attention(const OpCall& call) {
  if (call.op.attrs.attention.user != nullptr)
    return Error{Code::unsupported, "attention: the reference does not run a user's GLSL, choose a device"};
  return Attention(call).run();
}

}  // namespace tessera
