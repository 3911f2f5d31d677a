#include "text/byte_trie.h"

#include <algorithm>

namespace tessera {

ByteTrie::ByteTrie(std::vector<Entry> entries) : nodes_(1) {
  std::erase_if(entries, [](const Entry& e) { return e.first.empty() || e.first.size() > kMaxEntryBytes; });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.first < b.first; });
  struct Range {  // the entries below a node, whose path is `depth` bytes long
    std::uint32_t node;
    std::size_t begin, end, depth;
  };
  std::vector<Range> todo;
  if (!entries.empty()) todo.push_back({0, 0, entries.size(), 0});
  for (std::size_t next = 0; next < todo.size(); ++next) {
    Range range = todo[next];
    if (entries[range.begin].first.size() == range.depth)
      nodes_[range.node].value = entries[range.begin].second;
    while (range.begin < range.end && entries[range.begin].first.size() == range.depth) ++range.begin;
    nodes_[range.node].first = static_cast<std::uint32_t>(nodes_.size());
    while (range.begin < range.end) {
      const char label = entries[range.begin].first[range.depth];
      std::size_t end = range.begin + 1;
      while (end < range.end && entries[end].first[range.depth] == label) ++end;
      todo.push_back({static_cast<std::uint32_t>(nodes_.size()), range.begin, end, range.depth + 1});
      nodes_.push_back({.label = static_cast<std::uint8_t>(label)});
      ++nodes_[range.node].count;
      range.begin = end;
    }
  }
}

std::uint32_t ByteTrie::child(std::uint32_t node, unsigned char label) const {
  if (nodes_.empty()) return 0;
  const auto begin = nodes_.begin() + nodes_[node].first;
  const auto end = begin + nodes_[node].count;
  const auto found =
      std::lower_bound(begin, end, label, [](const Node& n, unsigned char l) { return n.label < l; });
  return found != end && found->label == label ? static_cast<std::uint32_t>(found - nodes_.begin()) : 0;
}

std::optional<ByteTrie::Match> ByteTrie::longest(std::string_view text, std::size_t at) const {
  std::optional<Match> best;
  each(text, at, [&](Match match) { best = match; });
  return best;
}

}  // namespace tessera
