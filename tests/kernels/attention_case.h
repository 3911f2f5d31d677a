// One attention with everything that base/attention.h describes: operands with values, and what it gives by
// plain loops in double, with the bound that f32 arithmetic keeps.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "interface/attention.h"
#include "kernels/data.h"
#include "kernels/strided_elements.h"

namespace tessera::test {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kUnit = 0x1p-24;  // of rounding, f32

// What an operand of a product may lose in precision mixed: one ulp of f16 (conversions may round either
// way), and what is below its smallest number; a stored f16 only what may be flushed.
inline double half_error(double x, bool stored_f16) {
  if (stored_f16) return std::abs(x) < 0x1p-14 ? std::abs(x) : 0;
  return std::abs(x) * 0x1p-10 + 0x1p-24;
}

struct AttentionCase {
  AttentionShape shape;
  std::uint32_t position = 0, rows = 0;  // of the state
  std::vector<std::uint32_t> lengths{}, documents{}, table{}, lists{}, prefixes{};
  float spread = 1;                        // of q
  float add_spread = 1;                    // of mask and bias
  double keep = 0.7;                       // share of keys that a mask keeps
  std::vector<std::uint32_t> key_order{};  // key j has the values of key key_order[j]; empty: its own
  bool ones = false;                       // every value is 1
  std::uint32_t seed = 1;

  std::uint32_t n_q() const {
    return shape.operands.state ? std::min(rows, shape.attrs.q_len) : shape.attrs.q_len;
  }
  std::uint32_t n_k(std::uint32_t batch) const {
    const AttentionAttrs& a = shape.attrs;
    if (shape.operands.state && a.ring) return position + n_q();
    if (shape.operands.state)
      return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{position} + n_q(), a.kv_len));
    return lengths.empty() ? a.kv_len : std::min(lengths[batch], a.kv_len);
  }
};

class Attention {
 public:
  explicit Attention(AttentionCase wanted) : c(std::move(wanted)) {
    resolve_strides(c.shape.attrs);
    AttentionAttrs& a = c.shape.attrs;
    if (a.score_heads == 0) a.score_heads = a.heads - a.score_head;
    if (a.score_rows == 0) a.score_rows = a.q_len - a.score_row;
    fill_q();
    fill_kv();
    fill_scores_terms();
  }

  AttentionCase c;
  Bytes q, k, v, state, mask, bias, slopes, sinks, lengths, documents, table, lists, prefixes, relative,
      vector;
  Bytes y, lse, scores;  // poison, then what the kernels wrote

  std::vector<Bytes*> operands() {
    const AttentionOperands& o = c.shape.operands;
    const AttentionAttrs& a = c.shape.attrs;
    const std::uint64_t last = y_at(a.batch - 1, a.heads - 1, a.q_len - 1, a.v_dim - 1);
    const std::uint64_t words = ((last + 1) * info(c.shape.y_type).block_bytes + 3) / 4;
    y = to_bytes(std::vector<std::uint32_t>(words, 0x7fff7fffu));
    lse = poisoned(o.lse ? std::size_t{a.batch} * a.heads * a.q_len : 1);
    scores = poisoned(a.scores != AttentionScores::none
                          ? std::size_t{a.batch} * score_slots(a) * a.score_rows * a.kv_len
                          : 1);
    const auto if_there = [](bool there, Bytes& bytes) { return there ? &bytes : nullptr; };
    return {&q,
            &k,
            &v,
            if_there(o.state, state),
            nullptr,
            &y,
            if_there(o.mask.has_value(), mask),
            if_there(o.bias.has_value(), bias),
            if_there(o.slopes, slopes),
            if_there(o.sinks, sinks),
            if_there(a.score == AttentionScore::additive, vector),
            if_there(o.documents != 0, documents),
            if_there(o.table, table),
            if_there(o.lse, lse),
            if_there(o.list_words != 0, lists),
            nullptr,
            &scores,
            if_there(o.lengths, lengths),
            if_there(o.prefixes, prefixes),
            if_there(a.relative != RelativeBias::none, relative)};
  }

  struct Row {
    std::vector<double> value, bound;  // y
    double lse = -kInfinity, lse_bound = 0;
    std::vector<double> score, score_bound;  // as the scores output is asked for
  };
  Row expected(std::uint32_t b, std::uint32_t h, std::uint32_t i) const;

