#include "formats/gguf_parser.h"

#include <algorithm>
#include <bit>

#include "base/text.h"

namespace tessera {
namespace {

// Fewest bytes of an entry: a length field, a type and a one-byte value; a length field, n_dims, type,
// offset.
constexpr std::uint64_t kMinMetadataBytes = 8 + 4 + 1;
constexpr std::uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

}  // namespace

GgufParser::GgufParser(std::shared_ptr<ByteSource> source) : cursor_(*source) {
  file_.kind_ = FileKind::gguf;
  file_.source_ = std::move(source);
}

Result<ModelFile> GgufParser::parse(std::shared_ptr<ByteSource> source) {
  GgufParser parser(std::move(source));
  TSR_CHECK(parser.header());
  TSR_CHECK(parser.metadata());
  TSR_CHECK(parser.alignment());
  TSR_CHECK(parser.tensors());
  return std::move(parser.file_);
}

Error GgufParser::error(const std::string& what, Code code) const {
  return Error{code, quote(file_.source().name(), kMaxQuotedPath) + ": " + where_ + ": " + what};
}

Result<void> GgufParser::need(std::uint64_t bytes) const {
  if (bytes <= cursor_.remaining()) return {};
  return error("needs " + std::to_string(bytes) + " bytes at offset " + std::to_string(cursor_.position()) +
               ", but the file ends at " + std::to_string(file_.source().size()));
}

template <typename T>
Result<T> GgufParser::scalar() {
  TSR_CHECK(need(sizeof(T)));
  return cursor_.scalar<T>();
}

Result<std::string> GgufParser::string() {
  TSR_TRY(const auto size, scalar<std::uint64_t>());
  TSR_CHECK(need(size));
  return cursor_.string(size);
}

Result<std::string> GgufParser::name(const std::string& what) {
  TSR_TRY(const auto size, scalar<std::uint64_t>());
  if (size == 0 || size > gguf::kMaxNameBytes) {
    return error(what + " of " + std::to_string(size) + " bytes at offset " +
                 std::to_string(cursor_.position() - 8) + "; 1 to " + std::to_string(gguf::kMaxNameBytes) +
                 " are allowed");
  }
  TSR_CHECK(need(size));
  TSR_TRY(std::string text, cursor_.string(size));
  if (!valid_utf8(text) || text.find('\0') != std::string::npos) {
    return error(what + " " + quote(text) + " is not UTF-8 text");
  }
  return text;
}

Result<void> GgufParser::header() {
  where_ = "header";
  TSR_CHECK(need(gguf::kMagic.size() + 4));
  TSR_CHECK(cursor_.scalar<std::uint32_t>());  // the magic
  TSR_TRY(const auto version, scalar<std::uint32_t>());
  if (version != 2 && version != 3) {
    if ((version & 0xffffu) == 0 && version != 0) {
      return error("a big-endian GGUF file; only little-endian ones can be read", Code::unsupported);
    }
    return error("GGUF version " + std::to_string(version) + "; 2 and 3 can be read", Code::unsupported);
  }
  file_.version_ = version;
  TSR_TRY(tensor_count_, scalar<std::uint64_t>());
  TSR_TRY(kv_count_, scalar<std::uint64_t>());
  const std::uint64_t left = cursor_.remaining();
  if (kv_count_ > left / kMinMetadataBytes) {
    return error("metadata count " + std::to_string(kv_count_) + " cannot fit in the " +
                 std::to_string(left) + " bytes that follow");
  }
  if (tensor_count_ > left / kMinTensorBytes) {
    return error("tensor count " + std::to_string(tensor_count_) + " cannot fit in the " +
                 std::to_string(left) + " bytes that follow");
  }
  return {};
}

Result<void> GgufParser::metadata() {
  for (std::uint64_t i = 0; i < kv_count_; ++i) {
    where_ = "metadata entry " + std::to_string(i);
    TSR_TRY(std::string key, name("a key"));
    where_ = "metadata " + quote(key);
    TSR_TRY(const auto type, scalar<std::uint32_t>());
    TSR_TRY(MetaValue entry, value(gguf::ValueType{type}));
    if (!file_.metadata_.emplace(std::move(key), std::move(entry)).second) return error("is there twice");
  }
  return {};
}

Result<MetaValue> GgufParser::value(gguf::ValueType type) {
  using gguf::ValueType;
  MetaValue out;
  out.gguf_type = static_cast<std::uint32_t>(type);
  const auto set = [&]<typename T, typename As>(As) -> Result<void> {
    TSR_TRY(const T number, scalar<T>());
    out.value = static_cast<As>(number);
    return {};
  };
  constexpr std::uint64_t as_uint = 0;
  constexpr std::int64_t as_int = 0;
  constexpr double as_float = 0;
  switch (type) {
    case ValueType::u8: TSR_CHECK(set.operator()<std::uint8_t>(as_uint)); return out;
    case ValueType::i8: TSR_CHECK(set.operator()<std::int8_t>(as_int)); return out;
    case ValueType::u16: TSR_CHECK(set.operator()<std::uint16_t>(as_uint)); return out;
    case ValueType::i16: TSR_CHECK(set.operator()<std::int16_t>(as_int)); return out;
    case ValueType::u32: TSR_CHECK(set.operator()<std::uint32_t>(as_uint)); return out;
    case ValueType::i32: TSR_CHECK(set.operator()<std::int32_t>(as_int)); return out;
    case ValueType::u64: TSR_CHECK(set.operator()<std::uint64_t>(as_uint)); return out;
    case ValueType::i64: TSR_CHECK(set.operator()<std::int64_t>(as_int)); return out;
    case ValueType::f32: TSR_CHECK(set.operator()<float>(as_float)); return out;
    case ValueType::f64: TSR_CHECK(set.operator()<double>(as_float)); return out;
    case ValueType::boolean: {
      TSR_TRY(const auto byte, scalar<std::uint8_t>());
      if (byte > 1) return error("a bool of value " + std::to_string(byte));
      out.value = byte == 1;
      return out;
    }
    case ValueType::string: {
      TSR_TRY(out.value, string());
      return out;
    }
    case ValueType::array: return array();
  }
  return error("value type " + std::to_string(out.gguf_type) + " does not exist");
}

Result<MetaValue> GgufParser::array() {
  TSR_TRY(const auto type, scalar<std::uint32_t>());
  TSR_TRY(const auto count, scalar<std::uint64_t>());
  const gguf::ValueType element{type};
  if (element == gguf::ValueType::array) return error("arrays of arrays cannot be read", Code::unsupported);
  const std::uint64_t size = gguf::min_bytes(element);
  if (size == 0) return error("array element type " + std::to_string(type) + " does not exist");
  if (count > cursor_.remaining() / size) {
    return error("an array of " + std::to_string(count) + " " + std::string(gguf::name(element)) +
                 " values cannot fit in the " + std::to_string(cursor_.remaining()) + " bytes that follow");
  }
  MetaValue out;
  out.gguf_type = type;
  TSR_CHECK(elements(element, count, out));
  return out;
}

template <typename Stored, typename T>
Result<void> GgufParser::numbers(std::uint64_t count, std::vector<T>& out) {
  out.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(count, 1u << 16)));
  for (std::uint64_t i = 0; i < count; ++i) {
    TSR_TRY(const Stored number, cursor_.scalar<Stored>());
    out.push_back(static_cast<T>(number));
  }
  return {};
}

