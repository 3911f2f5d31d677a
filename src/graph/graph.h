// The data tower's language: values, ops and graphs. Nothing here knows a GPU, and nothing assumes a
// decoder-only model: a Program is a set of graphs over shared values.
//
// Conventions. Shapes are outermost first. "rows" is the leading dimension of activations: positions of one
// pass, at most the graph's `max_rows`. How many rows a pass really has is in StepState.rows, read by ops
// when the pass runs, so that one recorded graph serves every pass. Value::dynamic_rows says which values
// that concerns. Graphs without such values compute all rows: "decode" is run with StepState.rows == 1,
// "head" after `advance`, when it is 0.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/attention.h"
#include "base/dtype.h"
#include "base/linear_attention.h"
#include "base/result.h"

namespace tessera {

using ValueId = std::uint32_t;
inline constexpr ValueId kNoValue = 0xffffffffu;

enum class Storage : std::uint8_t {
  weight,      // read-only, from the model file; shape (n, k), (k), or (batch, n, k)
  constant,    // read-only, computed by models/ (Value::data), f32
  input,       // small, written by the host between passes, read and written by ops (tokens, state, sampler)
  cache,       // persistent, written in place by ops (KV cache)
  activation,  // lives within one pass; may share memory with others
  output,      // persistent until the next pass, read by the host (logits)
};

// The order that rows of a weight take in a stack: heads of head_dim rows, and of each the first rope_dims,
// whose pairs are rows i and i + rope_dims/2, in fours that hold two pairs:
//   0, 1, half, half+1, 2, 3, half+2, half+3, ...          half = rope_dims/2
// rope_dims 0: as they are. Both are multiples of 4.
struct RowOrder {
  std::uint32_t head_dim = 0, rope_dims = 0;
  std::uint64_t source(std::uint64_t row) const;  // the row that comes at place `row`
  bool operator==(const RowOrder&) const = default;
  bool operator<(const RowOrder& o) const {
    return head_dim != o.head_dim ? head_dim < o.head_dim : rope_dims < o.rope_dims;
  }
};

// The most rows that a product normalises as it loads them: a tile of many would repeat the norm for each of
// its columns of tiles.
inline constexpr std::uint32_t kNormOnLoadRows = 16;

struct Value {
  std::string name;  // "blk.3.attn_q.weight", "blk.3.attn_out"
  Storage storage = Storage::activation;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
  // Activations and outputs: only the first StepState.rows rows of the leading dimension are computed, and
  // hold anything; false: all of them always. An op has dynamic rows when its output (kv_append: its
  // input) has.
  bool dynamic_rows = false;
  std::vector<ValueId> parts;    // weight made by fusion: these weights' rows, stacked; same dtype, same k
  std::vector<RowOrder> orders;  // of the parts' rows; empty: as they are
  std::shared_ptr<const std::vector<float>> data;  // constant
  std::uint64_t elems() const;
  std::uint64_t last_dim() const { return shape.back(); }
};

enum class OpKind : std::uint8_t {
  embedding,  // in tokens, state, table(vocab,d), positions(context,d)|-  out x(rows,d):
              // scale table[tokens[position+i]] + positions[position+i]; with `batch`, tokens(rows) of as
              // many sequences at one position: scale table[tokens[i]] + positions[position]
  norm,    // in x, weight, bias|-, residual|-          out y(rows,d), sum|-: sum = x+residual, y = norm(sum);
           // sum is there when residual is
  matmul,  // in x(rows,k), w(n,k), bias(n)|-, up(n,k)|-, up_bias|-, residual(rows,n)|-, norm(k)|-
           // out y(rows,n) = act(scale x' w^T + b) [* (scale x' up^T + b2)] [+ residual]; x, y and residual,
           // which is like y, are f32 or f16; x' = x, or RMSNorm of x by `norm` and `eps`: f32, and no more
           // than kNormOnLoadRows rows. With w (and up) (batch,n,k) a product for each matrix: x is
           // (batch,rows,k) and y and residual (batch,rows,n), not dynamic, or with rows_first x is
           // (rows,batch,k) and y (rows,batch,n); the biases are of all products, a norm there is not
  feed_forward,  // in x(rows,k), w(f,k), bias(f)|-, up(f,k)|-, up_bias(f)|-, down(n,f), down_bias(n)|-,
                 // residual(rows,n)|-, norm(k)|-  out y(rows,n) = h down^T + down_bias [+ residual],
                 // h = act(x' w^T + bias) [* (x' up^T + up_bias)]; x' and types as of matmul
  mlp,           // in x(rows,k), then w(n,k) and bias(n)|- of each layer, whose k is the n before
                 // out y(rows,n): h = act(h w^T + bias), layer by layer; x and y are f32 or f16
  // The next three take `batch` sequences at the same position: row r is row i = r % q_len of sequence r /
  // q_len, and those with i >= StepState.rows are left alone. docs/kernels/kv_cache.md has the caches' forms.
  rope,         // in x(rows,heads*head_dim), table(context,rope_dims/2,2), state|-  out like x; row i by the
                // table's row position+i, or with table_by_row row r by row r. No state: all rows.
                // heads_first: x is (batch,heads,q_len,head_dim). q_strides, y_strides: of x, of the output
  kv_append,    // in x(rows,kv_heads*head_dim), state, cache, block table|-  out cache (in place) at
                // position+i; x may be heads_first, and have q_strides
  rope_append,  // in qkv(rows,(heads+kv_heads)*head_dim+kv_heads*v_dim), table, state, k_cache, v_cache,
                // block table|-  out q, k_cache, v_cache
  qkv_append,   // in x(rows,k), w((heads+kv_heads)*head_dim+kv_heads*v_dim, k), bias|-, norm(k)|-, table,
                // state, k_cache, v_cache, block table|-  out q, k_cache, v_cache: rope_append of x' w^T +
                // bias, where x' is as in matmul. Of a q or k head, rows of w (and of bias) come in pairs
                // that turn together: (0,1), (2,3), ... when rope_adjacent, else as RowOrder has them.
                // head_dim, v_dim and rope_dims are multiples of 4; the caches are not q8_0
  attention,    // in q, k, v, state|-, mask|-, bias|-, slopes|-, sinks|-, lengths|-, documents|-, table|-,
                // lists|-, prefixes|-, relative|-, vector|-, then the buffers of attrs.attention.user
                // out y, lse|-, scores|-: base/attention.h. q and y are (batch*q_len, heads*dim), or
                // (batch,heads,q_len,dim) when heads_first; k and v likewise, or caches
  linear_attention,  // in q(rows,heads*k_dim)|-, k(rows,kv_heads*k_dim), v(rows,kv_heads*v_dim),
                     // past(batch,kv_heads,k_dim,v_dim)|-, decay|-, beta|-, past_normaliser|-
                     // out y(rows,heads*v_dim)|-, present|- like past, normaliser(batch,kv_heads,k_dim)|-:
                     // base/linear_attention.h; rows = batch*len, and not dynamic. y is there when q is
  add,               // in a, b                                   out a+b
  activation,        // in x                                      out act(x)
  glu,               // in gate, up                               out act(gate)*up
  softmax,           // in x(outer,n,inner)                       out y like x: softmax along n
  last_row,  // in x(rows,d), state, residual|-           out (1,d): row StepState.rows-1 of x [+ residual]
             // (not dynamic)
  sample,    // in logits(1,vocab), tokens, state, sampler  out tokens, state (in place): see state.h
  advance,   // in state                                  out state: position += rows, and the next
             // `chunk` rows of a prompt, as state.h says
};
std::string_view name(OpKind kind);

enum class Activation : std::uint8_t { none, silu, gelu_tanh, gelu_erf, relu, relu2, sigmoid };
std::string_view name(Activation act);
std::string_view name(UpdateRule rule);
std::string_view name(FeatureMap map);

// One struct for all kinds: a field that a kind does not use keeps its default.
struct OpAttrs {
  Activation act = Activation::none;  // matmul, feed_forward, activation, glu
  std::vector<Activation> acts = {};  // mlp: of each layer
  float scale = 1;                    // matmul
  bool rows_first = false;            // matmul of several matrices
  // matmul, feed_forward: mixed allows f16 operands, and with weights in blocks x in blocks of 32 8-bit
  // numbers; sums are f32 either way.
  Precision precision = Precision::f32;
  bool layer_norm = false;     // norm: LayerNorm (mean removed) instead of RMSNorm
  float eps = 0;               // norm; matmul, feed_forward and qkv_append with a norm
  float embedding_scale = 1;   // embedding
  bool batch = false;          // embedding: rows are sequences
  std::uint32_t chunk = 0;     // advance: the most rows of a pass
  std::uint32_t heads = 0;     // rope, rope_append, qkv_append, attention
  std::uint32_t kv_heads = 0;  // kv_append, rope_append, qkv_append, attention
  std::uint32_t head_dim = 0;
  std::uint32_t rope_dims = 0;  // leading dims of each head that turn; even
  bool rope_adjacent = false;   // pairs (2i, 2i+1); else (i, i + rope_dims/2)
  bool table_by_row = false;    // rope: the table has a row for each row of x
  // attention; of rope and the appends batch, q_len (may stay 1 when batch is 1), block_size,
  // ring, v_dim (0: head_dim), and the layouts that OpKind names
  AttentionAttrs attention = {};
  LinearAttentionAttrs linear = {};
};

// Indices of an attention's inputs.
enum class AttentionIn : std::uint8_t {
  q,
  k,
  v,
  state,
  mask,
  bias,
  slopes,
  sinks,
  lengths,
  documents,
  table,
  lists,
  prefixes,
  relative,
  vector,
  count
};

// Indices of a linear_attention's inputs.
enum class LinearIn : std::uint8_t { q, k, v, past, decay, beta, past_normaliser, count };

struct Op {
  OpKind kind{};
  std::string name;  // for messages: "blk.3.attn"
  OpAttrs attrs;
  std::vector<ValueId> in;  // kNoValue where an optional one is absent
  std::vector<ValueId> out;
};

struct Graph {
  std::string name;  // "prefill", "decode", "encode"
  std::uint32_t max_rows = 1;
  std::vector<Op> ops;  // in an order that respects their values
};

// File-format bytes of whole rows of a weight (base/dtype.h); stacked weights are resolved by the caller. A
// vector is rows of one element.
class WeightReader {
 public:
  virtual ~WeightReader() = default;
  virtual Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const = 0;
};

struct Program {
  std::vector<Value> values;
  std::vector<Graph> graphs;
  ValueId state = kNoValue;  // the StepState value that gives every op its rows and position
  std::shared_ptr<const WeightReader> weights;

