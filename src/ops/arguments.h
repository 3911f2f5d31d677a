// What a caller gave an op, checked against the op's own list: names, types, sizes, numbers.
#pragma once

#include <map>
#include <optional>

#include "ops/ops.h"

namespace tessera {

struct OpInput {
  const OpTensor* tensor = nullptr;
  std::uint64_t elems = 0;
  const std::vector<std::uint64_t>& shape() const { return tensor->shape; }
  std::size_t rank() const { return tensor->shape.size(); }
  std::string_view type() const { return tensor->type; }
  // F32, F16, BF16 or a type of blocks, as one of the graph.
  DType real() const { return *parse_dtype(tensor->type); }
};

class Arguments {
 public:
  // Every name is known, each tensor is there once with a type it may have, a shape of fewer than 2^32
  // elements (and, but for those that may be empty, at least one), and exactly its bytes; every number is one
  // and within its limits.
  static Result<Arguments> create(const OpInfo& info, const OpRequest& request);

  bool has(std::string_view input) const { return inputs_.contains(input); }
  const OpInput& in(std::string_view input) const { return inputs_.find(input)->second; }
  const OpInput* find(std::string_view input) const {
    const auto at = inputs_.find(input);
    return at == inputs_.end() ? nullptr : &at->second;
  }
  bool wants(std::string_view output) const;
  bool shapes_only() const { return shapes_only_; }
  // Whether the input's data is there; without it there is a shape alone.
  bool known(std::string_view input) const {
    return !shapes_only_ || in(input).elems == 0 || !in(input).tensor->data.empty();
  }

  bool given(std::string_view attribute) const { return given_.contains(attribute); }
  // Of attributes in the op's list; with neither a value nor a default, 0 and "".
  std::int64_t integer(std::string_view attribute) const;
  double number(std::string_view attribute) const;
  std::string choice(std::string_view attribute) const;

  // A user's functions; null: none.
  const UserFunctions* user() const { return user_.get(); }
  // Names of the inputs that `prefix*` lists, in order.
  std::vector<std::string> inputs_of(std::string_view prefix) const;

  // "attention: K ..."
  Error refuse(const std::string& what) const { return Error{Code::invalid_argument, op_ + ": " + what}; }
  Error unsupported(const std::string& what) const { return Error{Code::unsupported, op_ + ": " + what}; }
  // "K has 3 heads, V has 2"
  Error differ(std::string_view a, std::uint64_t a_count, std::string_view b, std::uint64_t b_count,
               std::string_view what) const;

  // U32, I32 or I64 as words of at most `limit`; `limit_text` is said of the first one above. Empty when only
  // the shape is known.
  Result<std::vector<std::uint32_t>> words(std::string_view input, std::uint64_t limit,
                                           const std::string& limit_text) const;
  // Element i of an integer tensor.
  std::int64_t word(const OpInput& input, std::uint64_t i) const;

 private:
  Result<void> add_tensor(const OpInfo& info, const OpTensor& tensor);
  Result<void> add_attribute(const OpInfo& info, const std::string& text);
  Result<void> add_output(const OpInfo& info, const std::string& name);

  std::string op_;
  bool shapes_only_ = false;
  std::shared_ptr<const UserFunctions> user_;
  std::map<std::string_view, OpInput, std::less<>> inputs_;
  std::map<std::string_view, std::string, std::less<>> given_;
  std::map<std::string_view, std::string_view, std::less<>> fallbacks_;
  std::vector<std::string> outputs_;
};

std::string shape_text(std::span<const std::uint64_t> shape);
// nullopt past 2^63.
std::optional<std::uint64_t> product(std::span<const std::uint64_t> shape);
// ", did you mean 'is_causal'?" or, when nothing is near, "; it has: a, b".
std::string suggest(std::string_view name, std::span<const std::string_view> known);

}  // namespace tessera