Result<void> GgufParser::elements(gguf::ValueType type, std::uint64_t count, MetaValue& out) {
  using gguf::ValueType;
  const auto uints = [&]() -> auto& { return out.value.emplace<std::vector<std::uint64_t>>(); };
  const auto ints = [&]() -> auto& { return out.value.emplace<std::vector<std::int64_t>>(); };
  const auto floats = [&]() -> auto& { return out.value.emplace<std::vector<double>>(); };
  switch (type) {
    case ValueType::u8: return numbers<std::uint8_t>(count, uints());
    case ValueType::i8: return numbers<std::int8_t>(count, ints());
    case ValueType::u16: return numbers<std::uint16_t>(count, uints());
    case ValueType::i16: return numbers<std::int16_t>(count, ints());
    case ValueType::u32: return numbers<std::uint32_t>(count, uints());
    case ValueType::i32: return numbers<std::int32_t>(count, ints());
    case ValueType::u64: return numbers<std::uint64_t>(count, uints());
    case ValueType::i64: return numbers<std::int64_t>(count, ints());
    case ValueType::f32: return numbers<float>(count, floats());
    case ValueType::f64: return numbers<double>(count, floats());
    case ValueType::boolean: {
      auto& flags = out.value.emplace<std::vector<bool>>();
      for (std::uint64_t i = 0; i < count; ++i) {
        TSR_TRY(const auto byte, cursor_.scalar<std::uint8_t>());
        if (byte > 1)
          return error("element " + std::to_string(i) + ": a bool of value " + std::to_string(byte));
        flags.push_back(byte == 1);
      }
      return {};
    }
    case ValueType::string: {
      auto& strings = out.value.emplace<std::vector<std::string>>();
      strings.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(count, 1u << 16)));
      const std::string array_name = where_;
      for (std::uint64_t i = 0; i < count; ++i) {
        where_ = array_name + " element " + std::to_string(i);
        TSR_TRY(std::string text, string());
        strings.push_back(std::move(text));
      }
      where_ = array_name;
      return {};
    }
    case ValueType::array: break;
  }
  return error("array element type " + std::to_string(static_cast<std::uint32_t>(type)) + " does not exist");
}

