#include "formats/tensor_table.h"

#include <algorithm>
#include <limits>

#include "base/text.h"

namespace tessera {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();

// False when a * b > kMax.
bool multiply(std::uint64_t& a, std::uint64_t b) {
  if (b != 0 && a > kMax / b) return false;
  a *= b;
  return true;
}

}  // namespace

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

TensorTable::TensorTable(ModelFile& file, std::uint64_t begin, std::uint64_t end)
    : file_(file), begin_(begin), end_(end) {}

Error TensorTable::error(std::string_view tensor, const std::string& what) const {
  return Error{Code::bad_model,
               quote(file_.source().name(), kMaxQuotedPath) + ": tensor " + quote(tensor) + ": " + what};
}

Result<std::uint64_t> TensorTable::bytes_of(const DeclaredTensor& tensor) const {
  std::uint64_t elems = 1;
  for (const std::uint64_t dim : tensor.shape) {
    if (!multiply(elems, dim)) {
      return error(tensor.name, "shape " + shape_text(tensor.shape) + " has more than 2^63 elements");
    }
  }
  if (tensor.block_elems == 0) return tensor.bytes.value_or(0);
  const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % tensor.block_elems != 0) {
    return error(tensor.name, "rows of " + std::to_string(row) + " elements are no multiple of " +
                                  tensor.type_name + "'s block of " + std::to_string(tensor.block_elems));
  }
  std::uint64_t bytes = elems / tensor.block_elems;
  if (!multiply(bytes, tensor.block_bytes)) {
    return error(tensor.name, "shape " + shape_text(tensor.shape) + " has more than 2^63 bytes");
  }
  if (tensor.bytes && *tensor.bytes != bytes) {
    return error(tensor.name, tensor.type_name + " of shape " + shape_text(tensor.shape) + " takes " +
                                  std::to_string(bytes) + " bytes, but it has " +
                                  std::to_string(*tensor.bytes));
  }
  return bytes;
}

Result<void> TensorTable::add(DeclaredTensor tensor) {
  TSR_TRY(const std::uint64_t bytes, bytes_of(tensor));
  if (tensor.offset < begin_ || tensor.offset > end_ || bytes > end_ - tensor.offset) {
    const std::string extent = bytes == 0 ? "" : " and its " + std::to_string(bytes) + " bytes";
    return error(tensor.name, "offset " + std::to_string(tensor.offset) + extent + " leave the data at " +
                                  std::to_string(begin_) + " to " + std::to_string(end_));
  }
  const std::size_t index = tensor.dtype ? file_.tensors_.size() : ModelFile::kUnsupported;
  const auto [entry, inserted] = file_.index_.emplace(tensor.name, index);
  if (!inserted) return error(tensor.name, "is there twice");
  if (bytes > 0) extents_.push_back({tensor.offset, tensor.offset + bytes, &entry->first});
  covered_ += bytes;
  if (tensor.dtype) {
    file_.tensors_.push_back(
        {std::move(tensor.name), *tensor.dtype, std::move(tensor.shape), tensor.offset, bytes});
  } else {
    file_.unsupported_.push_back(
        {std::move(tensor.name), std::move(tensor.type_name), std::move(tensor.shape), tensor.offset, bytes});
  }
  return {};
}

Result<void> TensorTable::check_overlaps() {
  std::ranges::sort(extents_, {}, &Extent::begin);
  for (std::size_t i = 1; i < extents_.size(); ++i) {
    const Extent& before = extents_[i - 1];
    const Extent& after = extents_[i];
    if (before.end <= after.begin) continue;
    return error(*after.name, "its data at offset " + std::to_string(after.begin) + " overlap tensor " +
                                  quote(*before.name) + " (" + std::to_string(before.begin) + " to " +
                                  std::to_string(before.end) + ")");
  }
  return {};
}

}  // namespace tessera
