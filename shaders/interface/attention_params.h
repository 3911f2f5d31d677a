// What every kernel of attention is given: src/base/attention.h defines the operation.
#ifndef TESSERA_INTERFACE_ATTENTION_PARAMS_H
#define TESSERA_INTERFACE_ATTENTION_PARAMS_H
#include "common.h"
TSR_INTERFACE_BEGIN

// Bindings that every attention kernel shares; one that a kernel does not use is absent from its source.
TSR_CONST uint kAttentionQ = 0;
TSR_CONST uint kAttentionK = 1;
TSR_CONST uint kAttentionV = 2;
TSR_CONST uint kAttentionState = 3;
TSR_CONST uint kAttentionParams = 4;  // AttentionParams
TSR_CONST uint kAttentionOut = 5;     // y; of attention_split with several splits: the partials
TSR_CONST uint kAttentionMask = 6;
TSR_CONST uint kAttentionBias = 7;
TSR_CONST uint kAttentionSlopes = 8;      // f32 (heads)
TSR_CONST uint kAttentionSinks = 9;       // f32 (heads), natural log domain
TSR_CONST uint kAttentionLengths = 10;    // u32 (batch)
TSR_CONST uint kAttentionDocuments = 11;  // u32 (2, documents + 1): first row of each in q, then first key
TSR_CONST uint kAttentionTable = 12;      // u32 (batch, table_stride)
TSR_CONST uint kAttentionLse = 13;        // f32 (batch, heads, q_len), natural log
TSR_CONST uint kAttentionBindings = 14;

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
// A type (DType's number) plus 1, 0 when absent.
TSR_CONST uint kAttentionMaskShift = 16;  // 4 bits
TSR_CONST uint kAttentionBiasShift = 20;  // 4 bits

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
  uint documents;
  uint block_size, blocks, table_stride;  // paged: blocks there are
  uint score_head, score_heads, score_row, score_rows, score_kind;
  float scale, softcap;
  uint parts;  // tiles of rows, or splits
};

TSR_INTERFACE_END
#endif
