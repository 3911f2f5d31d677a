// Weights to the device a little at a time, without waiting for it, through its transfer queue where it has
// one.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/log.h"
#include "schedule/weights.h"

namespace tessera {

class WeightStream {
 public:
  // All must outlive it.
  WeightStream(Device& device, const Program& program, const MemoryMap& map)
      : device_(device), rows_(program, map) {}

  std::uint64_t done() const { return rows_.done(); }  // bytes that were handed to the device
  std::uint64_t total() const { return rows_.total(); }

  // Up to `bytes` more in one submission at most, and one row at least, unless staging is still in use: 16
  // MiB at a time where the CPU does not write them in place. What waits for after() sees them. `buffers` by
  // BufferId; nothing that was submitted may read them. After an error all of it comes again.
  Result<void> more(std::span<const std::unique_ptr<Buffer>> buffers, std::uint64_t bytes);

  // All the rest, waiting; progress has the stage "weights" and cancels.
  Result<void> all(std::span<const std::unique_ptr<Buffer>> buffers, const Progress& progress);

  // What the first compute submission that reads them waits for, of the transfer lane; 0: nothing.
  std::uint64_t after() const { return device_.has_transfer_queue() ? latest_ : 0; }
  void awaited() { latest_ = 0; }

 private:
  struct Slot {
    std::unique_ptr<Buffer> staging;
    std::unique_ptr<CommandList> commands;
    std::uint64_t value = 0;  // of its latest submission
  };
  struct Copy {
    const Buffer* to = nullptr;
    std::uint64_t from = 0, offset = 0, bytes = 0;  // from: in staging
  };
  Result<Slot*> free_slot();
  Result<void> bring(Slot& slot, std::span<const std::unique_ptr<Buffer>> buffers, std::uint64_t bytes);
  Result<void> submit(Slot& slot);

  Device& device_;
  WeightRows rows_;
  std::array<Slot, 2> slots_;
  std::vector<Copy> copies_;  // of the submission in the making
  std::uint64_t latest_ = 0;  // value of the latest submission that was not awaited
};

}  // namespace tessera
