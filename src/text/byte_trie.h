// Byte strings to numbers, for "which entries begin here?". Built once, read by any number of threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera {

class ByteTrie {
 public:
  // Longer entries are left out: they bound what one look-up may cost, whatever the vocabulary says.
  static constexpr std::size_t kMaxEntryBytes = 1024;
  using Entry = std::pair<std::string_view, std::uint32_t>;
  struct Match {
    std::uint32_t value;
    std::size_t bytes;
  };

  ByteTrie() = default;
  // Empty entries are left out; of equal ones the first stays. Keeps no reference to the strings.
  explicit ByteTrie(std::vector<Entry> entries);

  bool empty() const { return nodes_.size() <= 1; }
  std::optional<Match> longest(std::string_view text, std::size_t at) const;
  // visit(Match) for every entry that begins at `at`, shortest first.
  template <typename Visit>
  void each(std::string_view text, std::size_t at, Visit visit) const {
    std::uint32_t node = 0;
    for (std::size_t i = at; i < text.size(); ++i) {
      node = child(node, static_cast<unsigned char>(text[i]));
      if (node == 0) return;
      if (nodes_[node].value != kNone) visit(Match{nodes_[node].value, i + 1 - at});
    }
  }

 private:
  static constexpr std::uint32_t kNone = ~0u;
  struct Node {  // its children are neighbours, sorted by label
    std::uint32_t first = 0;
    std::uint32_t value = kNone;
    std::uint16_t count = 0;
    std::uint8_t label = 0;
  };
  std::uint32_t child(std::uint32_t node, unsigned char label) const;  // 0: none

  std::vector<Node> nodes_;
};

}  // namespace tessera
