#include <algorithm>
#include <limits>
#include <utility>

#include "base/text.h"
#include "formats/writer.h"

namespace tessera {
namespace {

Error misuse(const std::string& tensor, const std::string& what) {
  return Error{Code::invalid_argument, "tensor " + quote(tensor) + ": " + what};
}

}  // namespace

Result<void> TensorStream::add(const std::string& name, DType dtype, std::vector<std::uint64_t> shape,
                               std::uint64_t alignment) {
  if (name.empty() || !valid_utf8(name) || name.find('\0') != std::string::npos) {
    return misuse(name, "a name must be UTF-8 text");
  }
  const DTypeInfo& type = info(dtype);
  std::uint64_t elems = 1;
  for (const std::uint64_t dim : shape) {
    if (dim == 0) return misuse(name, "a dimension is 0");
    if (dim > (std::uint64_t{1} << 56) / elems) return misuse(name, "more than 2^56 elements");
    elems *= dim;
  }
  if ((shape.empty() ? 1 : shape.back()) % type.block_elems != 0) {
    return misuse(name, "rows of " + std::to_string(shape.empty() ? 1 : shape.back()) +
                            " elements are no multiple of " + std::string(type.name) + "'s block of " +
                            std::to_string(type.block_elems));
  }
  if (!names_.insert(name).second) return misuse(name, "is declared twice");
  const std::uint64_t offset = (end_ + alignment - 1) / alignment * alignment;
  const std::uint64_t bytes = file_bytes(elems, type);
  tensors_.push_back({name, dtype, std::move(shape), offset, bytes});
  end_ = offset + bytes;
  return {};
}

Result<void> TensorStream::write(OutputFile& out, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (current_ == tensors_.size()) {
      return Error{Code::invalid_argument,
                   std::to_string(bytes.size()) + " bytes more than the declared tensors have"};
    }
    const Tensor& tensor = tensors_[current_];
    if (written_ == 0) {
      TSR_CHECK(out.zeros(tensor.offset - position_));
      position_ = tensor.offset;
    }
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), tensor.bytes - written_));
    TSR_CHECK(out.write(bytes.first(n)));
    bytes = bytes.subspan(n);
    position_ += n;
    written_ += n;
    if (written_ == tensor.bytes) {
      ++current_;
      written_ = 0;
    }
  }
  return {};
}

Result<void> TensorStream::write_row(OutputFile& out, std::span<const float> row) {
  if (current_ == tensors_.size())
    return Error{Code::invalid_argument, "a row more than the declared tensors have"};
  const Tensor& tensor = tensors_[current_];
  const DTypeInfo& type = info(tensor.dtype);
  if (!can_encode(tensor.dtype)) return misuse(tensor.name, "nothing encodes " + std::string(type.name));
  if (row.size() % type.block_elems != 0 || file_bytes(row.size(), type) > tensor.bytes - written_) {
    return misuse(tensor.name, "a row of " + std::to_string(row.size()) + " elements does not fit");
  }
  row_.resize(file_bytes(row.size(), type));
  encode_row(tensor.dtype, row, row_);
  return write(out, row_);
}

Result<void> TensorStream::check_complete() const {
  if (current_ == tensors_.size()) return {};
  const Tensor& tensor = tensors_[current_];
  return misuse(tensor.name, "only " + std::to_string(written_) + " of its " + std::to_string(tensor.bytes) +
                                 " bytes were written");
}

}  // namespace tessera
