// Builds small GGUF files in memory, well-formed or, where a test asks for it, lying.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "formats/byte_source.h"
#include "formats/gguf.h"

namespace tessera::test {

// Little-endian bytes, one after the other.
class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const auto* begin = reinterpret_cast<const std::byte*>(&value);
    data_.insert(data_.end(), begin, begin + sizeof value);
    return *this;
  }
  Bytes& raw(std::string_view text) { return raw(std::as_bytes(std::span(text))); }
  Bytes& raw(std::span<const std::byte> bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Bytes& string(std::string_view text) { return put(std::uint64_t{text.size()}).raw(text); }
  void pad_to(std::size_t alignment) { data_.resize((data_.size() + alignment - 1) / alignment * alignment); }

  std::size_t size() const { return data_.size(); }
  const std::vector<std::byte>& data() const { return data_; }
  std::vector<std::byte> take() { return std::move(data_); }

 private:
  std::vector<std::byte> data_;
};

// A source that owns its bytes.
inline std::shared_ptr<ByteSource> source_of(std::vector<std::byte> bytes) {
  auto owned = std::make_shared<std::vector<std::byte>>(std::move(bytes));
  auto borrowed = ByteSource::from_memory(*owned);
  ByteSource* pointer = borrowed.get();
  return {pointer, [owned, borrowed](ByteSource*) {}};
}

// Metadata and tensors in the order of the calls. The public fields are what the file says of itself; a test
// may falsify them.
//   GgufBuilder b;
//   b.string("general.architecture", "llama").u32("llama.block_count", 2);
//   b.tensor("output_norm.weight", {64}, values);           // F32, shape outermost first
//   b.tensor("output.weight", {32, 64}, values, DType::q8_0);  // values are encoded
//   auto file = ModelFile::open(source_of(b.build()));
class GgufBuilder {
 public:
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> shape;  // outermost first
    std::uint32_t type = 0;            // as in the file
    std::vector<std::byte> data;
    std::int64_t offset = -1;  // in the data; negative: the next aligned one
  };
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::int64_t tensor_count = -1, kv_count = -1;  // negative: as many as there are
  std::size_t alignment = gguf::kDefaultAlignment;
  std::vector<Tensor> tensors;

  GgufBuilder& u32(std::string_view key, std::uint32_t value) { return scalar(key, 4, value); }
  GgufBuilder& i32(std::string_view key, std::int32_t value) { return scalar(key, 5, value); }
  GgufBuilder& f32(std::string_view key, float value) { return scalar(key, 6, value); }
  GgufBuilder& boolean(std::string_view key, bool value) {
    return scalar(key, 7, static_cast<std::uint8_t>(value));
  }
  GgufBuilder& string(std::string_view key, std::string_view value) {
    this->key(key, 8).string(value);
    return *this;
  }
  GgufBuilder& strings(std::string_view key, const std::vector<std::string>& values) {
    Bytes& out = array(key, 8, values.size());
    for (const std::string& value : values) out.string(value);
    return *this;
  }
  GgufBuilder& floats(std::string_view key, const std::vector<float>& values) {
    Bytes& out = array(key, 6, values.size());
    for (const float value : values) out.put(value);
    return *this;
  }
  GgufBuilder& i32s(std::string_view key, const std::vector<std::int32_t>& values) {
    Bytes& out = array(key, 5, values.size());
    for (const std::int32_t value : values) out.put(value);
    return *this;
  }
  // Any value of type `type`, whose bytes the caller appends: for types without a function, and for lies.
  Bytes& key(std::string_view key, std::uint32_t type) {
    ++kv_written_;
    return metadata_.string(key).put(type);
  }
  Bytes& array(std::string_view key, std::uint32_t element_type, std::uint64_t count) {
    return this->key(key, 9).put(element_type).put(count);
  }

  // `values.size()` is the product of `shape`; rows are encoded as `type`.
  GgufBuilder& tensor(std::string name, std::vector<std::uint64_t> shape, std::span<const float> values,
                      DType type = DType::f32) {
    std::vector<std::byte> data(file_bytes(values.size(), info(type)));
    encode_row(type, values, data);
    return raw_tensor(std::move(name), std::move(shape), *gguf::from_dtype(type), std::move(data));
  }
  GgufBuilder& raw_tensor(std::string name, std::vector<std::uint64_t> shape, std::uint32_t type,
                          std::vector<std::byte> data, std::int64_t offset = -1) {
    tensors.push_back({std::move(name), std::move(shape), type, std::move(data), offset});
    return *this;
  }

  std::vector<std::byte> build() const {
    Bytes out;
    const auto count = [](std::int64_t wanted, std::size_t real) {
      return wanted < 0 ? std::uint64_t{real} : static_cast<std::uint64_t>(wanted);
    };
    out.raw(magic).put(version).put(count(tensor_count, tensors.size())).put(count(kv_count, kv_written_));
    out.raw(metadata_.data());
    Bytes data;
    for (const Tensor& tensor : tensors) {
      data.pad_to(alignment);
      const std::uint64_t offset = count(tensor.offset, data.size());
      out.string(tensor.name).put(static_cast<std::uint32_t>(tensor.shape.size()));
      for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) out.put(*dim);
      out.put(tensor.type).put(offset);
      data.raw(tensor.data);
    }
    if (!tensors.empty()) out.pad_to(alignment);
    out.raw(data.data());
    return out.take();
  }

 private:
  template <typename T>
  GgufBuilder& scalar(std::string_view name, std::uint32_t type, T value) {
    key(name, type).put(value);
    return *this;
  }

  Bytes metadata_;
  std::size_t kv_written_ = 0;
};

}  // namespace tessera::test
