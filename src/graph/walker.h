// What runs a Program: schedule/ on a GPU, reference/ on the CPU. A session holds one and cannot tell which.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "graph/graph.h"

namespace tessera {

struct WalkerStats {
  std::uint64_t submits = 0;       // queue submissions by run()
  std::uint64_t records = 0;       // command lists recorded
  std::uint32_t pipelines = 0;     // pipelines the program needs
  double pipeline_seconds = 0;     // time spent making them
  std::uint64_t weight_bytes = 0;  // on the device
  std::uint64_t cache_bytes = 0;
  std::uint64_t arena_bytes = 0;
};

// Not thread-safe; one thread at a time.
class Walker {
 public:
  virtual ~Walker() = default;
  virtual const Program& program() const = 0;
  // Values of storage input, cache or output. Bytes are the value's dtype, row-major;
  // rows of a cache are those of base/cache_row.h.
  virtual Result<void> write(ValueId value, std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Result<void> read(ValueId value, std::uint64_t offset, std::span<std::byte> bytes) = 0;
  // Runs program().graphs[graph] once and waits for it: at most one queue submission.
  virtual Result<void> run(std::uint32_t graph) = 0;
  virtual WalkerStats stats() const = 0;
};

}  // namespace tessera
