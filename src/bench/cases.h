// What `tessera bench ops` measures: one documented list of ops and shapes (docs/benchmarks.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/state.h"

namespace tessera::bench {

// What attention does by itself and a user's GLSL does as well (docs/user_functions.md).
enum class UserPair : std::uint8_t {
  none,
  identity,
  alibi,
  softcap,
  relative_bias,
  causal,
  window,
  documents
};
inline constexpr float kPairSoftcap = 30;
inline constexpr std::uint32_t kPairDistance = 128;  // of relative_bias
inline constexpr std::uint32_t kPairDocument = 256;  // keys of each document

// One op of a graph. Fields that a kind does not use keep their defaults.
struct OpCase {
  std::string name = {};  // "matmul/q8_0/4096x4096/n8": kind, type, shape; unique
  OpKind kind = {};
  std::uint32_t rows = 1;  // of x, q, or new tokens
  std::uint32_t dim = 0;   // columns of x; of matmul k; of embedding and norm the model's
  // matmul: rows of the weight; feed_forward: hidden units; embedding, sample: the vocabulary.
  std::uint32_t n = 0;
  DType type = DType::f32;  // of weights, of the table
  std::uint32_t heads = 1, kv_heads = 1, head_dim = 0;
  std::uint32_t keys = 0;  // attention: the rows are the last ones of them; rope: the first row's position
  bool causal = false;
  std::uint32_t window_left = kNoWindow;  // with causal
  // Block lists of random blocks of block x block, this share of all of them; without causal. 0: no lists.
  std::uint32_t block = 0, percent = 0;
  DType kv_type = DType::f16;
  DType io = DType::f32;                      // matmul: of x and y
  Precision precision = Precision::f32;       // of attention, matmul and feed_forward
  bool residual = false, layer_norm = false;  // norm
  Activation act = Activation::none;          // glu, feed_forward
  bool gated = false;                         // feed_forward
  std::uint32_t layers = 0;                   // mlp: of dim x dim
  UpdateRule rule = {};                       // linear_attention; of 1 row with a state before and after
  SamplerParams sampler = {};
  UserPair pair = UserPair::none;                  // of attention
  std::shared_ptr<const UserFunctions> user = {};  // in the place of what the device has for `pair`

  // The arithmetic that counts: 2 a multiply-add. Of attention 2 heads (2 head_dim) for each pair of a row
  // and a key that it sees; 0 where memory is all that matters.
  double flops() const;
  // Of attention: what causality and the window leave.
  VisibleKeys visible() const;
  // The lists of `count` blocks of rows from `first` on, as AttentionOperands::list_words counts them.
  std::vector<std::uint32_t> lists(std::uint32_t first, std::uint32_t count) const;
  // Traffic that no implementation can avoid: each operand once.
  double bytes() const;
};

std::vector<OpCase> op_cases();

}  // namespace tessera::bench
