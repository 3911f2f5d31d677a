// A program's weights and constants in device layout, some rows at a time.
#pragma once

#include <span>
#include <vector>

#include "schedule/memory_map.h"

namespace tessera {

class WeightRows {
 public:
  // Both must outlive it.
  WeightRows(const Program& program, const MemoryMap& map);

  std::uint64_t done() const { return at_.done; }  // bytes handed out
  std::uint64_t total() const { return total_; }

  struct Rows {
    BufferId buffer = kArena;
    std::uint64_t offset = 0;
    std::span<const std::byte> bytes;  // until the next call
  };
  // The next rows of one value: of at most `bytes`, but one at least. Not after the last.
  Result<Rows> next(std::uint64_t bytes);

  // For rows that did not arrive.
  struct Position {
    ValueId value = 0;
    std::uint64_t row = 0;  // of that value
    std::uint64_t done = 0;
  };
  Position position() const { return at_; }
  void go_back(const Position& to) { at_ = to; }

 private:
  Result<void> fill(std::uint64_t count);

  const Program& program_;
  const MemoryMap& map_;
  Position at_;
  std::uint64_t total_ = 0;
  std::vector<std::byte> file_, device_;
};

}  // namespace tessera
