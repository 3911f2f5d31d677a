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

  std::uint64_t done() const { return done_; }  // bytes handed out
  std::uint64_t total() const { return total_; }

  struct Rows {
    BufferId buffer = kArena;
    std::uint64_t offset = 0;
    std::span<const std::byte> bytes;  // until the next call
  };
  // The next rows of one value: of at most `bytes`, but one at least. Not after the last.
  Result<Rows> next(std::uint64_t bytes);

 private:
  Result<void> fill(std::uint64_t count);

  const Program& program_;
  const MemoryMap& map_;
  ValueId value_ = 0;
  std::uint64_t row_ = 0;  // of that value
  std::uint64_t done_ = 0, total_ = 0;
  std::vector<std::byte> file_, device_;
};

}  // namespace tessera