  std::uint64_t y_at(std::uint32_t b, std::uint32_t h, std::uint32_t i, std::uint32_t d) const {
    const Strides& s = c.shape.attrs.y_strides;
    return b * s[0] + h * s[1] + i * s[2] + d * s[3];
  }
  std::vector<double> y_values() const {  // NaN: untouched
    std::vector<double> out;
    if (c.shape.y_type == DType::f32) {
      for (const float x : from_bytes<float>(y)) out.push_back(x);
    } else {
      for (const std::uint16_t x : from_bytes<std::uint16_t>(y))
        out.push_back(c.shape.y_type == DType::f16 ? f16_to_f32(x) : bf16_to_f32(x));
    }
    return out;
  }

 private:
  struct Term {  // one score: its value and what it may be off by, natural
    double raw, capped, full, raw_bound, bound;
    bool masked;
  };
  Term term(std::uint32_t b, std::uint32_t h, std::uint32_t i, std::uint32_t j) const;
  // Masks all but the top_k highest; those that may change places with the last of them within their errors.
  std::vector<std::size_t> keep_top(std::vector<Term>& terms) const;
  double relative_bias(std::uint32_t h, std::uint32_t i, std::uint32_t j, std::int64_t offset) const;
  bool listed(std::uint32_t b, std::uint32_t h, std::uint32_t i, std::uint32_t j) const;
  bool seen(std::uint32_t b, std::uint32_t i, std::uint32_t j, std::int64_t& distance) const;
  std::uint64_t slot(std::uint32_t b, std::uint32_t j, std::uint64_t& row) const;
  void fill_q();
  void fill_kv();
  void fill_scores_terms();
  // From -1 to 1, the same for the same element of whatever case has this seed.
  float random(std::uint64_t tensor, std::uint64_t a, std::uint64_t b, std::uint64_t row,
               std::uint64_t d) const {
    std::uint64_t x = c.seed;
    for (const std::uint64_t part : {tensor, a, b, row, d}) {
      x = (x ^ part) * 0x9e3779b97f4a7c15ull;
      x ^= x >> 29;
    }
    return static_cast<float>(static_cast<double>(x * 0xbf58476d1ce4e5b9ull >> 40) * 0x1p-23 - 1);
  }
  std::uint32_t key_of(std::uint32_t j) const { return c.key_order.empty() ? j : c.key_order[j]; }

  Elements q_, k_, v_, mask_, bias_;
  std::vector<float> slopes_, sinks_, relative_, vector_;
};

inline void Attention::fill_q() {
  const AttentionAttrs& a = c.shape.attrs;
  q_ = Elements(c.shape.q_type, a.q_strides, {a.batch, a.heads, a.q_len, a.head_dim});
  for (std::uint32_t b = 0; b < a.batch; ++b)
    for (std::uint32_t h = 0; h < a.heads; ++h)
      for (std::uint32_t i = 0; i < c.n_q(); ++i)
        for (std::uint32_t d = 0; d < a.head_dim; ++d)
          q_[q_.at(b, h, i, d)] = random(0, b, h, c.position + i, d) * c.spread;
  q = q_.encode(a.head_dim);
  state = state_bytes(c.position, c.rows);
  lengths = to_bytes(c.lengths);
  documents = to_bytes(c.documents);
  table = to_bytes(c.table);
  lists = to_bytes(c.lists);
  prefixes = to_bytes(c.prefixes);
}

// First index of the tensors and row in it of key j.
inline std::uint64_t Attention::slot(std::uint32_t b, std::uint32_t j, std::uint64_t& row) const {
  const AttentionAttrs& a = c.shape.attrs;
  row = a.ring ? j % a.kv_len : j;
  if (a.block_size == 0) return b;
  row = j % a.block_size;
  return std::min(c.table[b * (a.kv_len / a.block_size) + j / a.block_size], c.shape.blocks - 1);
}

