#include "ops/arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/text.h"

namespace tessera {
namespace {

constexpr std::uint64_t kMaxElems = 0xffffffffull;

bool lists(std::string_view words, std::string_view word, char separator) {
  while (!words.empty()) {
    const std::size_t end = words.find(separator);
    if (words.substr(0, end) == word) return true;
    words = end == std::string_view::npos ? "" : words.substr(end + 1);
  }
  return false;
}

// "F32, F16 or BF16"
std::string or_list(std::string_view words, char separator) {
  std::string text;
  while (!words.empty()) {
    const std::size_t end = words.find(separator);
    const bool last = end == std::string_view::npos;
    if (!text.empty()) text += last ? " or " : ", ";
    text += words.substr(0, end);
    words = last ? "" : words.substr(end + 1);
  }
  return text;
}

// Levenshtein's, in one row; the case of a letter is no difference.
std::size_t edits(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

template <typename Info>
std::vector<std::string_view> names(std::span<const Info> infos) {
  std::vector<std::string_view> out;
  for (const Info& info : infos) out.push_back(info.name);
  return out;
}

template <typename Info>
const Info* find_info(std::span<const Info> infos, std::string_view name) {
  const auto at = std::ranges::find(infos, name, &Info::name);
  return at == infos.end() ? nullptr : &*at;
}

// The tensor of this name, or `user.*` of one whose name begins so.
const OpTensorInfo* find_tensor(std::span<const OpTensorInfo> infos, std::string_view name) {
  const auto matches = [&](const OpTensorInfo& info) {
    if (!info.name.ends_with('*')) return info.name == name;
    const std::string_view prefix = info.name.substr(0, info.name.size() - 1);
    return name.size() > prefix.size() && name.starts_with(prefix);
  };
  const auto at = std::ranges::find_if(infos, matches);
  return at == infos.end() ? nullptr : &*at;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string text_of(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof(text), number, std::chars_format::fixed).ptr};
}

}  // namespace

std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

std::optional<std::uint64_t> product(std::span<const std::uint64_t> shape) {
  std::uint64_t n = 1;
  for (std::uint64_t dim : shape) {
    if (dim != 0 && n > (std::uint64_t{1} << 63) / dim) return std::nullopt;
    n *= dim;
  }
  return n;
}

std::string suggest(std::string_view name, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t least = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (std::string_view word : known)
    if (const std::size_t n = edits(name.substr(0, 64), word); n < least) {
      least = n;
      best = word;
    }
  if (!best.empty()) return ", did you mean '" + std::string(best) + "'?";
  std::string text = known.empty() ? "; it has none" : "; it has: ";
  for (std::size_t i = 0; i < known.size(); ++i) text += (i ? ", " : "") + std::string(known[i]);
  return text;
}

std::uint64_t op_tensor_bytes(std::string_view type, std::uint64_t elems) {
  if (type == "I64") return elems * 8;
  if (type == "I32") return elems * 4;
  if (type == "BOOL") return elems;
  const auto dtype = parse_dtype(type);
  if (!dtype || info(*dtype).name != type || elems % info(*dtype).block_elems != 0) return 0;
  return file_bytes(elems, info(*dtype));
}

Result<Arguments> Arguments::create(const OpInfo& info, const OpRequest& request) {
  Arguments out;
  out.op_ = info.name;
  out.shapes_only_ = request.shapes_only;
  out.user_ = request.user;
  for (const OpAttributeInfo& attribute : info.attributes)
    out.fallbacks_.emplace(attribute.name, attribute.fallback);
  for (const OpTensor& tensor : request.inputs) TSR_CHECK(out.add_tensor(info, tensor));
  for (const OpTensorInfo& tensor : info.inputs)
    if (!tensor.optional && !out.has(tensor.name))
      return out.refuse("tensor '" + std::string(tensor.name) + "' is missing");
  for (const std::string& text : request.attributes) TSR_CHECK(out.add_attribute(info, text));
  for (const std::string& name : request.outputs) TSR_CHECK(out.add_output(info, name));
  return out;
}

Result<void> Arguments::add_tensor(const OpInfo& info, const OpTensor& tensor) {
  const OpTensorInfo* known = find_tensor(info.inputs, tensor.name);
  if (known == nullptr)
    return refuse("there is no input " + quote(tensor.name, 80) + suggest(tensor.name, names(info.inputs)));
  const std::string& name = tensor.name;
  if (!lists(known->types, tensor.type, ' '))
    return refuse(name + " is " + quote(tensor.type, 40) + ", it must be " + or_list(known->types, ' '));
  if (tensor.shape.size() > kMaxRank)
    return refuse(name + " has " + std::to_string(tensor.shape.size()) + " dimensions, at most " +
                  std::to_string(kMaxRank) + " are taken");
  const auto elems = product(tensor.shape);
  if (!elems || *elems > kMaxElems)
    return unsupported(name + " " + shape_text(tensor.shape) + " has 2^32 elements or more");
  if (*elems == 0 && !known->may_be_empty)
    return refuse(name + " " + shape_text(tensor.shape) + " has no elements");
  const std::uint64_t bytes = op_tensor_bytes(tensor.type, *elems);
  const auto dtype = parse_dtype(tensor.type);
  if (dtype && (tensor.shape.empty() ? 1 : tensor.shape.back()) % tessera::info(*dtype).block_elems != 0)
    return refuse(name + ": rows of " + shape_text(tensor.shape) + " are no whole blocks of " + tensor.type);
  if ((!shapes_only_ || !tensor.data.empty()) && tensor.data.size() != bytes)
    return refuse(name + ": " + tensor.type + " " + shape_text(tensor.shape) + " takes " +
                  std::to_string(bytes) + " bytes, but " + std::to_string(tensor.data.size()) + " are given");
  if (!inputs_.emplace(tensor.name, OpInput{&tensor, *elems}).second)
    return refuse("tensor '" + name + "' is given twice");
  return {};
}

Result<void> Arguments::add_attribute(const OpInfo& info, const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos)
    return refuse("attribute " + quote(text, 80) + " has no value (write name=value)");
  const std::string key = text.substr(0, equals), value = text.substr(equals + 1);
  const OpAttributeInfo* known = find_info(info.attributes, key);
  if (known == nullptr)
    return refuse("there is no attribute " + quote(key, 80) + suggest(key, names(info.attributes)));
  const std::string name(known->name);
  if (!given_.emplace(known->name, value).second) return refuse("attribute '" + name + "' is given twice");
  const auto out_of_range = [&](double number) {
    std::string range(known->allowed);
    if (number > known->most && range.starts_with(">=")) range += " and <= " + text_of(known->most);
    return refuse(name + " is " + quote(value, 40) + ", it must be " + range);
  };
  if (known->kind == OpAttributeInfo::Kind::choice) {
    if (lists(known->allowed, value, '|')) return {};
    return refuse(name + " is " + quote(value, 40) + ", it must be " + or_list(known->allowed, '|'));
  }
  if (known->kind == OpAttributeInfo::Kind::integer) {
    const auto number = parse_integer(value);
    if (!number) return refuse(name + " is " + quote(value, 40) + ", which is no integer");
    const auto wide = static_cast<double>(*number);
    return wide < known->least || wide > known->most ? Result<void>(out_of_range(wide)) : Result<void>();
  }
  const auto number = parse_number(value);
  if (!number || !std::isfinite(*number) || !std::isfinite(static_cast<float>(*number)))
    return refuse(name + " is " + quote(value, 40) + ", which is no finite number");
  return *number < known->least || *number > known->most ? Result<void>(out_of_range(*number))
                                                         : Result<void>();
}

