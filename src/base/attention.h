// What one attention computes: the descriptor that graphs, kernels, the reference and the public op share.
//
//   s[i,j]  = scale * (q_i . k_j)             or, with Score::cosine, scale * q_i/|q_i| . k_j/|k_j|
//                                             or, with Score::additive, scale * sum_d v_hd tanh(q_id + k_jd)
//   s       = softcap * tanh(s / softcap)     when softcap > 0
//   s      += bias[i,j] + relative bias - slope_h * |i + n_k - n_q - j|
//   s       = score(s, b, h, i, j)            a user's function
//   s      += mask[i,j]                       the additive mask
//   s       = masked where the user's mask(b, h, i, j) is false or the boolean mask, causality, the window,
//             lengths or documents say so
//   y_i     = sum_j exp(s[i,j]) v_j / (sum_j exp(s[i,j]) + exp(sink_h))
//   lse_i   = log of the denominator (natural)
// A row that sees no key gives y = 0, and lse = -infinity, or the sink when there is one. An additive mask or
// bias below -1e38 masks. A zero vector has cosine 0 with everything.
//
// n_q, n_k: query rows and keys of this sequence. Without a state: n_q = q_len, n_k = lengths[b] (at most
// kv_len), or kv_len. With a state (graph/state.h): n_q = min(state.rows, q_len), n_k = state.position + n_q,
// at most kv_len unless ring. With documents, (i, j, n_q, n_k) of every formula but mask and bias count
// within the row's document.
//
// Causal rows see the first prefix_length keys too, wherever their centre is. Of all keys that a row sees,
// with top_k only those with the top_k highest s remain; of equal ones those with the lower j.
//
// The relative bias is relative[e, h]: by distance, e = clamp(j - (i + n_k - n_q), -r, r) + r of 2 r + 1, or
// in a window of w columns and n = q_len / w rows, e = (i / w - j / w + n - 1) (2 w - 1) + i % w - j % w + w
// - 1.
//
// With block lists row i sees a key j only if the list of its block, i / q_block, names block j / k_block.
// There is one list for each block of rows, or one for each sequence or head and block. A graph's adjacency
// is such lists with blocks of one row and one key.
//
// The centre of row i is c = i (none, top_left), or i + n_k - n_q (bottom_right). Causal rows see j <= c. A
// window leaves c - window_left <= j <= c + window_right. Head h reads KV head h / (heads / kv_heads).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "base/dtype.h"
#include "base/user_functions.h"

