// The checks on tensors that both file formats share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_file.h"

namespace tessera {

// A tensor as its file declares it.
struct DeclaredTensor {
  std::string name;
  std::optional<DType> dtype;  // nullopt: a type that Tessera lacks, `type_name` says which
  std::string type_name;
  std::uint32_t block_elems = 1;  // 0 when the type is unknown: its size cannot be checked
  std::uint32_t block_bytes = 0;
  std::vector<std::uint64_t> shape;    // outermost first
  std::uint64_t offset = 0;            // in the file
  std::optional<std::uint64_t> bytes;  // what the file says; must be what type and shape give
};

// "(2, 3)", as NumPy prints it.
std::string shape_text(const std::vector<std::uint64_t>& shape);

// Collects checked tensors into a ModelFile. Errors are bad_model and name the file and the tensor.
class TensorTable {
 public:
  // Data lie in bytes [begin, end) of the file.
  TensorTable(ModelFile& file, std::uint64_t begin, std::uint64_t end);

  // Bytes of the tensor; bad_model when its dimensions multiply beyond 2^63 bytes, split a block, or are not
  // what the file says. 0 when unknown.
  Result<std::uint64_t> bytes_of(const DeclaredTensor& tensor) const;
  Result<void> add(DeclaredTensor tensor);
  Result<void> check_overlaps();  // after the last tensor
  // Bytes of all tensors together; with no overlap, begin + covered == end means that there are no holes.
  std::uint64_t covered() const { return covered_; }

  std::uint64_t end() const { return end_; }

  Error error(std::string_view tensor, const std::string& what) const;

 private:
  struct Extent {
    std::uint64_t begin = 0, end = 0;
    const std::string* name = nullptr;  // the key in the file's index
  };
  ModelFile& file_;
  std::uint64_t begin_, end_;
  std::uint64_t covered_ = 0;
  std::vector<Extent> extents_;
};

}  // namespace tessera