Result<void> Arguments::add_output(const OpInfo& info, const std::string& name) {
  if (find_info(info.outputs, name) == nullptr)
    return refuse("there is no output " + quote(name, 80) + suggest(name, names(info.outputs)));
  outputs_.push_back(name);
  return {};
}

bool Arguments::wants(std::string_view output) const {
  return std::ranges::find(outputs_, output) != outputs_.end();
}

std::vector<std::string> Arguments::inputs_of(std::string_view prefix) const {
  std::vector<std::string> out;
  for (const auto& [name, input] : inputs_)
    if (name.starts_with(prefix)) out.emplace_back(name);
  return out;
}

std::string Arguments::choice(std::string_view attribute) const {
  const auto at = given_.find(attribute);
  return at != given_.end() ? at->second : std::string(fallbacks_.find(attribute)->second);
}
std::int64_t Arguments::integer(std::string_view attribute) const {
  return parse_integer(choice(attribute)).value_or(0);
}
double Arguments::number(std::string_view attribute) const {
  return parse_number(choice(attribute)).value_or(0);
}

Error Arguments::differ(std::string_view a, std::uint64_t a_count, std::string_view b, std::uint64_t b_count,
                        std::string_view what) const {
  return refuse(std::string(a) + " has " + std::to_string(a_count) + " " + std::string(what) + ", " +
                std::string(b) + " has " + std::to_string(b_count));
}

std::int64_t Arguments::word(const OpInput& input, std::uint64_t i) const {
  std::int64_t wide = 0;
  if (input.type() == "I64") {
    std::memcpy(&wide, input.tensor->data.data() + i * 8, 8);
    return wide;
  }
  std::uint32_t word = 0;
  std::memcpy(&word, input.tensor->data.data() + i * 4, 4);
  return input.type() == "I32" ? static_cast<std::int32_t>(word) : std::int64_t{word};
}

Result<std::vector<std::uint32_t>> Arguments::words(std::string_view name, std::uint64_t limit,
                                                    const std::string& limit_text) const {
  const OpInput& input = in(name);
  std::vector<std::uint32_t> out;
  if (!known(name)) return out;
  out.resize(input.elems);
  for (std::uint64_t i = 0; i < input.elems; ++i) {
    const std::int64_t value = word(input, i);
    if (value < 0 || static_cast<std::uint64_t>(value) > limit)
      return refuse(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(value) + ", " +
                    limit_text);
    out[i] = static_cast<std::uint32_t>(value);
  }
  return out;
}

}  // namespace tessera
