#include "ops/builders.h"

namespace tessera {
namespace {

using Kind = OpAttributeInfo::Kind;
constexpr std::string_view kMasks = "BOOL U8 F32 F16 BF16";

constexpr OpTensorInfo kIn[] = {
    {"Q", kReals, "(batch, q_heads, q_len, dim) or (batch, q_len, q_heads*dim)", false,
     "4-D with layout=rows_first: (batch, q_len, q_heads, dim)"},
    {"K", kReals, "(batch, kv_heads, keys, dim) or (batch, keys, kv_heads*dim)", false,
     "0 keys are allowed; with block_table (blocks, kv_heads, block_size, dim)", true},
    {"V", kReals, "like K, with v_dim for dim", false, {}, true},
    {"attn_mask", kMasks, "broadcasts to (batch, q_heads, q_len, kv_len)", true,
     "BOOL and U8: nonzero keeps; others are added. Fewer columns than kv_len, one of several too: "
     "the rest is masked"},
    {"past_key", kReals, "(batch, kv_heads, past, dim)", true, "keys before K: kv_len = past + keys", true},
    {"past_value", kReals, "(batch, kv_heads, past, v_dim)", true, {}, true},
    {"nonpad_kv_seqlen", kIntegers, "(batch)", true, "keys that count in each sequence, at most kv_len"},
    {"bias", kReals, "broadcasts to (batch, q_heads, q_len, kv_len)", true, "added, beside attn_mask"},
    {"alibi_slopes", kReals, "(q_heads)", true, {}},
    {"sinks", kReals, "(q_heads)", true, "logits that only the denominator has"},
    {"documents", kIntegers, "(documents+1) or (2, documents+1)", true,
     "packed sequences: first row of each in Q and then in K, ending with the lengths. batch is 1"},
    {"block_table", kIntegers, "(batch, blocks of a sequence)", true,
     "paged K and V: key j lies in block block_table[b, j/block_size]"},
    {"block_rows", kIntegers,
     "(row_blocks+1), (q_heads, row_blocks+1) or (batch, q_heads or 1, row_blocks+1)", true,
     "block-sparse lists, as of a CSR matrix: rows of block r see the key blocks "
     "block_columns[block_rows[r]] to "
     "block_columns[block_rows[r+1]-1]. With blocks of 1, a graph's adjacency"},
    {"block_columns", kIntegers, "(entries)", true, "key blocks, ascending in each list", true},
    {"prefix_lengths", kIntegers, "(batch)", true, "prefix_length of each sequence"},
    {"score_matrix", kReals, "(q_heads, dim, q_dim)", true,
     "Luong's general score: each head's rows of Q, which has q_dim instead of dim, are multiplied by it "
     "first"},
    {"score_vector", kReals, "(q_heads, dim)", true, "of score=additive"},
    {"relative_bias", kReals, "(entries, q_heads)", true,
     "added by the place of a key and a row, as relative says"},
    {"user.*", "F32 U32 I32", "any", true,
     "what score_glsl and mask_glsl read as NAME[i]; docs/user_functions.md"}};

constexpr OpTensorInfo kOut[] = {
    {"Y", "like Q", "like Q, with v_dim for dim", false, {}},
    {"present_key", "like K", "(batch, kv_heads, past+keys, dim)", true, "made whenever past_key is there"},
    {"present_value", "like V", "(batch, kv_heads, past+keys, v_dim)", true, {}},
    {"qk_matmul_output", "like Q", "(batch, score_heads, score_rows, kv_len)", true,
     "what qk_matmul_output_mode says; with average_heads 1 for score_heads"},
    {"lse", "F32", "(batch, q_heads, q_len)", true, "log of the denominator"}};

constexpr OpAttributeInfo kAttrs[] = {
    {"is_causal", Kind::integer, "0", "0 or 1",
     "row i sees keys j <= i + past; with nonpad_kv_seqlen j <= i + nonpad_kv_seqlen[b] - q_len", 0, 1},
    {"q_num_heads", Kind::integer, "", ">= 1", "q_heads of a 3-D Q", 1, kMostCount},
    {"kv_num_heads", Kind::integer, "", ">= 1", "kv_heads of a 3-D K and V", 1, kMostCount},
    {"scale", Kind::number, "", "finite", "1/sqrt(dim) without it; 1 with score=cosine and score=additive"},
    {"softcap", Kind::number, "0", ">= 0", "0: none", 0},
    {"qk_matmul_output_mode", Kind::integer, "0", "0 to 3",
     "0: scores after the scale, 1: after the soft-cap (of both 0 for keys past nonpad_kv_seqlen), 2: "
     "masked, "
     "3: weights",
     0, 3},
    {"softmax_precision", Kind::integer, "1", "1, 10 or 16",
     "ONNX's number of a type; softmax always runs in F32", 1, 16},
    {"causal", Kind::choice, "none", "none|top_left|bottom_right",
     "row i sees keys j <= i, or j <= i + n_k - q_len; instead of is_causal"},
    {"window_left", Kind::integer, "-1", ">= -1",
     "keys before the last causal one (of none: before i); -1: all", -1, kMostCount - 1},
    {"window_right", Kind::integer, "-1", ">= -1", "keys after it, with causal those of a prefix; -1: all",
     -1, kMostCount - 1},
    {"score", Kind::choice, "dot", "dot|cosine|additive",
     "q.k; of the vectors divided by their lengths; sum of score_vector * tanh(q + k), where Q and K are "
     "the products that Bahdanau's score starts from"},
    {"precision", Kind::choice, "f32", "f32|mixed",
     "mixed: operands and weights may be rounded to 16 bits, sums stay F32"},
    {"kv_type", Kind::choice, "stored", "stored|F32|F16|BF16|Q8_0",
     "K and V, with their past, are held in this type on the device; Q8_0 in blocks of 32 elements"},
    {"layout", Kind::choice, "heads_first", "heads_first|rows_first", "of 4-D Q, K, V and Y"},
    {"ring", Kind::integer, "0", "0 or 1",
     "K and V are caches that keep the last keys: key j at j % kv_len. Needs position and a causal window", 0,
     1},
    {"position", Kind::integer, "", ">= 0",
     "K and V are caches with keys up to position + q_len - 1; n_k = position + q_len. Not with block_table, "
     "whose sequences end with nonpad_kv_seqlen",
     0, kMostCount},
    {"prefix_length", Kind::integer, "0", ">= 0",
     "first keys that every row sees beside the causal ones, as far as its windows reach", 0, kMostCount},
    {"relative", Kind::choice, "distance", "distance|t5|window",
     "of relative_bias. distance: entry clamp(j - (i + n_k - q_len), -r, r) + r of 2 r + 1; t5: T5's buckets "
     "of that distance; window: places (y, x) of a window, entry (y_i - y_j + height - 1) (2 width - 1) + "
     "x_i - x_j + width - 1 of (2 height - 1) (2 width - 1), as Swin has them"},
    {"bidirectional", Kind::integer, "1", "0 or 1",
     "of relative=t5: half of the buckets are of keys behind the row", 0, 1},
    {"max_distance", Kind::integer, "128", ">= 2", "of relative=t5: from there on all is in one bucket", 2,
     1 << 20},
    {"window_width", Kind::integer, "", ">= 1", "of relative=window: places of a row of the window", 1,
     kMostCount},
    {"top_k", Kind::integer, "0", ">= 0",
     "only the top_k highest scores of a row remain, of equal ones those of the first keys; 0: all", 0,
     kMostCount},
    {"q_block", Kind::integer, "1", ">= 1", "rows of a block of block_rows", 1, kMostCount},
    {"k_block", Kind::integer, "1", ">= 1", "keys of a block of block_columns", 1, kMostCount},
    {"sparsity", Kind::choice, "none", "none|longformer|bigbird",
     "lists of a known shape: blocks near the row's, global ones, and of bigbird random ones. "
     "Needs q_block = k_block and q_len = kv_len"},
    {"sparse_window", Kind::integer, "1", ">= 0", "blocks on each side of the row's own", 0, kMostCount},
    {"sparse_global", Kind::integer, "1", ">= 0", "first blocks that all rows see, and that see all keys", 0,
     kMostCount},
    {"sparse_random", Kind::integer, "1", ">= 0", "blocks of each row block beside those; of bigbird alone",
     0, kMostCount},
    {"sparse_seed", Kind::integer, "0", ">= 0", "of the random blocks", 0, kMostCount},
    {"score_head", Kind::integer, "0", ">= 0", "the first head of qk_matmul_output", 0, kMostCount},
    {"score_heads", Kind::integer, "0", ">= 0", "how many heads it has; 0: all", 0, kMostCount},
    {"average_heads", Kind::integer, "0", "0 or 1",
     "qk_matmul_output of mode 3 is the mean over its heads, as torch.nn.MultiheadAttention returns it", 0,
     1},
    {"score_row", Kind::integer, "0", ">= 0", "its first row", 0, kMostCount},
    {"score_rows", Kind::integer, "0", ">= 0", "how many rows it has; 0: all", 0, kMostCount}};

}  // namespace

const OpInfo kAttentionOp{
    "attention",
    "Attention of queries over keys and values",
    "s[i,j] = scale * (q_i . k_j), or scale * sum_d score_vector_d tanh(q_id + k_jd)\n"
    "s = softcap * tanh(s / softcap)\n"
    "s += bias + relative_bias - slope * |i + n_k - q_len - j|\n"
    "s = score(s, b, h, i, j), a function of the user's; s += attn_mask\n"
    "Y_i = sum_j exp(s[i,j]) v_j / (sum_j exp(s[i,j]) + exp(sink)) over the keys that masks leave\n"
    "A row that sees no key gives zeros. Query head h reads key head h / (q_heads / kv_heads).\n"
    "n_k: keys of the sequence. Sums are F32 for tensors of any type. Inputs are finite, but for -inf in a "
    "mask.",
    kIn,
    kOut,
    kAttrs};

}  // namespace tessera