inline void Attention::fill_kv() {
  const AttentionAttrs& a = c.shape.attrs;
  const std::uint64_t first = a.block_size != 0 ? c.shape.blocks : a.batch;
  const std::uint64_t rows = a.block_size != 0 ? a.block_size : a.kv_len;
  k_ = Elements(c.shape.kv_type, a.k_strides, {first, a.kv_heads, rows, a.head_dim});
  v_ = Elements(c.shape.kv_type, a.v_strides, {first, a.kv_heads, rows, a.v_dim});
  for (std::uint32_t b = 0; b < a.batch; ++b)
    for (std::uint32_t g = 0; g < a.kv_heads; ++g) {
      const std::uint32_t keys = c.n_k(b);
      for (std::uint32_t j = a.ring && keys > a.kv_len ? keys - a.kv_len : 0; j < keys; ++j) {
        std::uint64_t row = 0;
        const std::uint64_t at = slot(b, j, row);
        for (std::uint32_t d = 0; d < a.head_dim; ++d)
          k_[k_.at(at, g, row, d)] = random(1, b, g, key_of(j), d);
        for (std::uint32_t d = 0; d < a.v_dim; ++d)
          v_[v_.at(at, g, row, d)] = c.ones ? 1 : random(2, b, g, key_of(j), d);
      }
    }
  k = k_.encode(a.head_dim);
  v = v_.encode(a.v_dim);
}

inline void Attention::fill_scores_terms() {
  const AttentionAttrs& a = c.shape.attrs;
  const AttentionOperands& o = c.shape.operands;
  slopes_ = random_floats(a.heads, c.seed + 7);
  sinks_ = random_floats(a.heads, c.seed + 8, 3);
  slopes = to_bytes(slopes_);
  relative_ = random_floats(std::max<std::uint64_t>(relative_entries(a) * a.heads, 1), c.seed + 9, 2);
  relative = to_bytes(relative_);
  vector_ = random_floats(std::size_t{a.heads} * a.head_dim, c.seed + 10);
  vector = to_bytes(vector_);
  sinks = to_bytes(sinks_);
  const auto fill = [&](Elements& to, Bytes& bytes, DType type, const Strides& strides,
                        const std::function<float(float)>& value) {
    to = Elements(type == DType::u8 ? DType::f32 : type, strides, {a.batch, a.heads, a.q_len, a.kv_len});
    for (std::uint32_t b = 0; b < a.batch; ++b)
      for (std::uint32_t h = 0; h < a.heads; ++h)
        for (std::uint32_t i = 0; i < a.q_len; ++i)
          for (std::uint32_t j = 0; j < a.kv_len; ++j) {
            const std::uint64_t n = to.at(b, h, i, 0);
            to[to.at(b, h, i, j)] =
                value(random(type == DType::u8 ? 3 : 4, n, 0, 0, strides[3] == 0 ? 0 : key_of(j)));
          }
    bytes = to.encode(0);
    if (type != DType::u8) return;
    const std::vector<float> floats = from_bytes<float>(bytes);
    std::vector<std::uint8_t> booleans((floats.size() + 3) / 4 * 4, 0xab);
    for (std::size_t n = 0; n < floats.size(); ++n) booleans[n] = static_cast<std::uint8_t>(floats[n]);
    bytes = to_bytes(booleans);
  };
  if (o.mask)
    fill(mask_, mask, *o.mask, o.mask_strides, [&](float x) -> float {
      const bool kept = (x + 1) / 2 < c.keep;
      if (*o.mask == DType::u8) return kept ? 4.0f : 0.0f;
      return kept ? x * c.add_spread : -std::numeric_limits<float>::infinity();
    });
  if (o.bias) fill(bias_, bias, *o.bias, o.bias_strides, [&](float x) { return x * c.add_spread; });
}

// relative[e, h] for row i and key j, `offset` = j - (i + n_k - n_q).
inline double Attention::relative_bias(std::uint32_t h, std::uint32_t i, std::uint32_t j,
                                       std::int64_t offset) const {
  const AttentionAttrs& a = c.shape.attrs;
  const std::int64_t size = a.relative_size;
  std::int64_t entry = std::clamp(offset, -size, size) + size;
  if (a.relative == RelativeBias::window) {
    const std::int64_t down = i / size - j / size, right = i % size - j % size;
    entry = (down + a.q_len / size - 1) * (2 * size - 1) + right + size - 1;
  }
  return relative_[static_cast<std::size_t>(entry) * a.heads + h];
}

