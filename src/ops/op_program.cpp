#include "ops/op_program.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/cache_row.h"
#include "graph/check.h"

namespace tessera {

class OpProgram::Weights final : public WeightReader {
 public:
  void add(const std::string& name, std::span<const std::byte> borrowed, std::vector<std::byte> owned) {
    entries_[name] = {borrowed, std::move(owned)};
  }
  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    const auto at = entries_.find(weight.name);
    if (at == entries_.end()) return Error{Code::internal, "no weight '" + weight.name + "'"};
    const std::span<const std::byte> all =
        at->second.owned.empty() ? at->second.borrowed : std::span<const std::byte>(at->second.owned);
    const std::uint64_t first = first_row * row_bytes(weight);
    if (first > all.size() || out.size() > all.size() - first)
      return Error{Code::internal, "rows past the end of weight '" + weight.name + "'"};
    std::memcpy(out.data(), all.data() + first, out.size());
    return {};
  }

 private:
  struct Entry {
    std::span<const std::byte> borrowed;
    std::vector<std::byte> owned;
  };
  std::map<std::string, Entry> entries_;
};

OpProgram::OpProgram(const Arguments& args, std::string name)
    : args_(args), program_(std::make_shared<Program>()), weights_(std::make_shared<Weights>()) {
  program_->weights = weights_;
  program_->graphs.push_back({std::move(name), 1, {}});
  program_->state = add("state", Storage::input, DType::u32, {8});
}

ValueId OpProgram::add(std::string name, Storage storage, DType dtype, std::vector<std::uint64_t> shape) {
  const auto elems = product(shape);
  if ((!elems || *elems > 0xffffffffull) && !error_)
    error_ = args_.unsupported(name + " " + shape_text(shape) + " would have 2^32 elements or more");
  Value value;
  value.name = std::move(name);
  value.storage = storage;
  value.dtype = dtype;
  value.shape = std::move(shape);
  program_->values.push_back(std::move(value));
  return static_cast<ValueId>(program_->values.size() - 1);
}

std::vector<std::byte> encode(DType type, std::span<const float> in) {
  std::vector<std::byte> out(file_bytes(in.size(), info(type)));
  encode_row(type, in, out);
  return out;
}

std::vector<std::byte> encode_cache(DType type, std::uint64_t dim, std::span<const float> in) {
  std::vector<std::byte> out(in.size() / dim * cache_row_bytes(type, dim));
  write_cache(type, dim, in, 0, out);
  return out;
}

std::vector<float> OpProgram::floats(std::string_view input) const {
  if (!args_.known(input)) return {};
  const OpInput& in = args_.in(input);
  std::vector<float> out(in.elems);
  decode_row(in.real(), in.tensor->data, out);
  return out;
}

ValueId OpProgram::given(std::string_view input, DType dtype, std::vector<std::uint64_t> shape,
                         Storage storage) {
  const OpInput& in = args_.in(input);
  const bool same = in.type() == info(dtype).name || (in.type() == "BOOL" && dtype == DType::u8) ||
                    (in.type() == "I32" && dtype == DType::u32);
  if (!same) {
    std::vector<std::byte> bytes;
    if (args_.known(input)) bytes = encode(dtype, floats(input));
    return given_bytes(std::string(input), dtype, std::move(shape), std::move(bytes), {std::string(input)},
                       storage);
  }
  const ValueId id = add(std::string(input), storage, dtype, std::move(shape));
  content(id, {std::string(input)});
  if (args_.known(input)) built_.writes.push_back({id, 0, {}, in.tensor->data});
  return id;
}

ValueId OpProgram::given_bytes(std::string name, DType dtype, std::vector<std::uint64_t> shape,
                               std::vector<std::byte> bytes, Inputs inputs, Storage storage) {
  const ValueId id = add(std::move(name), storage, dtype, std::move(shape));
  content(id, std::move(inputs));
  write(id, 0, std::move(bytes));
  return id;
}