Result<void> GgufParser::alignment() {
  TSR_TRY(alignment_, file_.get_uint("general.alignment", gguf::kDefaultAlignment));
  where_ = "metadata \"general.alignment\"";
  if (!std::has_single_bit(alignment_) || alignment_ > (1u << 30)) {
    return error(std::to_string(alignment_) + " is no power of two up to 2^30");
  }
  return {};
}

Result<DeclaredTensor> GgufParser::tensor_info(std::uint64_t index) {
  where_ = "tensor entry " + std::to_string(index);
  DeclaredTensor tensor;
  TSR_TRY(tensor.name, name("a name"));
  where_ = "tensor " + quote(tensor.name);
  TSR_TRY(const auto dims, scalar<std::uint32_t>());
  if (dims > gguf::kMaxDims) {
    return error(std::to_string(dims) + " dimensions; at most " + std::to_string(gguf::kMaxDims) +
                 " are allowed");
  }
  for (std::uint32_t i = 0; i < dims; ++i) {
    TSR_TRY(const auto dim, scalar<std::uint64_t>());
    if (dim == 0) return error("dimension " + std::to_string(i) + " is 0");
    tensor.shape.insert(tensor.shape.begin(), dim);  // the file has the innermost first
  }
  TSR_TRY(const auto type, scalar<std::uint32_t>());
  tensor.dtype = gguf::to_dtype(type);
  const gguf::TensorType* known = gguf::tensor_type(type);
  tensor.type_name = known ? std::string(known->name) : "type " + std::to_string(type);
  tensor.block_elems = known ? known->block_elems : 0;
  tensor.block_bytes = known ? known->block_bytes : 0;
  TSR_TRY(tensor.offset, scalar<std::uint64_t>());
  if (tensor.offset % alignment_ != 0) {
    return error("offset " + std::to_string(tensor.offset) + " is no multiple of the alignment " +
                 std::to_string(alignment_));
  }
  return tensor;
}

Result<void> GgufParser::tensors() {
  std::vector<DeclaredTensor> declared;
  declared.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(tensor_count_, 1u << 12)));
  for (std::uint64_t i = 0; i < tensor_count_; ++i) {
    TSR_TRY(DeclaredTensor tensor, tensor_info(i));
    declared.push_back(std::move(tensor));
  }
  // Offsets count from the first aligned byte after the head; a file without tensors may end before it.
  const std::uint64_t size = file_.source().size();
  const std::uint64_t padding = (alignment_ - cursor_.position() % alignment_) % alignment_;
  const std::uint64_t begin = cursor_.position() + std::min(padding, cursor_.remaining());
  TensorTable table(file_, begin, size);
  for (DeclaredTensor& tensor : declared) {
    if (tensor.offset > size - begin) {
      return table.error(tensor.name, "offset " + std::to_string(tensor.offset) + " leaves the " +
                                          std::to_string(size - begin) + " bytes of data");
    }
    tensor.offset += begin;
    TSR_CHECK(table.add(std::move(tensor)));
  }
  return table.check_overlaps();
}

}  // namespace tessera