inline bool Attention::listed(std::uint32_t b, std::uint32_t h, std::uint32_t i, std::uint32_t j) const {
  if (c.lists.empty()) return true;
  const AttentionAttrs& a = c.shape.attrs;
  const std::uint64_t blocks = list_rows(a) + 1, heads = a.lists_by_head ? a.heads : 1;
  const std::uint64_t at =
      ((a.lists_by_batch ? b : 0) * heads + (a.lists_by_head ? h : 0)) * blocks + i / a.q_block;
  const auto first = c.lists.begin() + static_cast<std::ptrdiff_t>(list_firsts(a));
  return std::find(first + c.lists[at], first + c.lists[at + 1], j / a.k_block) != first + c.lists[at + 1];
}

// Whether row i of sequence b sees key j, and j - (i + n_k - n_q).
inline bool Attention::seen(std::uint32_t b, std::uint32_t i, std::uint32_t j, std::int64_t& distance) const {
  const AttentionAttrs& a = c.shape.attrs;
  std::int64_t row = i, key = j, n_q = c.n_q(), n_k = c.n_k(b);
  distance = 0;
  if (key >= n_k) return false;
  if (c.shape.operands.documents != 0) {
    const std::uint32_t count = c.shape.operands.documents;
    std::uint32_t doc = 0;
    while (doc < count && !(c.documents[doc] <= i && i < c.documents[doc + 1])) ++doc;
    if (doc == count) return false;
    const std::int64_t first_key = c.documents[count + 1 + doc], end_key = c.documents[count + 2 + doc];
    if (key < first_key || key >= end_key) return false;
    n_q = std::int64_t{c.documents[doc + 1]} - c.documents[doc];
    n_k = end_key - first_key;
    row -= c.documents[doc];
    key -= first_key;
  }
  distance = key - (row + n_k - n_q);
  const std::int64_t centre = a.causal == Causal::bottom_right ? row + n_k - n_q : row;
  const std::int64_t prefix = c.prefixes.empty() ? a.prefix_length : c.prefixes[b];
  if (a.causal != Causal::none && key > centre && key >= prefix) return false;
  if (a.window_left != kNoWindow && key < centre - std::int64_t{a.window_left}) return false;
  return a.window_right == kNoWindow || key <= centre + std::int64_t{a.window_right};
}

// Bounds, with u = 2^-24: a sum of d products is off by (d + 4) u times the sum of their magnitudes (scale
// and log2(e) are in the 4); the norms of a cosine by (d + 8) u each; tanh by 16 ulp of the cap; each term
// that is added by 3 u of itself; of an additive score each tanh is off by less than 32 u, and q + k by a
// rounding, which the factor of the sum's rounding covers from 4 dimensions on: (16 + 2 |q + k|) (d + 6) u,
// that is added by 3 u of itself, and the sum by 2 u of all.
inline Attention::Term Attention::term(std::uint32_t b, std::uint32_t h, std::uint32_t i,
                                       std::uint32_t j) const {
  const AttentionAttrs& a = c.shape.attrs;
  const AttentionOperands& o = c.shape.operands;
  const std::uint32_t g = h / (a.heads / a.kv_heads), dim = a.head_dim;
  std::uint64_t row = 0;
  const std::uint64_t at = slot(b, j, row);
  const bool mixed = a.precision == Precision::mixed, cosine = a.score == AttentionScore::cosine;
  double product = 0, magnitude = 0, qq = 0, kk = 0, rounding = 0;
  const bool additive = a.score == AttentionScore::additive;
  for (std::uint32_t d = 0; d < dim; ++d) {
    const double qd = q_(b, h, i, d), kd = k_(at, g, row, d);
    const double term = additive ? vector_[h * dim + d] * std::tanh(qd + kd) : qd * kd;
    product += term;
    magnitude += additive ? std::abs(vector_[h * dim + d]) * (16 + 2 * std::abs(qd + kd)) : std::abs(term);
    qq += qd * qd;
    kk += kd * kd;
  }
  const double q_norm = cosine ? std::sqrt(qq) : 1, k_norm = cosine ? std::sqrt(kk) : 1;
  for (std::uint32_t d = 0; mixed && !additive && d < dim && q_norm > 0 && k_norm > 0; ++d) {
    const double qd = q_(b, h, i, d) / q_norm, kd = k_(at, g, row, d) / k_norm;
    const double q_error = half_error(qd, !cosine && c.shape.q_type == DType::f16);
    const double k_error = half_error(kd, !cosine && c.shape.kv_type == DType::f16);
    rounding += q_error * std::abs(kd) + k_error * std::abs(qd) + q_error * k_error;
  }
  double scale = a.scale, roundings = (dim + 6) * kUnit;
  if (a.score == AttentionScore::cosine) {
    scale = qq > 0 && kk > 0 ? scale / (std::sqrt(qq) * std::sqrt(kk)) : 0;
    roundings = (2 * dim + 24) * kUnit;
  }
  Term t{};
  t.raw = t.capped = scale * product;
  // Matrix units may cut off what they add: four times as much.
  t.bound = t.raw_bound = std::abs(scale) * magnitude * roundings * (mixed ? 4 : 1) +
                          std::abs(double(a.scale)) * rounding + 1e-37;
  if (a.softcap > 0) {
    t.capped = a.softcap * std::tanh(t.raw / a.softcap);
    t.bound += a.softcap * 32 * kUnit;
  }
  std::int64_t distance = 0;
  t.masked = !seen(b, i, j, distance) || !listed(b, h, i, j);
  double added = 0, magnitudes = std::abs(t.capped);
  const auto add = [&](double term) {
    if (term < -1e38)
      t.masked = true;
    else
      added += term, magnitudes += std::abs(term);
  };
  if (o.slopes) add(-slopes_[h] * double(std::abs(distance)));
  if (a.relative != RelativeBias::none) add(relative_bias(h, i, j, distance));
  if (o.bias) add(bias_(b, h, i, j));
  if (o.mask && *o.mask == DType::u8) t.masked = t.masked || mask_(b, h, i, j) == 0;
  if (o.mask && *o.mask != DType::u8) add(mask_(b, h, i, j));
  t.full = t.capped + added;
  t.bound += magnitudes * 8 * kUnit;
  return t;
}

