#include <cmath>
#include <limits>
#include <ranges>
#include <type_traits>
#include <utility>

#include "base/text.h"
#include "formats/gguf.h"
#include "formats/writer.h"

namespace tessera {
namespace {

using gguf::ValueType;

// Little-endian bytes of the head; cursor.h asserts that the host is little-endian.
class Head {
 public:
  template <typename T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(std::string_view text) {
    put(std::uint64_t{text.size()});
    raw(text);
  }
  void raw(std::string_view text) { bytes_ += text; }
  void pad() {
    constexpr std::size_t alignment = gguf::kDefaultAlignment;
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

template <typename Stored, typename T>
bool put_as(Head& head, T value) {
  if constexpr (std::is_integral_v<Stored>) {
    if (!std::in_range<Stored>(value)) return false;
  } else if (static_cast<double>(static_cast<Stored>(value)) != value && !std::isnan(value)) {
    return false;
  }
  head.put(static_cast<Stored>(value));
  return true;
}

// False when the value does not fit the type.
bool put_value(Head& head, ValueType type, std::uint64_t value) {
  switch (type) {
    case ValueType::u8: return put_as<std::uint8_t>(head, value);
    case ValueType::u16: return put_as<std::uint16_t>(head, value);
    case ValueType::u32: return put_as<std::uint32_t>(head, value);
    case ValueType::u64: return put_as<std::uint64_t>(head, value);
    default: return false;
  }
}
bool put_value(Head& head, ValueType type, std::int64_t value) {
  switch (type) {
    case ValueType::i8: return put_as<std::int8_t>(head, value);
    case ValueType::i16: return put_as<std::int16_t>(head, value);
    case ValueType::i32: return put_as<std::int32_t>(head, value);
    case ValueType::i64: return put_as<std::int64_t>(head, value);
    default: return false;
  }
}
bool put_value(Head& head, ValueType type, double value) {
  if (type == ValueType::f32) return put_as<float>(head, value);
  return type == ValueType::f64 && put_as<double>(head, value);
}
bool put_value(Head& head, ValueType type, bool value) {
  head.put(static_cast<std::uint8_t>(value));
  return type == ValueType::boolean;
}
bool put_value(Head& head, ValueType type, const std::string& value) {
  head.string(value);
  return type == ValueType::string;
}

// Type and value of one metadata entry.
bool put_entry(Head& head, const MetaValue& entry) {
  const ValueType type{entry.gguf_type};
  return std::visit(
      [&]<typename T>(const T& value) {
        if constexpr (requires { typename T::allocator_type; } && !std::is_same_v<T, std::string>) {
          head.put(static_cast<std::uint32_t>(ValueType::array));
          head.put(entry.gguf_type);
          head.put(std::uint64_t{value.size()});
          for (const auto& element : value) {
            if (!put_value(head, type, static_cast<const typename T::value_type&>(element))) return false;
          }
          return gguf::min_bytes(type) != 0;
        } else {
          head.put(entry.gguf_type);
          return put_value(head, type, value);
        }
      },
      entry.value);
}

MetaValue typed(ValueType type, decltype(MetaValue::value) value) {
  return {std::move(value), static_cast<std::uint32_t>(type)};
}

}  // namespace

Result<GgufWriter> GgufWriter::create(const std::string& path) {
  TSR_TRY(OutputFile out, OutputFile::create(path));
  return GgufWriter(std::move(out));
}

Result<void> GgufWriter::check_declaring(const std::string& what) const {
  if (!begun_) return {};
  return Error{Code::invalid_argument, what + " is declared after the first tensor's data"};
}

Result<void> GgufWriter::set(const std::string& key, MetaValue value) {
  const auto misuse = [&](const std::string& what) {
    return Error{Code::invalid_argument, "metadata " + quote(key) + ": " + what};
  };
  TSR_CHECK(check_declaring("metadata " + quote(key)));
  if (key.empty() || key.size() > gguf::kMaxNameBytes || !valid_utf8(key) ||
      key.find('\0') != std::string::npos) {
    return misuse("a key must be UTF-8 text of 1 to 65535 bytes");
  }
  if (key == "general.alignment") return misuse("the writer aligns to 32 bytes");
  Head ignored;
  if (!put_entry(ignored, value)) {
    return misuse("the value does not fit type " + std::string(gguf::name(ValueType{value.gguf_type})));
  }
  metadata_.insert_or_assign(key, std::move(value));
  return {};
}

Result<void> GgufWriter::set_u32(const std::string& key, std::uint32_t value) {
  return set(key, typed(ValueType::u32, std::uint64_t{value}));
}
Result<void> GgufWriter::set_f32(const std::string& key, float value) {
  return set(key, typed(ValueType::f32, static_cast<double>(value)));
}
Result<void> GgufWriter::set_bool(const std::string& key, bool value) {
  return set(key, typed(ValueType::boolean, value));
}
Result<void> GgufWriter::set_string(const std::string& key, std::string value) {
  return set(key, typed(ValueType::string, std::move(value)));
}
Result<void> GgufWriter::set_strings(const std::string& key, std::vector<std::string> value) {
  return set(key, typed(ValueType::string, std::move(value)));
}
Result<void> GgufWriter::set_f32s(const std::string& key, const std::vector<float>& value) {
  return set(key, typed(ValueType::f32, std::vector<double>(value.begin(), value.end())));
}
Result<void> GgufWriter::set_i32s(const std::string& key, const std::vector<std::int32_t>& value) {
  return set(key, typed(ValueType::i32, std::vector<std::int64_t>(value.begin(), value.end())));
}

Result<void> GgufWriter::add_tensor(const std::string& name, DType dtype, std::vector<std::uint64_t> shape) {
  TSR_CHECK(check_declaring("tensor " + quote(name)));
  const auto misuse = [&](const std::string& what) {
    return Error{Code::invalid_argument, "tensor " + quote(name) + ": " + what};
  };
  if (!gguf::from_dtype(dtype)) return misuse("GGUF has no type " + std::string(info(dtype).name));
  if (shape.size() > gguf::kMaxDims) return misuse("more than 4 dimensions");
  if (name.size() > gguf::kMaxNameBytes) return misuse("a name of more than 65535 bytes");
  return stream_.add(name, dtype, std::move(shape), gguf::kDefaultAlignment);
}

Result<void> GgufWriter::write_head() {
  if (std::exchange(begun_, true)) return {};
  Head head;
  head.raw(gguf::kMagic);
  head.put(std::uint32_t{3});
  head.put(std::uint64_t{stream_.tensors().size()});
  head.put(std::uint64_t{metadata_.size()});
  for (const auto& [key, value] : metadata_) {
    head.string(key);
    put_entry(head, value);
  }
  for (const TensorStream::Tensor& tensor : stream_.tensors()) {
    head.string(tensor.name);
    head.put(static_cast<std::uint32_t>(tensor.shape.size()));
    for (const auto dim : std::views::reverse(tensor.shape)) head.put(dim);
    head.put(*gguf::from_dtype(tensor.dtype));
    head.put(tensor.offset);
  }
  head.pad();
  return out_.write(head.bytes());
}

Result<void> GgufWriter::write(std::span<const std::byte> bytes) {
  TSR_CHECK(write_head());
  return stream_.write(out_, bytes);
}

Result<void> GgufWriter::write_row(std::span<const float> row) {
  TSR_CHECK(write_head());
  return stream_.write_row(out_, row);
}

Result<void> GgufWriter::finish() {
  TSR_CHECK(stream_.check_complete());
  TSR_CHECK(write_head());
  TSR_CHECK(out_.zeros((gguf::kDefaultAlignment - out_.size() % gguf::kDefaultAlignment) %
                       gguf::kDefaultAlignment));
  return out_.commit();
}

}  // namespace tessera
