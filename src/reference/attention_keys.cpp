#include "reference/attention_keys.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

Result<BlockLists> BlockLists::load(const OpCall& call) {
  BlockLists out;
  const ValueId id = call.in(static_cast<std::size_t>(AttentionIn::lists));
  if (id == kNoValue) return out;
  const AttentionAttrs& a = out.a_ = call.op.attrs.attention;
  std::vector<std::uint64_t>& words = out.words_;
  for (std::uint64_t i = 0; i < call.value(id).elems(); ++i) words.push_back(call.tensors.word(id, i));
  const std::uint64_t firsts = list_firsts(a), blocks = list_rows(a), entries = words.size() - firsts;
  for (std::uint64_t i = 0; i < firsts; ++i) {
    const bool last = i % (blocks + 1) == blocks;
    if (words[i] > entries || (!last && words[i] > words[i + 1]))
      return call.error(Code::invalid_argument,
                        "the lists' first entries do not ascend, or end past the last");
    for (std::uint64_t e = words[i] + 1; !last && e < std::min(words[i + 1], entries); ++e)
      if (words[firsts + e] <= words[firsts + e - 1])
        return call.error(Code::invalid_argument,
                          "entry " + std::to_string(e) + " of the lists does not ascend");
  }
  return out;
}

bool BlockLists::name(std::uint64_t batch, std::uint64_t head, std::uint64_t row, std::uint64_t key) const {
  if (words_.empty()) return true;
  const std::uint64_t of_batch = list_firsts(a_) / (a_.lists_by_batch ? a_.batch : 1);
  const std::uint64_t at = (a_.lists_by_batch ? batch * of_batch : 0) +
                           (a_.lists_by_head ? head * (list_rows(a_) + 1) : 0) + row / a_.q_block;
  const auto first = words_.begin() + static_cast<std::ptrdiff_t>(list_firsts(a_));
  return std::binary_search(first + static_cast<std::ptrdiff_t>(words_[at]),
                            first + static_cast<std::ptrdiff_t>(words_[at + 1]), key / a_.k_block);
}

Highest::Highest(std::vector<Inexact>& score, std::uint32_t top_k) {
  if (top_k == 0) return;
  std::vector<std::uint64_t> order;
  for (std::uint64_t j = 0; j < score.size(); ++j)
    if (score[j].value != -kInfinity) order.push_back(j);
  if (order.size() <= top_k) return;
  const auto rank = [&](std::uint64_t j) -> double {
    if (std::isnan(score[j].value)) return kInfinity;
    return score[j].value;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint64_t a, std::uint64_t b) { return rank(a) > rank(b); });
  const Inexact last = score[order[top_k - 1]], next = score[order[top_k]];
  const bool sure = last.value - next.value > last.error + next.error;
  for (std::size_t i = 0; i < order.size(); ++i) {
    Inexact& s = score[order[i]];
    const Inexact other = i < top_k ? next : last;
    if (!sure && std::fabs(s.value - other.value) <= s.error + other.error) unsure_[order[i]] = s.value;
    if (i >= top_k) s = {-kInfinity, 0};
  }
}

double Highest::ratio() const {
  if (unsure_.empty()) return 1;
  const auto [least, most] = std::minmax_element(
      unsure_.begin(), unsure_.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::exp(most->second - least->second);
}

}  // namespace tessera