// With errors e of the scores, x = s - max and p the exact weights:
//   exp2      (3 + 2|x|) ulp, ulp = 2u, and the subtraction's u |x|
//   rescaling at most keys/16 + 4 times, each 4 ulp and in all 2 max|x| ulp
//   sums      n u each of the numerator and the denominator, and a few operations around them
// so that |dy| <= sum_j p_j |v_j| (e_j + sum_i p_i e_i + (2n + 8) u).
inline std::vector<std::size_t> Attention::keep_top(std::vector<Term>& terms) const {
  std::vector<std::size_t> order, unsure;
  for (std::size_t j = 0; j < terms.size(); ++j)
    if (!terms[j].masked) order.push_back(j);
  const std::size_t kept = c.shape.attrs.top_k;
  if (kept == 0 || order.size() <= kept) return unsure;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return terms[a].full > terms[b].full; });
  const Term last = terms[order[kept - 1]], next = terms[order[kept]];
  const bool sure = last.full - next.full > last.bound + next.bound;
  for (std::size_t n = 0; n < order.size(); ++n) {
    Term& t = terms[order[n]];
    const Term& other = n < kept ? next : last;
    if (!sure && std::abs(t.full - other.full) <= t.bound + other.bound) unsure.push_back(order[n]);
    t.masked = n >= kept;
  }
  return unsure;
}

