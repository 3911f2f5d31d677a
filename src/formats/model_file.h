// GGUF and safetensors files as named, shaped, bounds-checked views. Files are hostile until parsed: every
// count, offset, type and string is checked before it is used, and nothing is allocated beyond a small factor
// of the file's size.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"
#include "formats/byte_source.h"

namespace tessera {

// A metadata value. GGUF integers of every width arrive as int64 or uint64, floats as double. Strings are
// bytes as in the file, not always UTF-8.
struct MetaValue {
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::uint64_t>,
               std::vector<std::int64_t>, std::vector<double>, std::vector<bool>, std::vector<std::string>>
      value;
  std::uint32_t gguf_type = 0;  // as in the file (for arrays the element's type), so that convert can copy it
};

struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;  // outermost first, as NumPy prints it: (rows, columns); {} of a scalar
  std::uint64_t offset = 0;          // of its first byte in the file
  std::uint64_t bytes = 0;
  std::uint64_t elems() const;
};

enum class FileKind : std::uint8_t { gguf, safetensors };

class ModelFile {
 public:
  // Recognises the kind by its content. bad_model names the field, tensor or offset that is wrong;
  // unsupported names the version or tensor type. A tensor that cannot be represented (a type that DType
  // lacks, or safetensors without elements) is no error: `unsupported_tensors` lists it, so that `inspect`
  // can show the file, and `require` refuses it. Tensors have at least one element, distinct names, at most 4
  // (safetensors: 8) dimensions, and bytes that lie in the file and do not overlap.
  static Result<ModelFile> open(std::shared_ptr<ByteSource> source);

  FileKind kind() const { return kind_; }
  std::uint32_t version() const { return version_; }  // GGUF 2 or 3; 0 for safetensors
  const ByteSource& source() const { return *source_; }
  const std::map<std::string, MetaValue>& metadata() const { return metadata_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in file order
  const TensorInfo* find(std::string_view name) const;                 // null when absent or unsupported
  // bad_model when absent, unsupported when its type is; the pointer lives as long as this object.
  Result<const TensorInfo*> require(std::string_view name) const;
  struct Unsupported {
    std::string name;
    std::string type;  // "Q5_K", "type 99", or "F32 without elements"
    std::vector<std::uint64_t> shape;
    std::uint64_t offset = 0, bytes = 0;  // in the file
  };
  const std::vector<Unsupported>& unsupported_tensors() const { return unsupported_; }

  // Metadata by key; bad_model when absent or of another kind (the message names key and kind). The fallback
  // forms give the fallback when absent, and the error still when present with a wrong kind. get_uint takes
  // every integer that is not negative, get_float every number.
  Result<std::uint64_t> get_uint(const std::string& key) const;
  Result<std::uint64_t> get_uint(const std::string& key, std::uint64_t fallback) const;
  Result<double> get_float(const std::string& key) const;
  Result<double> get_float(const std::string& key, double fallback) const;
  Result<bool> get_bool(const std::string& key, bool fallback) const;
  Result<std::string> get_string(const std::string& key) const;
  Result<std::string> get_string(const std::string& key, const std::string& fallback) const;
  // Arrays: null when absent; bad_model when of another kind.
  Result<const std::vector<std::string>*> get_strings(const std::string& key) const;
  Result<const std::vector<double>*> get_floats(const std::string& key) const;
  // Integers of any width: empty when absent; bad_model when of another kind or negative.
  Result<std::vector<std::uint64_t>> get_uints(const std::string& key) const;

  // Bytes [begin, begin+out.size()) of a tensor; invalid_argument when the range leaves the tensor.
  Result<void> read(const TensorInfo& tensor, std::uint64_t begin, std::span<std::byte> out) const;

 private:
  friend class GgufParser;
  friend class SafetensorsParser;
  friend class TensorTable;
  const MetaValue* meta(const std::string& key) const;
  Error wrong_kind(const std::string& key, const MetaValue& value, std::string_view wanted) const;

  FileKind kind_ = FileKind::gguf;
  std::uint32_t version_ = 0;
  std::shared_ptr<ByteSource> source_;
  std::map<std::string, MetaValue> metadata_;
  std::vector<TensorInfo> tensors_;
  static constexpr std::size_t kUnsupported = static_cast<std::size_t>(-1);
  std::map<std::string, std::size_t, std::less<>> index_;  // into tensors_, or kUnsupported
  std::vector<Unsupported> unsupported_;
};

}  // namespace tessera
