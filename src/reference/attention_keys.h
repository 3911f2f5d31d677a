// Which keys of a row attention goes over: block lists, and the highest scores.
#pragma once

#include <map>
#include <vector>

#include "reference/ops.h"

namespace tessera {

struct Inexact {
  double value = 0;
  double error = 0;
};

class BlockLists {
 public:
  // invalid_argument unless the lists of an op that has them are within their entries, and ascend.
  static Result<BlockLists> load(const OpCall& call);

  // Whether the list of this row names the block of this key; true without lists.
  bool name(std::uint64_t batch, std::uint64_t head, std::uint64_t row, std::uint64_t key) const;

 private:
  AttentionAttrs a_;
  std::vector<std::uint64_t> words_;  // first entries, then entries
};

// The top_k highest scores of a row. Scores within their errors of the last one that remains may change
// places with it on a device: those keys are unsure.
class Highest {
 public:
  Highest() = default;
  // The others of `score` become -infinity. top_k 0: all remain.
  Highest(std::vector<Inexact>& score, std::uint32_t top_k);

  // Keys by their number in the row, and the scores that they have.
  const std::map<std::uint64_t, double>& unsure() const { return unsure_; }
  // The ratio of the largest weight of an unsure key to the least.
  double ratio() const;

 private:
  std::map<std::uint64_t, double> unsure_;
};

}  // namespace tessera
