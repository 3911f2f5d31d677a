// Reads the head of a GGUF file into a ModelFile.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/cursor.h"
#include "formats/gguf.h"
#include "formats/model_file.h"
#include "formats/tensor_table.h"

namespace tessera {

class GgufParser {
 public:
  static Result<ModelFile> parse(std::shared_ptr<ByteSource> source);  // it starts with the magic

 private:
  explicit GgufParser(std::shared_ptr<ByteSource> source);

  Result<void> header();
  Result<void> metadata();
  Result<MetaValue> value(gguf::ValueType type);
  Result<MetaValue> array();
  Result<void> elements(gguf::ValueType type, std::uint64_t count, MetaValue& out);
  Result<void> alignment();
  Result<DeclaredTensor> tensor_info(std::uint64_t index);
  Result<void> tensors();

  template <typename T>
  Result<T> scalar();
  template <typename Stored, typename T>
  Result<void> numbers(std::uint64_t count, std::vector<T>& out);
  Result<std::string> string();
  Result<std::string> name(const std::string& what);
  // bad_model (or `code`) about `where_`.
  Error error(const std::string& what, Code code = Code::bad_model) const;
  Result<void> need(std::uint64_t bytes) const;

  ModelFile file_;
  Cursor cursor_;
  std::string where_;  // what is being read, for messages: "metadata \"general.name\""
  std::uint64_t tensor_count_ = 0, kv_count_ = 0;
  std::uint64_t alignment_ = gguf::kDefaultAlignment;
};

}  // namespace tessera
