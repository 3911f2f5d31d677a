#include "schedule/memory_map.h"

#include <algorithm>

#include "kernels/layout.h"

namespace tessera {
namespace {

std::vector<bool> used_values(const Program& program) {
  std::vector<bool> used(program.values.size(), false);
  for (const Graph& graph : program.graphs)
    for (const Op& op : graph.ops)
      for (const auto* list : {&op.in, &op.out})
        for (ValueId id : *list)
          if (id != kNoValue) used[id] = true;
  if (program.state != kNoValue) used[program.state] = true;  // kernels of fixed rows bind it as well
  return used;
}

Error too_large(const Value& value, std::uint64_t bytes, std::string_view limit, std::uint64_t limit_bytes) {
  return {Code::unsupported,
          "'" + value.name + "' takes " + std::to_string(bytes) + " bytes, more than this device's " +
              std::string(limit) + " of " + std::to_string(limit_bytes) +
              (value.storage == Storage::weight ? "" : " (a smaller context or chunk needs less)")};
}

// A vector is one row.
std::uint64_t rows_of(const Value& value) { return value.elems() / value.last_dim(); }

}  // namespace

Result<MemoryMap> map_memory(const Program& program, const Limits& limits) {
  MemoryMap map;
  map.buffers = {{"arena", 0, Memory::device}, {"dummy", 0, Memory::device}, {"params", 0, Memory::device}};
  map.places.resize(program.values.size());
  const std::vector<bool> used = used_values(program);
  BufferId weights = 0;  // the buffer being filled, 0: none yet

  for (ValueId id = 0; id < program.values.size(); ++id) {
    const Value& value = program.values[id];
    if (!used[id] || value.storage == Storage::activation) continue;
    Place& place = map.places[id];
    const bool packed = value.storage == Storage::weight || value.storage == Storage::constant;
    if (packed) {
      place.row_bytes = value.storage == Storage::weight ? device_row_bytes(value.dtype, value.last_dim())
                                                         : value.last_dim() * 4;
      if (place.row_bytes == 0)
        return Error{Code::unsupported,
                     "weight " + value.name + " has rows of " + std::to_string(value.last_dim()) +
                         " elements, which no layout of " + std::string(info(value.dtype).name) + " has"};
      place.bytes = rows_of(value) * place.row_bytes;
    } else {
      place.bytes = round_up(value_bytes(value), 4);  // whole words
    }
    if (place.bytes > limits.max_buffer_size)
      return too_large(value, place.bytes, "max_buffer_size", limits.max_buffer_size);
    // Only matrices are read through row windows.
    const bool windowed = value.storage == Storage::weight && value.shape.size() > 1;
    if (!windowed && place.bytes > limits.max_storage_range)
      return too_large(value, place.bytes, "max_storage_range", limits.max_storage_range);

    if (packed) {
      const std::uint64_t align = limits.min_storage_alignment;
      if (weights == 0 ||
          round_up(map.buffers[weights].bytes, align) + place.bytes > limits.max_buffer_size) {
        weights = static_cast<BufferId>(map.buffers.size());
        map.buffers.push_back({"weights" + std::to_string(weights), 0, Memory::device, BufferLanes::both});
      }
      place.buffer = weights;
      place.offset = round_up(map.buffers[weights].bytes, align);
      map.buffers[weights].bytes = place.offset + place.bytes;
    } else {
      place.buffer = static_cast<BufferId>(map.buffers.size());
      map.buffers.push_back(
          {value.name, place.bytes, value.storage == Storage::input ? Memory::shared : Memory::device});
    }
  }
  return map;
}

}  // namespace tessera
