// Writes GGUF and safetensors files: declare everything, then stream the tensors' bytes in that order. The
// file appears at its path in finish(); an object destroyed before leaves nothing behind.
//   TSR_TRY(GgufWriter writer, GgufWriter::create("out.gguf"));
//   TSR_CHECK(writer.set_string("general.architecture", "llama"));
//   TSR_CHECK(writer.add_tensor("output.weight", DType::q8_0, {rows, columns}));
//   for (row : rows) TSR_CHECK(writer.write_row(row));
//   TSR_CHECK(writer.finish());
// Errors: io names the path; invalid_argument names the key or tensor (declared twice, not UTF-8, a row that
// is no multiple of the block, bytes too many or too few, a call out of order).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"
#include "formats/model_file.h"
#include "formats/output_file.h"

namespace tessera {

// The tensors of a file that is being written, and the place where the data are.
class TensorStream {
 public:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<std::uint64_t> shape;     // outermost first
    std::uint64_t offset = 0, bytes = 0;  // in the data
  };
  Result<void> add(const std::string& name, DType dtype, std::vector<std::uint64_t> shape,
                   std::uint64_t alignment);
  const std::vector<Tensor>& tensors() const { return tensors_; }

  // The next bytes, of the tensor at `current` and those after it; pads between tensors.
  Result<void> write(OutputFile& out, std::span<const std::byte> bytes);
  Result<void> write_row(OutputFile& out,
                         std::span<const float> row);  // encoded as the current tensor's type
  Result<void> check_complete() const;

 private:
  std::vector<Tensor> tensors_;
  std::set<std::string, std::less<>> names_;
  std::uint64_t end_ = 0;  // of the last tensor, in the data
  std::size_t current_ = 0;
  std::uint64_t written_ = 0;   // of the current tensor
  std::uint64_t position_ = 0;  // in the data
  std::vector<std::byte> row_;
};

// GGUF version 3, aligned to 32 bytes.
class GgufWriter {
 public:
  static Result<GgufWriter> create(const std::string& path);

  // `value.gguf_type` is the type in the file (for arrays the element's); invalid_argument when the value
  // does not fit it. Replaces what the key had. general.alignment cannot be set.
  Result<void> set(const std::string& key, MetaValue value);
  Result<void> set_u32(const std::string& key, std::uint32_t value);
  Result<void> set_f32(const std::string& key, float value);
  Result<void> set_bool(const std::string& key, bool value);
  Result<void> set_string(const std::string& key, std::string value);
  Result<void> set_strings(const std::string& key, std::vector<std::string> value);
  Result<void> set_f32s(const std::string& key, const std::vector<float>& value);
  Result<void> set_i32s(const std::string& key, const std::vector<std::int32_t>& value);

  Result<void> add_tensor(const std::string& name, DType dtype,
                          std::vector<std::uint64_t> shape);  // 1 to 4 dims
  // Nothing may be declared after the first of these.
  Result<void> write(std::span<const std::byte> bytes);  // as in the file
  Result<void> write_row(std::span<const float> row);    // one or more whole blocks of the current tensor
  Result<void> finish();

 private:
  explicit GgufWriter(OutputFile out) : out_(std::move(out)) {}
  Result<void> check_declaring(const std::string& what) const;
  Result<void> write_head();

  OutputFile out_;
  std::map<std::string, MetaValue> metadata_;
  TensorStream stream_;
  bool begun_ = false;
};

// Tensors of plain types (no blocks).
class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(const std::string& path);

  Result<void> set(const std::string& key, std::string value);  // of __metadata__
  Result<void> add_tensor(const std::string& name, DType dtype, std::vector<std::uint64_t> shape);
  Result<void> write(std::span<const std::byte> bytes);
  Result<void> write_row(std::span<const float> row);
  Result<void> finish();

 private:
  explicit SafetensorsWriter(OutputFile out) : out_(std::move(out)) {}
  Result<void> write_head();

  OutputFile out_;
  std::map<std::string, std::string> metadata_;
  TensorStream stream_;
  bool begun_ = false;
};

}  // namespace tessera
