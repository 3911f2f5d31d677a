// What softmax of an attention is over: operands, the keys that a row sees, and their scores with what a
// device may be off by.
#pragma once

#include <vector>

#include "reference/attention_keys.h"
#include "reference/ops.h"

namespace tessera {

struct KeySpan {
  std::uint64_t begin = 0, end = 0;
};

// A row's place: `row` counts within the sequence or document, keys too, from `key0` on.
struct AttentionRow {
  std::uint64_t batch = 0, head = 0;
  std::uint64_t whole = 0;  // row of the sequence
  std::uint64_t row = 0, n_q = 0;
  std::uint64_t key0 = 0, n_k = 0;
};

class AttentionScorer {
 protected:
  explicit AttentionScorer(const OpCall& call) : call_(call), a_(call.op.attrs.attention) {
    resolve_strides(a_);
  }

  Result<void> load();
  // n_q_ and n_k_ of sequence b.
  Result<void> begin_sequence(std::uint64_t b);
  // Keys [first_key_, n_k_) of one KV head, rows one after the other. With raw scores every key there is.
  Result<void> load_keys(std::uint64_t b, std::uint64_t head);

  AttentionRow place(std::uint64_t b, std::uint64_t head, std::uint64_t row) const;
  // Keys of the row's document that causality and the window leave.
  KeySpan seen(const AttentionRow& r) const;
  // scale * q.k, the cosine, or the additive score.
  Inexact raw_score(const AttentionRow& r, std::uint64_t j) const;
  Inexact capped(Inexact s) const;
  // What goes into softmax; -infinity where masked.
  std::vector<Inexact> scores(const AttentionRow& r, KeySpan keys) const;

  // Relative error of rounding an operand to 16 bits, f16 for bf16 too; 0 where that is not allowed.
  double operand_rounding() const;
  // Whether each of those roundings is an accident of its own, or all go the same way.
  bool likely() const;

  const OpCall& call_;
  AttentionAttrs a_;
  std::vector<float> sinks_;
  std::vector<float> v_;  // of the KV head at hand
  double kv_flush_ = 0;
  std::uint64_t n_q_ = 0, n_k_ = 0, first_key_ = 0;

 private:
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

  ValueId id(AttentionIn in) const { return call_.in(static_cast<std::size_t>(in)); }
  bool has(AttentionIn in) const { return id(in) != kNoValue; }
  Tensor4 tensor(AttentionIn in) const;
  // Where row j of k or v begins.
  Result<std::uint64_t> key_at(const Strides& strides, AttentionIn in, std::uint64_t b, std::uint64_t head,
                               std::uint64_t j) const;
  Result<void> load_documents();
  // scale * sum v tanh(q + k). The sum q + k is off by an ulp, through tanh's slope.
  Inexact additive_score(const AttentionRow& r, const float* key) const;
  std::uint64_t relative_entry(const AttentionRow& r, std::uint64_t j) const;
  // Bias, mask, relative bias and ALiBi added; -infinity when one of them masks.
  Inexact added(const AttentionRow& r, std::uint64_t j, Inexact s) const;

  Tensor4 q_, mask_, bias_;
  bool boolean_ = false;
  std::vector<float> slopes_, relative_, vector_;
  std::vector<std::uint64_t> documents_;  // first rows, then first keys
  BlockLists lists_;
  std::vector<float> k_;  // of the KV head at hand
  std::uint64_t prefix_ = 0;
};

}  // namespace tessera
