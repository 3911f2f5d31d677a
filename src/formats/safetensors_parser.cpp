#include "formats/safetensors_parser.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "base/text.h"
#include "formats/cursor.h"
#include "formats/tensor_table.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's limit
constexpr std::size_t kMaxDims = 8;

struct Type {
  std::string_view name;
  std::uint32_t bytes;
};
constexpr Type kOtherTypes[] = {{"BOOL", 1},    {"U8", 1},      {"I8", 1},     {"U16", 2}, {"I16", 2},
                                {"I32", 4},     {"I64", 8},     {"U64", 8},    {"F64", 8}, {"C64", 8},
                                {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
constexpr std::array kOwnTypes = {DType::f32, DType::f16, DType::bf16, DType::u32};

Error bad_file(const ModelFile& file, const std::string& what) {
  return Error{Code::bad_model, quote(file.source().name(), kMaxQuotedPath) + ": " + what};
}

void set_type(const std::string& name, DeclaredTensor& tensor) {
  tensor.block_elems = 0;
  tensor.type_name = "type " + quote(name);
  for (const DType type : kOwnTypes) {
    if (info(type).name == name) {
      tensor.dtype = type;
      tensor.type_name = name;
      tensor.block_elems = info(type).block_elems;
      tensor.block_bytes = info(type).block_bytes;
    }
  }
  for (const Type& type : kOtherTypes) {
    if (type.name == name) {
      tensor.type_name = name;
      tensor.block_elems = 1;
      tensor.block_bytes = type.bytes;
    }
  }
}

// Takes the header's JSON event by event: no tree is built, and whatever is not where the format has it ends
// the parse, so that depth is bounded by the format's.
class Header final : public nlohmann::json_sax<json> {
 public:
  Header(ModelFile& file, std::map<std::string, MetaValue>& metadata, std::uint64_t data_begin)
      : file_(file),
        table_(file, data_begin, file.source().size()),
        metadata_(metadata),
        data_begin_(data_begin) {}

  Result<void> finish() {
    if (failure_) return *failure_;
    return table_.check_overlaps();
  }
  std::uint64_t covered() const { return table_.covered(); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a bool"); }
  bool number_integer(std::int64_t) override { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return unexpected("a number that is no integer"); }
  bool binary(json::binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(std::uint64_t number) override {
    if (place_ == Place::shape) {
      if (tensor_.shape.size() == kMaxDims) return fail("more than 8 dimensions", Code::unsupported);
      tensor_.shape.push_back(number);
      return true;
    }
    if (place_ != Place::offsets) return unexpected("a number");
    if (offset_count_ == offsets_.size()) return fail("data_offsets has more than two numbers");
    offsets_[offset_count_++] = number;
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      MetaValue value;
      value.value = std::move(text);
      value.gguf_type = 8;
      if (!metadata_.emplace(field_, std::move(value)).second)
        return fail("metadata " + quote(field_) + " is there twice");
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") return unexpected("a string");
    set_type(text, tensor_);
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::before) {
      place_ = Place::root;
    } else if (place_ == Place::root) {
      place_ = in_metadata_ ? Place::metadata : Place::tensor;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(std::string& text) override {
    if (text.find('\0') != std::string::npos) return fail("the name " + quote(text) + " holds a NUL byte");
    if (place_ == Place::root) {
      in_metadata_ = text == "__metadata__";
      tensor_ = {};
      tensor_.name = std::move(text);
      has_dtype_ = has_shape_ = has_offsets_ = false;
      offset_count_ = 0;
      return true;
    }
    field_ = std::move(text);
    if (place_ == Place::metadata) return true;
    bool* seen = field_ == "dtype" ? &has_dtype_ : field_ == "shape" ? &has_shape_ : nullptr;
    if (field_ == "data_offsets") seen = &has_offsets_;
    if (!seen) return fail("field " + quote(field_) + " does not exist in the format");
    if (std::exchange(*seen, true)) return fail("field " + quote(field_) + " is there twice");
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || field_ == "dtype") return unexpected("an array");
    place_ = field_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::root) {
      place_ = Place::after;
      return true;
    }
    const bool was_tensor = place_ == Place::tensor;
    place_ = Place::root;
    return !was_tensor || add_tensor();
  }

  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    if (!failure_) {
      failure_ = bad_file(file_, "header: not valid JSON at byte " + std::to_string(kLengthBytes + position));
    }
    return false;
  }

 private:
  enum class Place { before, root, metadata, tensor, shape, offsets, after };

  bool add_tensor() {
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      return fail(std::string("field \"") +
                  (!has_dtype_   ? "dtype"
                   : !has_shape_ ? "shape"
                                 : "data_offsets") +
                  "\" is missing");
    }
    if (offset_count_ != offsets_.size()) return fail("data_offsets must be two numbers");
    const auto [begin, end] = offsets_;
    const std::uint64_t available = table_.end() - data_begin_;
    if (begin > end || end > available) {
      return fail("data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + "] do not fit in " +
                  std::to_string(available) + " bytes of data");
    }
    tensor_.offset = data_begin_ + begin;
    tensor_.bytes = end - begin;
    if (begin == end && tensor_.block_elems != 0) {
      tensor_.dtype
          .reset();  // no view has no elements; the shape is checked against the 0 bytes all the same
      tensor_.type_name += " without elements";
    }
    const Result<void> added = table_.add(std::move(tensor_));
    if (!added) failure_ = added.error();
    return added.ok();
  }

  // `what` about the tensor that is being read.
  bool fail(const std::string& what, Code code = Code::bad_model) {
    Error error = table_.error(tensor_.name, what);
    error.code = code;
    failure_ = std::move(error);
    return false;
  }
  bool unexpected(const std::string& what) {
    if (place_ == Place::before) {
      failure_ = bad_file(file_, "header: " + what + " instead of an object");
      return false;
    }
    if (place_ == Place::root) return fail(what + " instead of an object");
    return fail(what + " in field " + quote(field_));
  }

  const ModelFile& file_;
  TensorTable table_;
  std::map<std::string, MetaValue>& metadata_;
  std::uint64_t data_begin_;
  Place place_ = Place::before;
  bool in_metadata_ = false;
  std::string field_;
  DeclaredTensor tensor_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

Result<ModelFile> SafetensorsParser::parse(const std::shared_ptr<ByteSource>& source) {
  ModelFile file;
  file.kind_ = FileKind::safetensors;
  file.source_ = source;
  Cursor cursor(*source);
  TSR_TRY(const auto length, cursor.scalar<std::uint64_t>());
  if (length > cursor.remaining() || length > kMaxHeaderBytes) {
    return bad_file(file, "a header of " + std::to_string(length) + " bytes does not fit in the " +
                              std::to_string(cursor.remaining()) +
                              " bytes that follow, or in the format's 100 MB");
  }
  TSR_TRY(const std::string text, cursor.string(length));
  Header header(file, file.metadata_, kLengthBytes + length);
  json::sax_parse(text, &header);
  TSR_CHECK(header.finish());
  const std::uint64_t data = source->size() - kLengthBytes - length;
  if (header.covered() != data) {
    return bad_file(file, std::to_string(data - header.covered()) + " of " + std::to_string(data) +
                              " bytes of data belong to no tensor");
  }
  return file;
}

}  // namespace tessera
