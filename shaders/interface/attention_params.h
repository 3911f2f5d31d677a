// What every kernel of attention is given: src/base/attention.h defines the operation.
#ifndef TESSERA_INTERFACE_ATTENTION_PARAMS_H
#define TESSERA_INTERFACE_ATTENTION_PARAMS_H
#include "common.h"
TSR_INTERFACE_BEGIN

// Bindings that every attention kernel shares; one that a kernel does not use is absent from its source.
TSR_CONST uint kAttentionQ = 0;
TSR_CONST uint kAttentionK = 1;
TSR_CONST uint kAttentionV = 2;
TSR_CONST uint kAttentionState = 3;   // or lengths, u32 (batch): there are never both
TSR_CONST uint kAttentionParams = 4;  // AttentionParams
TSR_CONST uint kAttentionOut = 5;     // y; of attention_split with several splits: the partials
TSR_CONST uint kAttentionMask = 6;
TSR_CONST uint kAttentionBias = 7;
TSR_CONST uint kAttentionSlopes = 8;      // f32 (heads), or the relative bias, f32 (entries, heads)
TSR_CONST uint kAttentionSinks = 9;       // f32 (heads), natural log domain
TSR_CONST uint kAttentionVector = 10;     // of additive scores, f32 (heads, head_dim)
// u32 (2, documents + 1): first row of each in q, then first key; or prefix lengths, u32 (batch)
TSR_CONST uint kAttentionDocuments = 11;
TSR_CONST uint kAttentionTable = 12;      // u32 (batch, table_stride)
TSR_CONST uint kAttentionLse = 13;        // f32 (batch, heads, q_len), natural log
// u32: first entries (batch|1, heads|1, blocks of rows + 1), then entries, the key blocks of each list, ascending
TSR_CONST uint kAttentionLists = 14;
// Of top_k, a bit for each key that a row keeps: (batch, heads, q_len, keep_row words)
TSR_CONST uint kAttentionKeep = 15;
TSR_CONST uint kAttentionBindings = 16;

// Bits of the flags constant of every attention kernel.
TSR_CONST uint kAttentionHasState = 1;
TSR_CONST uint kAttentionHasLengths = 2;
TSR_CONST uint kAttentionHasDocuments = 4;
TSR_CONST uint kAttentionHasSlopes = 8;
TSR_CONST uint kAttentionHasSinks = 16;
TSR_CONST uint kAttentionHasSoftcap = 32;
TSR_CONST uint kAttentionHasLse = 64;  // lse is written
TSR_CONST uint kAttentionCosine = 128;
TSR_CONST uint kAttentionPaged = 256;
TSR_CONST uint kAttentionRing = 512;
TSR_CONST uint kAttentionCausal = 1024;
TSR_CONST uint kAttentionBottomRight = 2048;  // centre is i + n_k - n_q
TSR_CONST uint kAttentionWindow = 4096;       // window_left or window_right is set
TSR_CONST uint kAttentionHasLists = 8192;
TSR_CONST uint kAttentionHasPrefix = 16384;
TSR_CONST uint kAttentionHasPrefixes = 32768;  // one for each sequence
// A type (DType's number) plus 1, 0 when absent.
TSR_CONST uint kAttentionMaskShift = 16;  // 4 bits
TSR_CONST uint kAttentionBiasShift = 20;  // 4 bits
TSR_CONST uint kAttentionRelativeDistance = 1 << 24;
TSR_CONST uint kAttentionRelativeWindow = 1 << 25;
TSR_CONST uint kAttentionHasKeep = 1 << 26;
TSR_CONST uint kAttentionAdditive = 1 << 27;

// A storage buffer, because it is larger than push constants may be. Strides are in elements, except those of
// q8_0 keys and values, in words.
struct AttentionParams {
  uint batch, q_len, kv_len, heads, kv_heads;
  uint q_batch, q_head, q_row, q_element;
  uint k_batch, k_head, k_row, k_element;
  uint v_batch, v_head, v_row, v_element;
  uint y_batch, y_head, y_row, y_element;
  uint mask_batch, mask_head, mask_row, mask_key;
  uint bias_batch, bias_head, bias_row, bias_key;
  uint window_left, window_right;  // kNoWindow: open
  uint prefix;
  uint relative_size;  // reach of distances, or width of the window
  uint top_k, keep_row;
  uint documents;
  uint block_size, blocks, table_stride;  // paged: blocks there are
  uint score_head, score_heads, score_row, score_rows, score_kind;
  float scale, softcap;
  uint tiles, splits;  // of rows; of keys
  uint group;          // heads that share a KV head and are folded into rows
  // Lists: rows and keys of a block; of a first entry the strides; where entries begin, how many there are, and
  // how many one list has at most; row tiles of a block.
  uint q_block, k_block, list_batch, list_head, list_entries, list_count, list_most, list_tiles;
};

TSR_INTERFACE_END
#endif
