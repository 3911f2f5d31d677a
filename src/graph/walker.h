// What runs a Program: schedule/ on a GPU, reference/ on the CPU. A session holds one and cannot tell which.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "graph/costs.h"
#include "graph/graph.h"

namespace tessera {

struct WalkerStats {
  std::uint64_t submits = 0;       // queue submissions by run() and submit()
  std::uint64_t records = 0;       // command lists recorded
  std::uint32_t pipelines = 0;     // pipelines the program needs
  double pipeline_seconds = 0;     // time spent making them
  std::uint64_t weight_bytes = 0;  // on the device
  std::uint64_t cache_bytes = 0;
  std::uint64_t arena_bytes = 0;
};

// Bytes of weights that are on the device, of all.
struct Loading {
  std::uint64_t done = 0, total = 0;
  bool ready() const { return done == total; }
};

// Consecutive slices of one pass of a graph. A pass takes all of its slices in order.
struct SliceRun {
  std::uint32_t graph = 0;
  std::uint32_t first = 0, count = 0;
  std::uint32_t position = 0, rows = 0;  // of the pass, as StepState will have them: for the costs alone
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

  // The same in pieces and without waiting. A graph is some slices, one after the other; the reference has
  // one a graph, and computes in submit().
  virtual std::uint32_t slices(std::uint32_t graph) const = 0;
  // Of the first slice of `run`.
  virtual SlicePrediction predict(const SliceRun& run) const = 0;
  // In one queue submission that waits for nothing; the value that wait() takes. `measure`: to be read when
  // they have ended, for predict(). Allocates nothing on the device, and no memory but at first.
  virtual Result<std::uint64_t> submit(std::span<const SliceRun> runs, bool measure) = 0;
  // Whether what returned `value`, and all before it, has ended; waits at most timeout_ns for it.
  virtual Result<bool> wait(std::uint64_t value, std::uint64_t timeout_ns) = 0;
  // Between two passes with nothing submitted: records a graph whose slices were measured to take too long
  // again, in more slices. most_us: what a slice may take; 0: only the walker's own limit.
  virtual bool wants_tuning(std::uint32_t graph, double most_us) const = 0;
  virtual Result<void> tune(std::uint32_t graph, double most_us) = 0;

  // A walker may be made without its weights, and give them up: run() and submit() come when they are there.
  virtual Loading loading() const = 0;
  // Some `bytes` more, without waiting; 0: all, and it waits.
  virtual Result<void> load(std::uint64_t bytes) = 0;
  // Frees their memory on the device, after what was submitted.
  virtual Result<void> release_weights() = 0;

  virtual WalkerStats stats() const = 0;
};

}  // namespace tessera
