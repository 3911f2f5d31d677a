// From a shape and a device's limits to a module, its specialization values, its parameters and a grid. Pure
// functions: no GPU, no state, no vendor ids. The caller binds buffers in the order given at each function.
//
// Rows are dynamic: `rows` is the most that a pass may have; with `dynamic_rows` the kernel reads the real
// number from the StepState at its `state` binding (without it the binding still exists and may be any
// buffer). An optional tensor that is absent is bound to any other buffer of the call. Bindings start at
// multiples of 16 bytes; what is not a multiple of 4 bytes (an f16 cache) is bound rounded up.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/attention.h"
#include "base/dtype.h"
#include "base/linear_attention.h"
#include "base/mlp.h"
#include "base/result.h"
#include "device/device.h"
#include "device/limits.h"
#include "device/matrices.h"
#include "device/rates.h"
#include "kernels/catalogue.h"

namespace tessera {

// Of a call's tensor, scratch or parameters (the markers below).
using OperandIndex = std::uint16_t;

struct Dispatch {
  KernelId kernel{};
  std::vector<std::uint32_t> spec;             // value of specialization constant i
  std::uint32_t subgroup_size = 0;             // required size, 0: any
  std::vector<std::uint32_t> push;             // the kernel's push struct as words
  std::array<std::uint32_t, 3> grid{1, 1, 1};  // workgroups; each dimension within the device's limit
  std::vector<std::uint32_t> params;           // content of its parameter buffer; empty: it has none
  // Binding i is operand operands[i] of the call, or one of the markers below. Empty: the call's, in order.
  std::vector<OperandIndex> operands;
  // Instead of the catalogue's module: one that was made with a user's functions, and the bindings (bits)
  // that are the user's buffers, which it reads.
  std::shared_ptr<const SpirvBytes> module;
  std::uint32_t user_bindings = 0;
  double flops = 0;  // useful arithmetic at full rows
  double bytes = 0;  // compulsory traffic at full rows
  // Of tiled attention: rows (of all heads that share a KV head) and keys of a tile of scores. 0: no tiles.
  std::uint32_t tile_rows = 0, tile_keys = 0;
};

// The pipeline that it runs.
PipelineDesc pipeline_desc(const Dispatch& dispatch);

// Markers in Dispatch::operands.
inline constexpr OperandIndex kScratchOperand = 0x8000;  // + i: scratch i of the call
inline constexpr OperandIndex kParamsOperand = 0xfffe;   // Dispatch::params
inline constexpr OperandIndex kNoOperand = 0xffff;       // a binding that is not used

struct Refusal {
  std::string tier;    // the form of the kernel
  std::string reason;  // why it cannot do this shape on this device, or what both were measured at
  bool operator==(const Refusal&) const = default;
};

// What a call of an op becomes.
struct CallChoice {
  std::vector<Dispatch> dispatches;    // in order, each reads what the ones before it wrote
  std::vector<std::uint64_t> scratch;  // bytes of each scratch
  // Forms that would have been preferred but cannot, and those that can but were measured slower.
  std::vector<Refusal> refused;
};

struct Target {  // what a choice may depend on
  Limits limits;
  Caps caps;
  Matrices matrices;
  MeasuredRates rates;  // by rate_names()
  std::string form;     // not empty: ops that have this form take it or say why not
};

// Whether a workgroup of `subgroup_size` invocations is one full subgroup, if need be by asking for that
// size.
inline bool one_subgroup_size(const Target& t) {
  return t.caps.subgroup_size_control || (t.limits.min_subgroup_size == t.limits.subgroup_size &&
                                          t.limits.max_subgroup_size == t.limits.subgroup_size);
}

// Bindings: tokens, state, table, out, positions. Table rows [first, first+count) of the vocabulary are
// bound; rows of other ids are left alone, so a table larger than a binding takes several dispatches.
struct EmbeddingShape {
  std::uint32_t rows = 1, dim = 0;
  DType type = DType::f32;
  std::uint32_t first = 0, count = 0;
  bool batch = false, positions = false;
  float scale = 1;
};
Result<Dispatch> choose_embedding(const EmbeddingShape& shape, const Target& target);

// Bindings: x, weight, bias, residual, y, sum, state.
struct NormShape {
  std::uint32_t rows = 1, dim = 0;
  bool dynamic_rows = false, layer_norm = false, bias = false, residual = false;
  float eps = 0;
};
Result<Dispatch> choose_norm(const NormShape& shape, const Target& target);

// Up to so many rows weights are streamed once for all of them, by kernels of which the scalar can normalise
// x.
inline constexpr std::uint32_t kMatmulFewRows = 16;

// y[:, first:first+n) = act(scale x w^T + bias) [* (scale x up^T + up_bias)] [+ residual], `batch` times.
// Operands: x, w (n rows of device layout), up, bias, up_bias, y, state, residual, and the norm's weight when
// there is one; Dispatch::operands has them by binding. w and up bind only their
// rows; bias and up_bias are whole and indexed from `first`, one of each for all products. residual lies like
// y and is of its type.
struct MatmulShape {
  std::uint32_t rows = 1, n = 0, k = 0;
  std::uint32_t first = 0;     // first output column of this dispatch
  std::uint32_t y_stride = 0;  // elements between rows of y
  bool dynamic_rows = false;
  DType type = DType::f32;
  std::uint32_t act = 0;  // graph::Activation's number
  bool gated = false, bias = false, residual = false;
  float scale = 1;
  DType x_type = DType::f32, y_type = DType::f32;  // f32 or f16
  std::uint32_t x_stride = 0;                      // elements between rows of x; 0: k
  // Products of the same shape, and what lies between them: elements of x and y, rows of w and up.
  std::uint32_t batch = 1, x_batch = 0, w_batch = 0, y_batch = 0;
  // mixed lets forms for it round operands (choose_matmul_call); the scalar ones have f32 either way.
  Precision precision = Precision::f32;
  // RMSNorm of the rows of x, which are f32; at most kMatmulFewRows of them.
  bool norm = false;
  float eps = 0;
};
// The scalar form, which takes everything.
Result<Dispatch> choose_matmul(const MatmulShape& shape, const Target& target);

using MatmulChoice = CallChoice;
// The first form in the order of preference that takes the shape; was it measured, the fastest of those that
// were. Operands of the call: choose_matmul's bindings.
Result<MatmulChoice> choose_matmul_call(const MatmulShape& shape, const Target& target);

// Bindings: qkv, table, state, q, k_cache, v_cache, block table. Caches are (batch, kv_heads, context, dim),
// or paged (blocks, kv_heads, block_size, dim), in kv_type (f32, f16, bf16, or q8_0 with rows of layout.h).
struct RopeAppendShape {
  // Of a sequence; context: keys that a cache holds of it, or rows of the table of rope.
  std::uint32_t rows = 1, heads = 1, kv_heads = 1, head_dim = 0, rope_dims = 0, context = 0;
  bool adjacent = false;
  DType kv_type = DType::f32;
  std::uint32_t batch = 1;
  std::uint32_t v_dim = 0;                   // rope_append; 0: head_dim
  std::uint32_t table_rows = 0;              // rope_append; 0: context
  std::uint32_t block_size = 0, blocks = 0;  // paged; context is a multiple of block_size
  bool ring = false;                         // key j is at j % context
  bool table_by_row = false;                 // rope: row r of x takes row r of the table
  bool all_rows = false;                     // rope: whatever the state says, which is not bound then
  // rope, kv_append: elements between sequences, heads and rows; all 0: (batch, rows, heads, head_dim).
  std::array<std::uint32_t, 3> x_strides{}, y_strides{};
};
Result<Dispatch> choose_rope_append(const RopeAppendShape& shape, const Target& target);

// rope_append of x w^T + bias, in one dispatch: `product` is q, k and v in rows, or columns from `first` on,
// whose number is a multiple of 4; graph.h has their order. Operands: those of choose_matmul with y = q and
// all nine, then table, k_cache, v_cache, block table.
struct QkvShape {
  MatmulShape product;  // no batch, no epilogue but the bias; y_stride is not used
  RopeAppendShape append;
};
Result<Dispatch> choose_qkv_append(const QkvShape& shape, const Target& target);

// Bindings: x, table, state, y (rope alone); x, state, cache, block table (kv_append alone).
Result<Dispatch> choose_rope(const RopeAppendShape& shape, const Target& target);       // uses heads
Result<Dispatch> choose_kv_append(const RopeAppendShape& shape, const Target& target);  // uses kv_heads

// Attention as base/attention.h defines it. Operands of the call: the bindings of
// shaders/interface/attention_params.h in order (the one of the parameters is not used), then the scores,
// what shares a binding with another operand, and the buffers of attrs.user.
struct AttentionShape {
  AttentionAttrs attrs;  // strides that are all zero are filled in from the layout
  AttentionOperands operands;
  DType q_type = DType::f32, kv_type = DType::f32, y_type = DType::f32;
  std::uint32_t blocks = 0;  // paged: blocks that the caches have
};
inline constexpr OperandIndex kAttentionScoresOperand = 16, kAttentionLengthsOperand = 17,
                              kAttentionPrefixesOperand = 18, kAttentionRelativeOperand = 19;
inline constexpr std::uint32_t kAttentionOperands = 20;  // before those of attrs.user

// Forms that a rate can be measured of: attention's, then matmul's; of each in the order of preference those
// for many rows, then those for few, which have "/few_rows" behind the form's name.
inline constexpr std::string_view kFewRows = "/few_rows";
std::span<const std::string_view> rate_names();
std::span<const std::string_view> attention_rate_names();
std::span<const std::string_view> matmul_rate_names();

// Scratch is linear in the query rows; with top_k alone it holds rows times keys.
using AttentionChoice = CallChoice;
struct AttentionTiles {
  double computed = 0, all = 0;
};
// Tiles of scores that a dispatch of choose_attention goes through, and those of all rows by all keys. From
// the shape alone: every sequence as long as it may be, all keys of a cache in use, one document. With lists
// no other mask counts; what they are, `lists`, gives the tiles of each, else their entries are taken to fill
// whole tiles.
AttentionTiles count_tiles(const AttentionShape& shape, const Dispatch& dispatch,
                           std::span<const std::uint32_t> lists = {});
// The first form in the order of preference that takes the shape. Was it measured, the fastest of those that
// were.
Result<AttentionChoice> choose_attention(const AttentionShape& shape, const Target& target);

// Linear attention as base/linear_attention.h defines it. Operands of the call: the bindings of
// shaders/interface/linear_attention.h in order.
struct LinearAttentionShape {
  LinearAttentionAttrs attrs = {};
  DType q_type = DType::f32, k_type = DType::f32, v_type = DType::f32, y_type = DType::f32;  // f32, f16, bf16
  // Operands that are there; output: q and y.
  bool output = true, past = false, past_normaliser = false, present = false, normaliser = false;
};
// Several dispatches where the sequence is long, which hand the state on in `present` or a scratch.
Result<CallChoice> choose_linear_attention(const LinearAttentionShape& shape, const Target& target);

// y = (act(x w^T + bias) [* (x up^T + up_bias)]) down^T + down_bias [+ residual]; w and up are (hidden, k),
// down is (n, hidden). Operands of the call: x, w, up, bias, up_bias, down, down_bias, y, state, residual,
// norm. Where bindings cannot hold all rows of w and up, or of down, they follow in windows of
// `hidden_window` rows (w of the first, up of the first or nothing, w of the second, ...) and then of
// `n_window` rows (down).
struct FeedForwardShape {
  std::uint32_t rows = 1, k = 0, hidden = 0, n = 0;
  bool dynamic_rows = false;
  DType type = DType::f32, down_type = DType::f32;
  std::uint32_t act = 0;  // graph::Activation's number
  bool gated = false, bias = false, down_bias = false, residual = false;
  DType x_type = DType::f32, y_type = DType::f32;  // f32 or f16
  std::uint32_t hidden_window = 0, n_window = 0;   // 0: all rows are one binding
  // As of MatmulShape.
  Precision precision = Precision::f32;
  bool norm = false;
  float eps = 0;
};
inline constexpr OperandIndex kFeedForwardNorm = 10;
inline constexpr OperandIndex kFeedForwardOperands = 11;  // before the windows

// Forms: feed_forward_fused, where the hidden activation is never written; feed_forward_products, two
// products of choose_matmul_call. Target::form may name one, or a form of these.
using FeedForwardChoice = CallChoice;
// The fused form where its sums fit on chip and it is faster than those products would be
// (docs/kernels/feed_forward.md).
Result<FeedForwardChoice> choose_feed_forward(const FeedForwardShape& shape, const Target& target);

// h = act(h w^T + bias) layer after layer, from x (rows, k) to y (rows, n of the last). Operands of the call:
// x, the weights and biases of all layers as one binding of `weight_bytes` (0: there is none), y, state, then
// w and bias of each layer alone, then the windows of layers that have them, in order.
struct MlpLayer {
  std::uint32_t n = 0;  // rows of w; its k is the n of the layer before
  std::uint32_t act = 0;
  bool bias = false;
  // Bytes from the start of the one binding: multiples of 16 and of 4.
  std::uint64_t weights_at = 0, bias_at = 0;
  std::uint32_t window = 0;  // rows of w that a binding holds; 0: all
};
struct MlpShape {
  std::uint32_t rows = 1, k = 0;
  bool dynamic_rows = false;
  DType type = DType::f32;  // of all weights
  DType x_type = DType::f32, y_type = DType::f32;
  std::uint64_t weight_bytes = 0;
  std::vector<MlpLayer> layers = {};
};

inline constexpr OperandIndex kMlpOperands = 4;  // before those of the layers

// Forms: mlp_fused, where activations stay in shared memory; mlp_products, a product a layer. Target::form
// may name one, or a form of these.
using MlpChoice = CallChoice;
Result<MlpChoice> choose_mlp(const MlpShape& shape, const Target& target);

// Bindings: a, b, y, state. add: a+b; activation: act(a); glu: act(a)*b.
enum class Elementwise : std::uint32_t { add = 0, activation = 1, glu = 2 };
struct ElementwiseShape {
  std::uint32_t rows = 1, dim = 0;
  bool dynamic_rows = false;
  Elementwise kind = Elementwise::add;
  std::uint32_t act = 0;
};
Result<Dispatch> choose_elementwise(const ElementwiseShape& shape, const Target& target);

// Bindings: x, y. y like x (outer, n, inner): softmax along n. Fewer than 2^32 elements.
struct SoftmaxShape {
  std::uint32_t outer = 1, n = 0, inner = 1;
};
Result<Dispatch> choose_softmax(const SoftmaxShape& shape, const Target& target);

// Bindings: x, state, residual, y.
Result<Dispatch> choose_last_row(std::uint32_t dim, bool residual, const Target& target);
// Bindings: state.
Result<Dispatch> choose_advance(std::uint32_t chunk, const Target& target);
// Bindings: logits, tokens, state, sampler, scratch. scratch holds vocab words. src/graph/state.h defines
// what it does; past `context` tokens no token is written, only the state. At most 262,144 ids.
Result<Dispatch> choose_sample(std::uint32_t vocab, std::uint32_t context, const Target& target);

// Bindings: a word. `loops` rounds of multiply-adds from registers: measures the device, computes nothing.
Result<Dispatch> choose_probe(std::uint32_t loops, const Target& target);

}  // namespace tessera
