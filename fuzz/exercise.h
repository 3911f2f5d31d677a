// What fuzz targets of files do with one: open it, read all of it, and check what a caller relies on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/text.h"
#include "formats/model_file.h"

namespace tessera {

inline void require_that(bool condition) {
  if (!condition) std::abort();
}

// Whatever the values are, they can be quantised, and blocks of them are read back.
inline void requantise(std::span<const float> values) {
  constexpr std::size_t most = 1024;
  const auto part = values.first(std::min(most, values.size() / 32 * 32));
  std::vector<float> back(part.size());
  for (const DType type : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1}) {
    std::vector<std::byte> blocks(file_bytes(part.size(), info(type)));
    encode_row(type, part, blocks);
    decode_row(type, blocks, back);
  }
}

inline void read_tensors(const ModelFile& file, std::uint64_t size) {
  std::uint64_t total = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    require_that(tensor.elems() > 0 && tensor.bytes == file_bytes(tensor.elems(), info(tensor.dtype)));
    total += tensor.bytes;
    require_that(total <= size && file.find(tensor.name) == &tensor);
    std::vector<std::byte> bytes(tensor.bytes);
    require_that(file.read(tensor, 0, bytes).ok());
    std::vector<float> values(tensor.elems());
    decode_row(tensor.dtype, bytes, values);
    requantise(values);
  }
  for (const auto& tensor : file.unsupported_tensors()) require_that(!file.require(tensor.name).ok());
}

inline void check_message(const Error& error, Code code = Code::bad_model) {
  require_that(error.code == code || error.code == Code::unsupported);
  require_that(valid_utf8(error.message) && error.message.size() < 5000);
  require_that(
      std::ranges::none_of(error.message, [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
}

// Opens the bytes mapped and through a reader, which must agree.
inline void exercise(std::span<const std::byte> bytes) {
  const auto mapped = ModelFile::open(ByteSource::from_memory(bytes));
  const auto read = ModelFile::open(
      ByteSource::from_reader(bytes.size(), [bytes](std::uint64_t offset, std::span<std::byte> out) {
        std::ranges::copy(bytes.subspan(offset, out.size()), out.begin());
        return true;
      }));
  require_that(mapped.ok() == read.ok());
  if (!mapped) return check_message(mapped.error());
  require_that(mapped->tensors().size() == read->tensors().size());
  require_that(mapped->metadata().size() == read->metadata().size());
  read_tensors(*mapped, bytes.size());
  for (const auto& [key, value] : mapped->metadata()) {
    (void)mapped->get_uint(key);
    (void)mapped->get_float(key);
    (void)mapped->get_string(key);
    (void)mapped->get_uints(key);
  }
}

}  // namespace tessera