inline Attention::Row Attention::expected(std::uint32_t b, std::uint32_t h, std::uint32_t i) const {
  const AttentionAttrs& a = c.shape.attrs;
  const bool mixed = a.precision == Precision::mixed;
  Row out{std::vector<double>(a.v_dim), std::vector<double>(a.v_dim), -kInfinity, 0, {}, {}};
  const std::uint32_t keys = c.n_k(b), g = h / (a.heads / a.kv_heads);
  const std::uint32_t begin = a.ring && keys > a.kv_len ? keys - a.kv_len : 0;
  std::vector<Term> terms;
  for (std::uint32_t j = begin; j < keys; ++j) {
    terms.push_back(term(b, h, i, j));
  }
  const std::vector<std::size_t> unsure = keep_top(terms);
  double best = -kInfinity, least = kInfinity;
  std::size_t n = 0;
  for (const Term& t : terms) {
    if (t.masked) continue;
    ++n;
    best = std::max(best, t.full);
    least = std::min(least, t.full);
  }
  const bool sink = c.shape.operands.sinks;
  if (sink) best = std::max(best, double(sinks_[h])), least = std::min(least, double(sinks_[h]));
  double sum = sink ? std::exp(sinks_[h] - best) : 0, mean_error = 0;
  std::vector<double> weight, error;
  for (const Term& t : terms) {
    const double x = (best - t.full) * 1.4427;
    error.push_back(t.bound + 2 * kUnit * (3 + 2 * x) + kUnit * x +
                    2 * kUnit * (4 * (double(n) / 16 + 4) + 3 * (best - least)) + 4 * kUnit * std::abs(best));
    weight.push_back(t.masked ? 0 : std::exp(t.full - best));
    sum += weight.back();
    if (!t.masked) mean_error += weight.back() * error.back();
  }
  if (sum > 0) {
    mean_error /= sum;
    out.lse = best + std::log(sum);
    out.lse_bound =
        mean_error + (double(n) + 16) * kUnit + 8 * kUnit * (std::abs(out.lse) + std::abs(best)) + 1e-6;
  }
  for (std::size_t j = 0; j < terms.size(); ++j) {
    if (terms[j].masked) continue;
    std::uint64_t row = 0;
    const std::uint64_t at = slot(b, begin + static_cast<std::uint32_t>(j), row);
    for (std::uint32_t d = 0; d < a.v_dim; ++d) {
      const double value = v_(at, g, row, d), part = weight[j] / sum * value;
      out.value[d] += part;
      out.bound[d] +=
          std::abs(part) * (error[j] + mean_error + (2 * double(n) + 12) * kUnit * (mixed ? 4 : 1));
      if (mixed)
        out.bound[d] += (half_error(weight[j], false) * std::abs(value) * 1.001 +
                         weight[j] * half_error(value, c.shape.kv_type == DType::f16)) /
                        sum;
    }
  }
  const double rounding = c.shape.y_type == DType::f16 ? 0x1p-11 : c.shape.y_type == DType::bf16 ? 0x1p-8 : 0;
  for (std::uint32_t d = 0; d < a.v_dim; ++d)
    out.bound[d] += rounding * (std::abs(out.value[d]) + out.bound[d]) + (rounding != 0 ? 0x1p-24 : 1e-36);

  // Each of those may come in or go, with the weight of another one: y is their mean with the rest.
  for (const std::size_t j : unsure) {
    const double w = std::exp(terms[j].full - best) * (1 + error[j]) / sum;
    std::uint64_t row = 0;
    const std::uint64_t at = slot(b, begin + static_cast<std::uint32_t>(j), row);
    for (std::uint32_t d = 0; d < a.v_dim; ++d)
      out.bound[d] += 1.01 * w * std::abs(v_(at, g, row, d) - out.value[d]);
  }
  if (!unsure.empty()) out.lse_bound += 1e-4;
  const bool after_masks = a.scores == AttentionScores::masked || are_weights(a.scores);
  for (std::uint32_t j = 0; j < a.kv_len && a.scores != AttentionScores::none; ++j) {
    const bool there = j < terms.size();
    double value = 0, bound = 1e-36;
    if (a.scores == AttentionScores::masked) value = -kInfinity;
    if (there) {
      const Term& t = terms[j];
      switch (a.scores) {
        case AttentionScores::raw: value = t.raw, bound += t.raw_bound + 4 * kUnit * std::abs(t.raw); break;
        case AttentionScores::capped: value = t.capped, bound += t.bound; break;
        case AttentionScores::masked:
          if (!t.masked) value = t.full, bound += t.bound;
          break;
        default:
          if (t.masked) break;
          value = weight[j] / sum;
          bound += value * (error[j] + out.lse_bound + 8 * kUnit * std::abs(t.full));
      }
    }
    if (after_masks && std::ranges::count(unsure, std::size_t{j}) != 0) {  // one of the two
      bound = are_weights(a.scores) ? bound + 1.01 * std::exp(terms[j].full - best) / sum : kInfinity;
      value = are_weights(a.scores) ? value : 0;
    }
    out.score.push_back(value);
    out.score_bound.push_back(bound);
  }
  return out;
}

}  // namespace tessera::test