ValueId OpProgram::cache(std::string_view input, DType type, std::vector<std::uint64_t> shape) {
  const OpInput& in = args_.in(input);
  if (in.real() == type) return given(input, type, std::move(shape), Storage::cache);
  std::vector<std::byte> bytes;
  if (args_.known(input)) bytes = encode_cache(type, shape.back(), floats(input));
  return given_bytes(std::string(input), type, std::move(shape), std::move(bytes), {std::string(input)},
                     Storage::cache);
}

void OpProgram::content(ValueId value, Inputs inputs) {
  const bool known = std::ranges::all_of(inputs, [&](const std::string& name) { return args_.known(name); });
  built_.contents.push_back({value, std::move(inputs), known});
}

void OpProgram::write(ValueId value, std::uint64_t offset, std::vector<std::byte> bytes) {
  if (!bytes.empty()) built_.writes.push_back({value, offset, std::move(bytes), {}});
}

ValueId OpProgram::words(std::string name, std::vector<std::uint64_t> shape, std::vector<std::uint32_t> words,
                         Inputs inputs) {
  const auto view = std::as_bytes(std::span(words));
  std::vector<std::byte> bytes(view.begin(), view.end());
  const ValueId id = add(std::move(name), Storage::input, DType::u32, std::move(shape));
  content(id, std::move(inputs));
  if (built_.contents.back().known) write(id, 0, std::move(bytes));
  return id;
}

ValueId OpProgram::constant(std::string name, std::vector<std::uint64_t> shape, std::vector<float> data,
                            Inputs inputs) {
  const ValueId id = add(std::move(name), Storage::constant, DType::f32, std::move(shape));
  content(id, std::move(inputs));
  if (!data.empty()) program_->values[id].data = std::make_shared<const std::vector<float>>(std::move(data));
  return id;
}

ValueId OpProgram::weight(std::string name, DType dtype, std::vector<std::uint64_t> shape,
                          std::span<const std::byte> borrowed, std::vector<std::byte> owned) {
  weights_->add(name, borrowed, std::move(owned));
  const ValueId id = add(name, Storage::weight, dtype, std::move(shape));
  content(id, {std::move(name)});
  return id;
}

void OpProgram::op(OpKind kind, const OpAttrs& attrs, std::vector<ValueId> in, std::vector<ValueId> out) {
  std::vector<Op>& ops = program_->graphs[0].ops;
  std::string name = program_->graphs[0].name;
  if (kind == OpKind::kv_append) name += "_append" + std::to_string(ops.size());
  ops.push_back({kind, std::move(name), attrs, std::move(in), std::move(out)});
}

void OpProgram::output(std::string name, std::string_view type, std::vector<std::uint64_t> shape,
                       ValueId value) {
  OpOutput out;
  out.name = std::move(name);
  out.type = type;
  out.shape = std::move(shape);
  out.bytes = op_tensor_bytes(type, product(out.shape).value_or(0));
  out.value = value;
  const Value& source = program_->values[value];
  const DType from = source.dtype, to = *parse_dtype(type);
  const std::uint64_t dim = source.last_dim(), elems = source.elems();
  if (from != to)
    out.convert = [from, to, dim, elems](std::span<const std::byte> stored, std::span<std::byte> bytes) {
      std::vector<float> values(elems);
      read_cache(from, dim, stored, 0, values);  // any value's elements lie so
      encode_row(to, values, bytes);
    };
  built_.outputs.push_back(std::move(out));
}

Result<BuiltOp> OpProgram::finish(const StepState& state, std::uint64_t max_rows) {
  if (error_) return *error_;
  program_->graphs[0].max_rows = static_cast<std::uint32_t>(max_rows);
  const auto reads_state = [&](const Op& op) { return std::ranges::count(op.in, program_->state) != 0; };
  if (std::ranges::any_of(program_->graphs[0].ops, reads_state)) {
    std::vector<std::byte> bytes(sizeof(state));
    std::memcpy(bytes.data(), &state, sizeof(state));
    content(program_->state, {});
    write(program_->state, 0, std::move(bytes));
  }
  if (const auto checked = check_program(*program_, !args_.shapes_only()); !checked.ok())
    return args_.refuse(checked.error().message);
  built_.program = std::move(program_);
  return std::move(built_);
}

}  // namespace tessera
