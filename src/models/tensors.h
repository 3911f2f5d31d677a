// Tensors of a model file as values of a program, their shapes checked.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "formats/model_file.h"
#include "graph/graph.h"

namespace tessera {

// An error that names the file.
Error model_error(const ModelFile& file, Code code, const std::string& what);

bool has_tensor(const ModelFile& file, const std::string& name);  // of whatever type

// A whole tensor as floats.
Result<std::vector<float>> read_floats(const ModelFile& file, const TensorInfo& tensor);

// Values that are some rows of a tensor of the file, under names of their own.
struct TensorRows {
  std::string tensor;
  std::uint64_t first = 0;
};
using TensorSlices = std::map<std::string, TensorRows>;

// bad_model when a shape is not the expected one; both are named.
class ModelTensors {
 public:
  ModelTensors(const ModelFile& file, Program& program) : file_(file), program_(program) {}

  // A weight (n, k) of any type. Asked for twice, it is the same value.
  Result<ValueId> matrix(const std::string& name, std::uint64_t n, std::uint64_t k);
  // An f32 vector (n): a weight, or a constant when the file has another type.
  Result<ValueId> vector(const std::string& name, std::uint64_t n);
  Result<ValueId> optional_vector(const std::string& name, std::uint64_t n);  // kNoValue when absent
  // Rows [first, first+n) of a matrix (total, k), or elements of a vector (total) when k is 0: weights that a
  // file stacks. Their names end in "[first:first+n]", and file_weights needs slices() to read them.
  Result<ValueId> rows(const std::string& name, std::uint64_t total, std::uint64_t k, std::uint64_t first,
                       std::uint64_t n);
  const TensorSlices& slices() const { return slices_; }

 private:
  Result<const TensorInfo*> lookup(const std::string& name, const std::vector<std::uint64_t>& shape) const;
  Result<ValueId> add(const TensorInfo& tensor);

  const ModelFile& file_;
  Program& program_;
  std::map<std::string, ValueId> known_;
  TensorSlices slices_;
};

// Reads weights by their names; keeps the file open.
std::shared_ptr<const WeightReader> file_weights(std::shared_ptr<const ModelFile> file,
                                                 TensorSlices slices = {});

}  // namespace tessera
