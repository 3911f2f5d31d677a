// Translation with an encoder-decoder over any Walker: greedy, or the best of several beams. Not thread-safe.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/log.h"
#include "graph/walker.h"
#include "models/transformer.h"
#include "text/tokenizer.h"

namespace tessera {

struct TranslateOptions {
  std::uint32_t beams = 1;               // at most the program's; 1 is greedy
  std::uint32_t max_tokens = 0;          // of a target, EOS not counted; 0: what the program holds
  std::span<const TokenId> prefix = {};  // every target begins with these
};

struct Hypothesis {
  std::vector<TokenId> ids;  // the prefix first; neither BOS nor EOS
  double score = 0;          // sum of the natural log-probabilities of `ids`, and of EOS when it is finished
  bool finished = false;     // by EOS; else max_tokens was reached
};

class Seq2SeqSession {
 public:
  // `walker` runs `transformer.program` or its fused form.
  Seq2SeqSession(std::unique_ptr<Walker> walker, TransformerProgram transformer, Progress progress);

  // At most `beams` hypotheses, the best first, finished ones before others; at least one.
  //
  // A step extends every beam by every token. Of the extensions, best first, those by EOS that are among the
  // first `beams` are finished, and the first `beams` others go on. It ends when `beams` are finished and no
  // beam can become better than the worst of the best `beams` of them. Equal scores: the earlier beam, then
  // the lower id. Scores are computed in double from the logits that the walker gives.
  //
  // invalid_argument: an empty source, one too long, ids outside a vocabulary, or options that do not fit the
  // program. numeric: a logit is NaN or +infinity. cancelled: by `progress`, stage "translate".
  Result<std::vector<Hypothesis>> translate(std::span<const TokenId> source, const TranslateOptions& options);

  const TransformerProgram& transformer() const { return t_; }
  const Walker& walker() const { return *walker_; }

 private:
  struct Beam {
    std::vector<TokenId> ids;  // BOS first
    double score = 0;
    std::vector<std::uint32_t> blocks;  // the cache block of each position before the last
  };
  struct Extension {
    double score = 0;
    std::uint32_t beam = 0;
    TokenId id = 0;
  };

  Result<void> check(std::span<const TokenId> source, const TranslateOptions& options) const;
  Result<void> encode(std::span<const TokenId> source);
  // Runs the newest token of every beam; gives the log-probabilities of what follows, (beams, target_vocab).
  Result<std::vector<double>> step(std::vector<Beam>& beams);
  std::vector<Extension> best(const std::vector<Beam>& beams, std::span<const double> log_probs,
                              std::size_t count) const;

  std::unique_ptr<Walker> walker_;
  TransformerProgram t_;
  Progress progress_;
};

}  // namespace tessera
