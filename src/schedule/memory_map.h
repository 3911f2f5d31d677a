// Where every value lives on the device: a table of buffers, and a place in one for each value.
#pragma once

#include <string>
#include <vector>

#include "device/device.h"
#include "graph/plan.h"
#include "kernels/choose.h"

namespace tessera {

using BufferId = std::uint32_t;
inline constexpr BufferId kArena = 0;   // activations and scratch of whichever graph runs
inline constexpr BufferId kDummy = 1;   // stands in for absent optional tensors
inline constexpr BufferId kParams = 2;  // parameter buffers of kernels, written once at load time

struct BufferSpec {
  std::string name;
  std::uint64_t bytes = 0;
  Memory memory = Memory::device;
  BufferLanes lanes = BufferLanes::one;
};

struct Place {
  BufferId buffer = kArena;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // 0: the value has no place here (activations have one per graph, in its plan)
  std::uint64_t row_bytes = 0;  // weights: device_row_bytes of a row
};

struct MemoryMap {
  std::vector<BufferSpec>
      buffers;                // kArena, kDummy and kParams get their sizes when all graphs are scheduled
  std::vector<Place> places;  // by ValueId
};

// Weights and constants that some op reads are packed into few buffers of at most max_buffer_size; inputs,
// caches and outputs have a buffer each. unsupported names a value that no buffer or binding of this device
// can hold (weights may exceed a binding: they are cut by rows).
Result<MemoryMap> map_memory(const Program& program, const Limits& limits);

inline std::uint64_t round_up(std::uint64_t x, std::uint64_t to) { return (x + to - 1) / to * to; }

}  // namespace tessera