  const Graph* find(std::string_view graph) const;
  // Whether the op computes StepState.rows rows (true) or all rows of its values (false). Ops on values of
  // both kinds do not exist, except last_row. Embedding, rope, the appends and attention read
  // StepState.position either way; sample and advance have no rows.
  bool has_dynamic_rows(const Op& op) const;
  bool uses(ValueId value) const;  // an op of some graph does
  // Shapes, dtypes, storage and order of every op fit; internal or bad_model names the op and value.
  Result<void> check() const;
};

// File-format bytes of one row of a weight of this shape, and how many rows it has: those of all its
// matrices.
std::uint64_t row_bytes(const Value& weight);
std::uint64_t row_count(const Value& weight);

// How a matmul's operands lie, in elements of x and y and rows of w: product i of `batch` has its x at
// i x_batch, its y at i y_batch and its matrix at i w_batch.
struct MatmulLayout {
  std::uint64_t batch = 1, rows = 0, n = 0, k = 0;
  std::uint64_t x_row = 0, x_batch = 0, w_batch = 0, y_row = 0, y_batch = 0;
};
MatmulLayout matmul_layout(const Program& program, const Op& op);

// Bytes of a value between passes, as Walker::read and write see them: its elements without gaps; of a cache,
// rows of base/cache_row.h.
std::uint64_t value_bytes(const Value& value);

// Rows [first, first+n) of `weight` in file bytes, stacked parts resolved; out.size() is n rows' bytes.
// internal when the rows are not the weight's.
Result<void> read_rows(const Program& program, ValueId weight, std::uint64_t first, std::span<std::byte> out);

// "(64,128)"; of a value with "rows" for a dynamic leading dimension.
std::string print_shape(const std::vector<std::uint64_t>& shape);
std::string print_shape(const Value& value);

// One line an op: "%7 blk.0.attn_q (rows,64) = matmul(%3 blk.0.norm (rows,64), ...)"; attributes that a kind
// uses follow, dtypes other than f32 and parts of stacked weights are shown. Stable: tests compare it.
std::string print(const Program& program, const Graph& graph);

// Of every matmul, feed_forward and attention; mlp, whose activations stay on chip, has f32 alone. Before
// fuse().
void set_precision(Program& program, Precision precision);

}  // namespace tessera
