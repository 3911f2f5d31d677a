// out(rows, heads*head_dim) = softmax(scale q k^T + mask) v over a KV cache. docs/kernels/attention.md.
#ifndef TESSERA_INTERFACE_ATTENTION_H
#define TESSERA_INTERFACE_ATTENTION_H
#include "common.h"
TSR_INTERFACE_BEGIN

// attention (tiles of rows) and attention_split (few rows). Caches are (kv_heads, context, head_dim).
TSR_CONST uint kAttentionQ = 0;
TSR_CONST uint kAttentionK = 1;
TSR_CONST uint kAttentionV = 2;
TSR_CONST uint kAttentionState = 3;
TSR_CONST uint kAttentionOut = 4;  // of attention_split with several splits: the partials
TSR_CONST uint kAttentionBindings = 5;

struct AttentionPush {
  uint rows;  // the most there can be; StepState has the real number
  uint heads;
  uint kv_heads;
  uint context;
  uint window;  // only the last `window` keys; 0: all
  uint causal;  // key j is seen by row i when j <= position+i
  float scale;
  uint parts;  // attention: tiles of rows; attention_split: splits
};

// attention
TSR_CONST uint kAttentionSpecGroup = 0;      // invocations of a workgroup
TSR_CONST uint kAttentionSpecColGroups = 1;  // lanes that share a row; a divisor of the group, multiple of 4
TSR_CONST uint kAttentionSpecRowTile = 2;    // rows a lane
TSR_CONST uint kAttentionSpecColTile = 3;    // keys a lane
TSR_CONST uint kAttentionSpecDim = 4;        // head_dim
TSR_CONST uint kAttentionSpecChunk = 5;      // vec4 of a q or k row staged at once
TSR_CONST uint kAttentionSpecQWhole = 6;  // 1: whole q rows stay in shared memory; 0: staged with each chunk
TSR_CONST uint kAttentionSpecVCols = 7;   // keys of V staged at once; a divisor of the tile's, multiple of 4
TSR_CONST uint kAttentionSpecType = 8;    // kTypeF32 or kTypeF16, of the caches
TSR_CONST uint kAttentionSpecs = 9;

// attention_split
TSR_CONST uint kSplitSpecGroup = 0;     // invocations of a workgroup
TSR_CONST uint kSplitSpecParts = 1;     // lanes that share the dot product of a key
TSR_CONST uint kSplitSpecDimLanes = 2;  // lanes that share a row of V
TSR_CONST uint kSplitSpecRows = 3;      // rows of q a workgroup
TSR_CONST uint kSplitSpecDim = 4;       // head_dim
TSR_CONST uint kSplitSpecDirect = 5;    // 1: one split, which writes the output itself
TSR_CONST uint kSplitSpecType = 6;      // kTypeF32 or kTypeF16, of the caches
TSR_CONST uint kSplitSpecs = 7;
// Fewest keys of a split that is not the last: below this a workgroup costs more than it computes.
TSR_CONST uint kSplitMinKeys = 64;

// attention_merge. A partial is ceil(head_dim/4) vec4 of the unnormalised output, then (max, sum, -, -).
TSR_CONST uint kMergePartials = 0;  // (rows, heads, splits, ceil(head_dim/4) + 1) vec4
TSR_CONST uint kMergeState = 1;
TSR_CONST uint kMergeOut = 2;
TSR_CONST uint kMergeBindings = 3;
TSR_CONST uint kMergeSpecGroup = 0;  // invocations of a workgroup, a multiple of the next
TSR_CONST uint kMergeSpecDimLanes = 1;
TSR_CONST uint kMergeSpecDim = 2;
TSR_CONST uint kMergeSpecSplits = 3;
TSR_CONST uint kMergeSpecs = 4;

TSR_INTERFACE_END
#endif