namespace tessera {

enum class AttentionScore : std::uint8_t { dot, cosine, additive };
enum class RelativeBias : std::uint8_t { none, distance, window };
enum class Causal : std::uint8_t { none, top_left, bottom_right };
// What the optional output `scores` (batch, score_heads, score_rows, kv_len) holds. raw: after the scale;
// capped: after the soft-cap; masked: what goes into softmax, -infinity where masked; weights: after softmax,
// sinks in the denominator; average: the mean of the weights over those heads, (batch, 1, score_rows,
// kv_len). raw and capped are there for every key below kv_len, whatever masks say (0 past n_k).
enum class AttentionScores : std::uint8_t { none, raw, capped, masked, weights, average };
constexpr bool are_weights(AttentionScores s) {
  return s == AttentionScores::weights || s == AttentionScores::average;
}
// f32: operands as they are stored, f32 arithmetic. mixed: operands and probabilities may be rounded to 16
// bits before a product; sums are f32 in both.
enum class Precision : std::uint8_t { f32, mixed };

inline constexpr std::uint32_t kNoWindow = 0xffffffffu;
inline constexpr std::uint32_t kMaxHeadDim = 512;

// In elements: batch, head, row, element. 0 repeats (a broadcast dimension).
using Strides = std::array<std::uint64_t, 4>;

struct AttentionAttrs {
  std::uint32_t batch = 1;
  std::uint32_t q_len = 1;   // most query rows of a sequence
  std::uint32_t kv_len = 0;  // keys of a sequence; of a cache: its capacity
  std::uint32_t heads = 1, kv_heads = 1;
  std::uint32_t head_dim = 0;  // of q and k, 1 to 512
  std::uint32_t v_dim = 0;     // of v and y, 1 to 512
  float scale = 1;
  float softcap = 0;  // 0: none
  AttentionScore score = AttentionScore::dot;
  Causal causal = Causal::none;
  std::uint32_t window_left = kNoWindow;   // keys before the centre
  std::uint32_t window_right = kNoWindow;  // keys after it
  std::uint32_t prefix_length = 0;
  std::uint32_t top_k = 0;  // 0: all
  RelativeBias relative = RelativeBias::none;
  std::uint32_t relative_size = 0;  // r or w
  Precision precision = Precision::f32;
  // Layout of q and y, (batch, heads, len, dim) or else (batch, len, heads, dim); of k and v that are no
  // caches.
  bool heads_first = false;
  // k and v are caches, (batch, kv_heads, kv_len, dim); or paged, (blocks, kv_heads, block_size, dim) with
  // key j of sequence b in block table[b, j / block_size], at j % block_size: kv_len = blocks a table row *
  // block_size, and the batch stride steps from block to block.
  bool cache = false;
  std::uint32_t block_size = 0;  // 0: not paged
  // The cache keeps the last kv_len keys: key j is at j % kv_len. Needs a state, a causal window that leaves
  // window_left + q_len <= kv_len.
  bool ring = false;
  // Block lists: rows and keys of a block, 0 without lists; whether each sequence and each head has its own.
  std::uint32_t q_block = 0, k_block = 0;
  bool lists_by_batch = false, lists_by_head = false;
  AttentionScores scores = AttentionScores::none;
  std::uint32_t score_head = 0, score_heads = 0;  // heads [score_head, +score_heads) of the scores; 0: all
  std::uint32_t score_row = 0, score_rows = 0;    // rows likewise
  // Instead of the layouts above; all zero: none given.
  Strides q_strides{}, k_strides{}, v_strides{}, y_strides{};
  // Between the bias and the additive mask; null: none.
  std::shared_ptr<const UserFunctions> user{};
};

// Optional operands that are there.
struct AttentionOperands {
  bool state = false, slopes = false, sinks = false, lengths = false, table = false, lse = false;
  bool prefixes = false;        // u32 (batch), instead of prefix_length
  std::uint32_t documents = 0;  // how many; 0: none
  // Words of the lists, 0: none. First the numbers of first entries, (batch|1, heads|1, blocks of rows + 1),
  // each list's end being the next one's start; then the entries, key blocks, which ascend within a list.
  std::uint64_t list_words = 0;
  // Broadcast to (batch, heads, q_len, kv_len) by strides of 0.
  std::optional<DType> mask;  // u8: boolean, nonzero keeps; f32, f16, bf16: added
  std::optional<DType> bias;  // f32, f16, bf16
  Strides mask_strides{}, bias_strides{};
};

// Heads of the output `scores`.
std::uint32_t score_slots(const AttentionAttrs& attrs);

// Blocks of rows and of keys that lists are made of, and words that the first entries take.
std::uint64_t list_rows(const AttentionAttrs& attrs);
std::uint64_t list_keys(const AttentionAttrs& attrs);
std::uint64_t list_firsts(const AttentionAttrs& attrs);

// Entries of the relative bias, 0 without one.
std::uint64_t relative_entries(const AttentionAttrs& attrs);

// Fills in the strides that are all zero, from the layout. Those of a Q8_0 cache count elements like the
// others.
void resolve_strides(AttentionAttrs& attrs);

// Why rotation and append to a cache cannot be the end of the product that makes q, k and v, whose lanes hold
// four columns each; empty: they can.
std::string_view append_epilogue_fault(std::uint64_t head_dim, std::uint64_t v_dim, std::uint64_t rope_dims,
                                       DType cache, Precision precision);

// What causality and the window leave of rows [first, first + rows) of a head, in a sequence as long as it
// may be: n_q = q_len, n_k = kv_len, one document.
struct VisibleKeys {
  double pairs = 0;        // of a row and a key that it sees
  std::uint64_t keys = 0;  // from the first to the last one that a row sees
};
VisibleKeys visible_keys(const AttentionAttrs& attrs, std::uint32_t first, std::uint32_t rows);

}  // namespace tessera
