// Public operations: one op on named tensors, from its name, descriptions and attributes to a Program of one
// graph that any Walker runs. Names are ONNX's where ONNX has the op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "graph/graph.h"

namespace tessera {

struct OpTensorInfo {
  std::string_view name;
  std::string_view types;  // "F32 F16 BF16": what an input may be; of an output: where its type comes from
  std::string_view shape;  // "(batch, heads, q_len, head_dim) or (batch, q_len, heads*head_dim)"
  bool optional = false;   // an optional output is made when it is asked for
  std::string_view text;
  bool may_be_empty = false;  // of 0 elements
};

struct OpAttributeInfo {
  enum class Kind : std::uint8_t { integer, number, choice };
  std::string_view name;
  Kind kind = Kind::integer;
  std::string_view fallback;  // "": none
  std::string_view allowed;   // "0|1", "none|top_left": the choices; of numbers a text like ">= 0"
  std::string_view text;
  double least = -1e300, most = 1e300;  // of integers and numbers
};

struct OpInfo {
  std::string_view name;
  std::string_view summary;    // one line
  std::string_view equations;  // lines
  std::span<const OpTensorInfo> inputs, outputs;
  std::span<const OpAttributeInfo> attributes;
};

std::span<const OpInfo> op_list();

// A tensor from outside. Types are named as in safetensors: F32, F16, BF16, U32, I32, I64, U8, BOOL, and for
// weights the block types of base/dtype.h.
inline constexpr std::size_t kMaxRank = 8;
struct OpTensor {
  std::string name, type;
  std::vector<std::uint64_t> shape;  // outermost first; at most kMaxRank dimensions
  std::span<const std::byte> data;   // row-major; must outlive what is built of it
};

struct OpRequest {
  std::string op;
  std::vector<OpTensor> inputs;
  std::vector<std::string> attributes;          // "name=value"
  std::vector<std::string> outputs;             // optional ones that are wanted too
  std::shared_ptr<const UserFunctions> user{};  // attention's, its buffers still without names; null: none
  bool shapes_only = false;                     // inputs may lack data: what is made of it is then not there
};

// One output: how the stored bytes of `value` become the tensor.
struct OpOutput {
  std::string name, type;
  std::vector<std::uint64_t> shape;
  std::uint64_t bytes = 0;
  ValueId value = kNoValue;
  std::function<void(std::span<const std::byte> stored, std::span<std::byte> out)>
      convert;  // empty: as stored
};

struct BuiltOp {
  // To be written before the graph runs.
  struct Write {
    ValueId value = kNoValue;
    std::uint64_t offset = 0;
    std::vector<std::byte> owned;
    std::span<const std::byte> borrowed;  // the caller's own bytes, when `owned` is empty
    std::span<const std::byte> bytes() const { return owned.empty() ? borrowed : owned; }
  };
  // A value that holds something before the graph runs.
  struct Content {
    ValueId value = kNoValue;
    std::vector<std::string> inputs;  // of the op, that it is made of; none: it is made of attributes alone
    bool known = false;               // all of them have data: writes, a weight or a constant have it
  };
  std::shared_ptr<const Program> program;  // one graph; of an input's data only weights are read through it
  std::vector<Write> writes;               // of values whose content is known
  std::vector<Content> contents;
  std::vector<OpOutput> outputs;
};

// invalid_argument names the op and the tensor, attribute or index that does not fit; unsupported what is
// well-formed but not offered. Refuses before anything of a tensor's size is allocated.
Result<BuiltOp> build_op(const OpRequest& request);

// Of a type named as above; 0 when there is no such type, or `elems` is not whole blocks.
std::uint64_t op_tensor_bytes(std::string_view type, std::uint64_t elems);

}  // namespace tessera
