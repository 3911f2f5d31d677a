#include "reference/attention_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/bounds.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLeast = -1e38;  // an additive mask below it masks

// Strides of (a|1, b|1, c|1, d|1).
Strides broadcast(const std::vector<std::uint64_t>& shape) {
  Strides strides{};
  std::uint64_t step = 1;
  for (std::size_t i = 4; i-- > 0; step *= shape[i]) strides[i] = shape[i] == 1 ? 0 : step;
  return strides;
}

}  // namespace

AttentionScorer::Tensor4 AttentionScorer::tensor(AttentionIn in) const {
  Tensor4 t;
  if (!has(in)) return t;
  const Value& value = call_.value(id(in));
  t.present = true;
  t.data = call_.tensors.floats(id(in), 0, value.elems());
  t.flush = bounds::flush_below(value.dtype);
  return t;
}

Result<void> AttentionScorer::load() {
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
  return load_documents();
}

Result<void> AttentionScorer::load_documents() {
  if (!has(AttentionIn::documents)) return {};
  const std::uint64_t n = call_.value(id(AttentionIn::documents)).shape[1];
  for (std::uint64_t i = 0; i < 2 * n; ++i)
    documents_.push_back(call_.tensors.word(id(AttentionIn::documents), i));
  for (std::uint64_t side = 0; side < 2; ++side)
    for (std::uint64_t i = 0; i < n; ++i)
      if (documents_[side * n + i] > (side == 0 ? a_.q_len : a_.kv_len) ||
          (i > 0 && documents_[side * n + i] < documents_[side * n + i - 1]))
        return call_.error(Code::invalid_argument, "documents do not ascend, or end past the rows or keys");
  return {};
}

Result<void> AttentionScorer::begin_sequence(std::uint64_t b) {
  n_q_ = a_.q_len;
  n_k_ = a_.kv_len;
  if (has(AttentionIn::state)) {
    n_q_ = std::min<std::uint64_t>(call_.state.rows, a_.q_len);
    n_k_ = call_.state.position + n_q_;
    if (n_k_ > a_.kv_len && !a_.ring)
      return call_.error(Code::invalid_argument,
                         "position " + std::to_string(call_.state.position) + " and " + std::to_string(n_q_) +
                             " rows exceed the context of " + std::to_string(a_.kv_len));
  }
  if (has(AttentionIn::lengths)) {
    n_k_ = call_.tensors.word(id(AttentionIn::lengths), b);
    if (n_k_ > a_.kv_len)
      return call_.error(Code::invalid_argument, "lengths[" + std::to_string(b) + "] is " +
                                                     std::to_string(n_k_) + ", of " +
                                                     std::to_string(a_.kv_len) + " keys");
  }
  prefix_ = has(AttentionIn::prefixes) ? call_.tensors.word(id(AttentionIn::prefixes), b) : a_.prefix_length;
  first_key_ = a_.ring && n_k_ > a_.kv_len ? n_k_ - a_.kv_len : 0;
  return {};
}

Result<std::uint64_t> AttentionScorer::key_at(const Strides& strides, AttentionIn in, std::uint64_t b,
                                              std::uint64_t head, std::uint64_t j) const {
  if (a_.ring) j %= a_.kv_len;
  if (a_.block_size == 0) return b * strides[0] + head * strides[1] + j * strides[2];
  const std::uint64_t entry = b * (a_.kv_len / a_.block_size) + j / a_.block_size;
  const std::uint64_t block = call_.tensors.word(id(AttentionIn::table), entry);
  if (block >= call_.value(id(in)).shape[0])
    return call_.error(Code::invalid_argument, "block table entry " + std::to_string(entry) + " is " +
                                                   std::to_string(block) + ", of " +
                                                   std::to_string(call_.value(id(in)).shape[0]) + " blocks");
  return block * strides[0] + head * strides[1] + j % a_.block_size * strides[2];
}

Result<void> AttentionScorer::load_keys(std::uint64_t b, std::uint64_t head) {
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

AttentionRow AttentionScorer::place(std::uint64_t b, std::uint64_t head, std::uint64_t row) const {
  AttentionRow r{b, head, row, row, n_q_, 0, n_k_};
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

KeySpan AttentionScorer::seen(const AttentionRow& r) const {
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

double AttentionScorer::operand_rounding() const {
  if (a_.precision == Precision::f32) return 0;
  const bool bf16 = call_.value(id(AttentionIn::k)).dtype == DType::bf16 ||
                    call_.value(id(AttentionIn::q)).dtype == DType::bf16;
  return bf16 ? bounds::kRoundBf16 : bounds::kRoundF16;
}

bool AttentionScorer::likely() const { return call_.likely && a_.precision == Precision::mixed; }

Inexact AttentionScorer::additive_score(const AttentionRow& r, const float* key) const {
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

Inexact AttentionScorer::raw_score(const AttentionRow& r, std::uint64_t j) const {
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
  return {value, std::fabs(scale) / norm * off +
                     std::fabs(value) *
                         (bounds::gamma(static_cast<double>(d) + 4) + 2 * bounds::kNormUlps * bounds::kUlp)};
}

Inexact AttentionScorer::capped(Inexact s) const {
  if (a_.softcap == 0) return s;
  const double c = a_.softcap, z = s.value / c, t = std::tanh(z);
  const double tanh_error = bounds::tanh_error(z);
  return {c * t, std::min(s.error + 2 * bounds::kUlp * std::fabs(s.value), 2 * c) +
                     c * (tanh_error + 2 * bounds::kUlp)};
}

std::uint64_t AttentionScorer::relative_entry(const AttentionRow& r, std::uint64_t j) const {
  const auto signed_of = [](std::uint64_t x) { return static_cast<std::int64_t>(x); };
  const std::int64_t size = a_.relative_size;
  if (a_.relative == RelativeBias::distance)
    return static_cast<std::uint64_t>(
        std::clamp(signed_of(j + r.n_q) - signed_of(r.row + r.n_k), -size, size) + size);
  const std::int64_t row = signed_of(r.whole), key = signed_of(r.key0 + j), rows = a_.q_len / size;
  return static_cast<std::uint64_t>((row / size - key / size + rows - 1) * (2 * size - 1) + row % size -
                                    key % size + size - 1);
}

Inexact AttentionScorer::added(const AttentionRow& r, std::uint64_t j, Inexact s) const {
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

std::vector<Inexact> AttentionScorer::scores(const AttentionRow& r, KeySpan keys) const {
  std::vector<Inexact> out;
  for (std::uint64_t j = keys.begin; j < keys.end; ++j)
    out.push_back(lists_.name(r.batch, r.head, r.whole, r.key0 + j) ? added(r, j, capped(raw_score(r, j)))
                                                                    : Inexact{-kInfinity, 0});
  return out;
}

}  // namespace tessera
