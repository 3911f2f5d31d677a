#include "schedule/weights.h"

#include <algorithm>
#include <cstring>

#include "kernels/layout.h"

namespace tessera {

WeightRows::WeightRows(const Program& program, const MemoryMap& map) : program_(program), map_(map) {
  for (const Place& place : map.places)
    if (place.row_bytes != 0) total_ += place.bytes;
}

Result<WeightRows::Rows> WeightRows::next(std::uint64_t bytes) {
  while (at_.value < map_.places.size() &&
         (map_.places[at_.value].row_bytes == 0 ||
          at_.row * map_.places[at_.value].row_bytes == map_.places[at_.value].bytes)) {
    ++at_.value;
    at_.row = 0;
  }
  if (at_.value >= map_.places.size()) return Error{Code::internal, "all weights were read"};
  const Place& place = map_.places[at_.value];
  const std::uint64_t left = place.bytes / place.row_bytes - at_.row;
  const std::uint64_t count = std::clamp<std::uint64_t>(bytes / place.row_bytes, 1, left);
  TSR_CHECK(fill(count));
  const Rows rows{place.buffer, place.offset + at_.row * place.row_bytes, device_};
  at_.row += count;
  at_.done += device_.size();
  return rows;
}

Result<void> WeightRows::fill(std::uint64_t count) {
  const Value& value = program_.values[at_.value];
  const std::uint64_t row_bytes = map_.places[at_.value].row_bytes;
  device_.assign(count * row_bytes, std::byte{0});
  if (value.storage == Storage::constant) {
    std::memcpy(device_.data(), value.data->data() + at_.row * value.last_dim(), device_.size());
    return {};
  }
  const std::uint64_t file_row = file_bytes(value.last_dim(), info(value.dtype));
  file_.resize(count * file_row);
  TSR_CHECK(read_rows(program_, at_.value, at_.row, file_));
  for (std::uint64_t r = 0; r < count; ++r)
    repack_row(value.dtype, value.last_dim(), std::span(file_).subspan(r * file_row, file_row),
               std::span(device_).subspan(r * row_bytes, row_bytes));
  return {};
}

}  // namespace tessera
