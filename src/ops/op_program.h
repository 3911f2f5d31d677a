// A program of one graph under construction: values made of an op's tensors, and the tensors made of values.
#pragma once

#include "graph/state.h"
#include "ops/arguments.h"

namespace tessera {

class OpProgram {
 public:
  OpProgram(const Arguments& args, std::string name);

  ValueId add(std::string name, Storage storage, DType dtype, std::vector<std::uint64_t> shape);
  // A value that the host writes: an input's elements in the order they have, as `dtype`.
  ValueId given(std::string_view input, DType dtype, std::vector<std::uint64_t> shape,
                Storage storage = Storage::output);
  // The same with bytes made of `inputs`, all of which have data unless there are none.
  using Inputs = std::vector<std::string>;
  ValueId given_bytes(std::string name, DType dtype, std::vector<std::uint64_t> shape,
                      std::vector<std::byte> bytes, Inputs inputs, Storage storage = Storage::output);
  // A KV cache of `type` that holds an input's elements: rows of base/cache_row.h.
  ValueId cache(std::string_view input, DType type, std::vector<std::uint64_t> shape);
  ValueId words(std::string name, std::vector<std::uint64_t> shape, std::vector<std::uint32_t> words,
                Inputs inputs);
  // `data` may be empty when only shapes are known: it is zeros where there are no inputs.
  ValueId constant(std::string name, std::vector<std::uint64_t> shape, std::vector<float> data,
                   Inputs inputs);
  // An input's matrix in its own type, or encoded as another. `borrowed` are the caller's bytes.
  ValueId weight(std::string name, DType dtype, std::vector<std::uint64_t> shape,
                 std::span<const std::byte> borrowed, std::vector<std::byte> owned = {});
  // `value` holds something made of `inputs` before the graph runs.
  void content(ValueId value, Inputs inputs);
  // A part of it.
  void write(ValueId value, std::uint64_t offset, std::vector<std::byte> bytes);

  // Elements of a real input as floats; none when only its shape is known.
  std::vector<float> floats(std::string_view input) const;

  void op(OpKind kind, const OpAttrs& attrs, std::vector<ValueId> in, std::vector<ValueId> out);
  // `value` of f32 (or of `type` already) given out as a tensor of `type`, in another shape if need be.
  void output(std::string name, std::string_view type, std::vector<std::uint64_t> shape, ValueId value);
  ValueId state() const { return program_->state; }
  // Rows and position are what ops with a state take. Checks the program.
  Result<BuiltOp> finish(const StepState& state, std::uint64_t max_rows = 1);

 private:
  class Weights;
  const Arguments& args_;
  std::shared_ptr<Program> program_;
  std::shared_ptr<Weights> weights_;
  BuiltOp built_;
  std::optional<Error> error_;
};

// `in` as F32, F16 or BF16.
std::vector<std::byte> encode(DType type, std::span<const float> in);
// `in` as rows of a KV cache; `dim` is a multiple of the type's block.
std::vector<std::byte> encode_cache(DType type, std::uint64_t dim, std::span<const float> in);

}  // namespace tessera
