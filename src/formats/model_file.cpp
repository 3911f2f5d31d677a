#include "formats/model_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/text.h"
#include "formats/gguf.h"
#include "formats/gguf_parser.h"
#include "formats/safetensors_parser.h"

namespace tessera {
namespace {

std::string kind_of(const MetaValue& meta) {
  constexpr std::array<std::string_view, 10> names = {
      "an unsigned integer", "an integer",       "a float",       "a bool",       "a string",
      "an unsigned array",   "an integer array", "a float array", "a bool array", "a string array"};
  return std::string(names[meta.value.index()]);
}

Error bad_file(const ByteSource& source, const std::string& what) {
  return Error{Code::bad_model, quote(source.name(), kMaxQuotedPath) + ": " + what};
}

}  // namespace

std::uint64_t TensorInfo::elems() const {
  std::uint64_t product = 1;
  for (const std::uint64_t dim : shape) product *= dim;
  return product;
}

Result<ModelFile> ModelFile::open(std::shared_ptr<ByteSource> source) {
  if (!source) return Error{Code::invalid_argument, "ModelFile::open: no source"};
  std::array<char, 16> head{};
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), source->size()));
  TSR_CHECK(source->read(0, std::as_writable_bytes(std::span(head).first(size))));
  const std::string_view start(head.data(), size);
  if (start.starts_with(gguf::kMagic)) return GgufParser::parse(std::move(source));
  const bool named_so = source->name().ends_with(".safetensors");
  if (size > 8 && (start[8] == '{' || named_so)) return SafetensorsParser::parse(source);
  return bad_file(*source, "neither a GGUF nor a safetensors file (it starts with " + quote(start) + ")");
}

const TensorInfo* ModelFile::find(std::string_view name) const {
  const auto entry = index_.find(name);
  return entry == index_.end() || entry->second == kUnsupported ? nullptr : &tensors_[entry->second];
}

Result<const TensorInfo*> ModelFile::require(std::string_view name) const {
  const auto entry = index_.find(name);
  if (entry == index_.end()) return bad_file(source(), "there is no tensor " + quote(name));
  if (entry->second != kUnsupported) return &tensors_[entry->second];
  const auto found = std::ranges::find(unsupported_, name, &Unsupported::name);
  return Error{Code::unsupported, quote(source().name(), kMaxQuotedPath) + ": tensor " + quote(name) +
                                      " is " + found->type + ", which is not supported"};
}

const MetaValue* ModelFile::meta(const std::string& key) const {
  const auto entry = metadata_.find(key);
  return entry == metadata_.end() ? nullptr : &entry->second;
}

Error ModelFile::wrong_kind(const std::string& key, const MetaValue& value, std::string_view wanted) const {
  return bad_file(source(),
                  "metadata " + quote(key) + " is " + kind_of(value) + ", not " + std::string(wanted));
}

namespace {

Error missing(const ModelFile& file, const std::string& key) {
  return bad_file(file.source(), "metadata " + quote(key) + " is missing");
}

}  // namespace

Result<std::uint64_t> ModelFile::get_uint(const std::string& key) const {
  const MetaValue* found = meta(key);
  if (!found) return missing(*this, key);
  if (const auto* number = std::get_if<std::uint64_t>(&found->value)) return *number;
  const auto* number = std::get_if<std::int64_t>(&found->value);
  if (!number) return wrong_kind(key, *found, "an integer");
  if (*number >= 0) return static_cast<std::uint64_t>(*number);
  return bad_file(source(), "metadata " + quote(key) + " is negative: " + std::to_string(*number));
}

Result<std::uint64_t> ModelFile::get_uint(const std::string& key, std::uint64_t fallback) const {
  return meta(key) ? get_uint(key) : fallback;
}

Result<double> ModelFile::get_float(const std::string& key) const {
  const MetaValue* found = meta(key);
  if (!found) return missing(*this, key);
  if (const auto* number = std::get_if<double>(&found->value)) return *number;
  if (const auto* number = std::get_if<std::uint64_t>(&found->value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::int64_t>(&found->value)) return static_cast<double>(*number);
  return wrong_kind(key, *found, "a number");
}

Result<double> ModelFile::get_float(const std::string& key, double fallback) const {
  return meta(key) ? get_float(key) : fallback;
}

Result<bool> ModelFile::get_bool(const std::string& key, bool fallback) const {
  const MetaValue* found = meta(key);
  if (!found) return fallback;
  if (const auto* flag = std::get_if<bool>(&found->value)) return *flag;
  return wrong_kind(key, *found, "a bool");
}

Result<std::string> ModelFile::get_string(const std::string& key) const {
  const MetaValue* found = meta(key);
  if (!found) return missing(*this, key);
  if (const auto* text = std::get_if<std::string>(&found->value)) return *text;
  return wrong_kind(key, *found, "a string");
}

Result<std::string> ModelFile::get_string(const std::string& key, const std::string& fallback) const {
  return meta(key) ? get_string(key) : fallback;
}

Result<const std::vector<std::string>*> ModelFile::get_strings(const std::string& key) const {
  const MetaValue* found = meta(key);
  if (!found) return static_cast<const std::vector<std::string>*>(nullptr);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&found->value)) return texts;
  return wrong_kind(key, *found, "a string array");
}

Result<const std::vector<double>*> ModelFile::get_floats(const std::string& key) const {
  const MetaValue* found = meta(key);
  if (!found) return static_cast<const std::vector<double>*>(nullptr);
  if (const auto* numbers = std::get_if<std::vector<double>>(&found->value)) return numbers;
  return wrong_kind(key, *found, "a float array");
}

Result<std::vector<std::uint64_t>> ModelFile::get_uints(const std::string& key) const {
  const MetaValue* found = meta(key);
  if (!found) return std::vector<std::uint64_t>{};
  if (const auto* numbers = std::get_if<std::vector<std::uint64_t>>(&found->value)) return *numbers;
  const auto* numbers = std::get_if<std::vector<std::int64_t>>(&found->value);
  if (!numbers) return wrong_kind(key, *found, "an integer array");
  const auto negative = std::ranges::find_if(*numbers, [](std::int64_t n) { return n < 0; });
  if (negative == numbers->end()) return std::vector<std::uint64_t>(numbers->begin(), numbers->end());
  return bad_file(source(), "metadata " + quote(key) + " element " +
                                std::to_string(negative - numbers->begin()) +
                                " is negative: " + std::to_string(*negative));
}

Result<void> ModelFile::read(const TensorInfo& tensor, std::uint64_t begin, std::span<std::byte> out) const {
  if (begin > tensor.bytes || out.size() > tensor.bytes - begin) {
    return Error{Code::invalid_argument, "tensor " + quote(tensor.name) + ": bytes " + std::to_string(begin) +
                                             " to +" + std::to_string(out.size()) + " leave its " +
                                             std::to_string(tensor.bytes)};
  }
  return source_->read(tensor.offset + begin, out);
}

}  // namespace tessera
