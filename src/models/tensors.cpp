#include "models/tensors.h"

#include <algorithm>

#include "base/text.h"

namespace tessera {
namespace {

class FileWeights : public WeightReader {
 public:
  FileWeights(std::shared_ptr<const ModelFile> file, TensorSlices slices)
      : file_(std::move(file)), slices_(std::move(slices)) {}

  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    const auto slice = slices_.find(weight.name);
    const bool whole = slice == slices_.end();
    TSR_TRY(const TensorInfo* tensor, file_->require(whole ? weight.name : slice->second.tensor));
    if (!whole) first_row += slice->second.first;
    return file_->read(*tensor, first_row * row_bytes(weight), out);
  }

 private:
  std::shared_ptr<const ModelFile> file_;
  TensorSlices slices_;
};

}  // namespace

std::shared_ptr<const WeightReader> file_weights(std::shared_ptr<const ModelFile> file, TensorSlices slices) {
  return std::make_shared<FileWeights>(std::move(file), std::move(slices));
}

Error model_error(const ModelFile& file, Code code, const std::string& what) {
  return Error{code, quote(file.source().name(), kMaxQuotedPath) + ": " + what};
}

bool has_tensor(const ModelFile& file, const std::string& name) {
  return file.find(name) ||
         std::ranges::find(file.unsupported_tensors(), name, &ModelFile::Unsupported::name) !=
             file.unsupported_tensors().end();
}

Result<std::vector<float>> read_floats(const ModelFile& file, const TensorInfo& tensor) {
  std::vector<std::byte> bytes(tensor.bytes);
  TSR_CHECK(file.read(tensor, 0, bytes));
  std::vector<float> floats(tensor.elems());
  decode_row(tensor.dtype, bytes, floats);
  return floats;
}

Result<const TensorInfo*> ModelTensors::lookup(const std::string& name,
                                               const std::vector<std::uint64_t>& shape) const {
  TSR_TRY(const TensorInfo* tensor, file_.require(name));
  if (tensor->shape != shape)
    return model_error(file_, Code::bad_model,
                       "tensor " + name + " has shape " + print_shape(tensor->shape) +
                           ", but the model's metadata asks for " + print_shape(shape));
  if (!is_real(tensor->dtype) || shape.back() % info(tensor->dtype).block_elems != 0)
    return model_error(file_, Code::bad_model,
                       "tensor " + name + " " + print_shape(shape) + " cannot be a weight of type " +
                           std::string(info(tensor->dtype).name));
  return tensor;
}

Result<ValueId> ModelTensors::add(const TensorInfo& tensor) {
  Value value;
  value.name = tensor.name;
  value.storage = Storage::weight;
  value.dtype = tensor.dtype;
  value.shape = tensor.shape;
  if (tensor.shape.size() == 1 && tensor.dtype != DType::f32) {
    TSR_TRY(std::vector<float> data, read_floats(file_, tensor));
    value.storage = Storage::constant;
    value.dtype = DType::f32;
    value.data = std::make_shared<const std::vector<float>>(std::move(data));
  }
  program_.values.push_back(std::move(value));
  return known_[tensor.name] = static_cast<ValueId>(program_.values.size() - 1);
}

Result<ValueId> ModelTensors::matrix(const std::string& name, std::uint64_t n, std::uint64_t k) {
  TSR_TRY(const TensorInfo* tensor, lookup(name, {n, k}));
  if (auto at = known_.find(name); at != known_.end()) return at->second;
  return add(*tensor);
}

Result<ValueId> ModelTensors::vector(const std::string& name, std::uint64_t n) {
  TSR_TRY(const TensorInfo* tensor, lookup(name, {n}));
  if (auto at = known_.find(name); at != known_.end()) return at->second;
  return add(*tensor);
}

Result<ValueId> ModelTensors::rows(const std::string& name, std::uint64_t total, std::uint64_t k,
                                   std::uint64_t first, std::uint64_t n) {
  const bool matrix = k != 0;
  TSR_TRY(const TensorInfo* whole, lookup(name, matrix ? std::vector{total, k} : std::vector{total}));
  const std::string part = name + "[" + std::to_string(first) + ":" + std::to_string(first + n) + "]";
  if (auto at = known_.find(part); at != known_.end()) return at->second;
  Value value;
  value.name = part;
  value.storage = Storage::weight;
  value.dtype = whole->dtype;
  value.shape = whole->shape;
  value.shape[0] = n;
  if (!matrix && whole->dtype != DType::f32) {
    TSR_TRY(const std::vector<float> all, read_floats(file_, *whole));
    value.storage = Storage::constant;
    value.dtype = DType::f32;
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
    value.data = std::make_shared<const std::vector<float>>(begin, begin + static_cast<std::ptrdiff_t>(n));
  }
  slices_[part] = {name, first};
  program_.values.push_back(std::move(value));
  return known_[part] = static_cast<ValueId>(program_.values.size() - 1);
}

Result<ValueId> ModelTensors::optional_vector(const std::string& name, std::uint64_t n) {
  if (!has_tensor(file_, name)) return ValueId{kNoValue};
  return vector(name, n);
}

}  // namespace tessera
