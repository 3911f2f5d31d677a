// Specialization constants of the attention kernels. docs/kernels/attention.md.
#ifndef TESSERA_INTERFACE_ATTENTION_H
#define TESSERA_INTERFACE_ATTENTION_H
#include "attention_params.h"
TSR_INTERFACE_BEGIN

// Of every attention kernel.
TSR_CONST uint kAttentionSpecGroup = 0;   // invocations of a workgroup
TSR_CONST uint kAttentionSpecFlags = 1;   // bits of attention_params.h
TSR_CONST uint kAttentionSpecDim = 2;     // head_dim
TSR_CONST uint kAttentionSpecVDim = 3;    // v_dim
TSR_CONST uint kAttentionSpecQType = 4;   // kTypeF32, kTypeF16 or kTypeBf16
TSR_CONST uint kAttentionSpecKvType = 5;  // kTypeF32, kTypeF16, kTypeBf16 or kTypeQ8_0
TSR_CONST uint kAttentionSpecYType = 6;   // kTypeF32, kTypeF16 or kTypeBf16
// Bit i: rows of binding i (q, k, v, y) are read or written as vectors of four elements: the stride of
// elements is 1, the other strides and the dimension are multiples of 4. Bit 16 + i: multiples of 8.
TSR_CONST uint kAttentionSpecWide = 7;
TSR_CONST uint kAttentionSharedSpecs = 8;

// attention and attention_scores: tiles of rows
TSR_CONST uint kAttentionSpecColGroups = 8;  // lanes that share a row; a divisor of the group, multiple of 4
TSR_CONST uint kAttentionSpecRowTile = 9;    // rows a lane
TSR_CONST uint kAttentionSpecColTile = 10;   // keys a lane
TSR_CONST uint kAttentionSpecChunk = 11;     // vec4 of a q or k row staged at once
TSR_CONST uint kAttentionSpecQWhole = 12;  // 1: whole q rows stay in shared memory; 0: staged with each chunk
TSR_CONST uint kScoresSpecs = 13;
TSR_CONST uint kAttentionSpecVCols = 13;  // keys of V staged at once; a divisor of the tile's, multiple of 4
TSR_CONST uint kAttentionSpecs = 14;

// attention_coopmat: tiles of rows on matrix fragments of MxNxK
TSR_CONST uint kMatrixSpecM = 8;
TSR_CONST uint kMatrixSpecN = 9;
TSR_CONST uint kMatrixSpecK = 10;
TSR_CONST uint kMatrixSpecCols = 11;       // keys of a tile
TSR_CONST uint kMatrixSpecRowGroups = 12;  // subgroups one below the other
TSR_CONST uint kMatrixSpecColGroups = 13;  // subgroups that share rows; the group is the product in subgroups
TSR_CONST uint kMatrixSpecRowFrags = 14;   // fragments of M rows a subgroup
TSR_CONST uint kMatrixSpecs = 15;

// attention_coopmat2: tiles of rows on matrices of flexible sizes
TSR_CONST uint kFlexibleSpecScope = 8;      // kScopeWorkgroup or kScopeSubgroup
TSR_CONST uint kFlexibleSpecRows = 9;       // of a matrix
TSR_CONST uint kFlexibleSpecStrips = 10;    // subgroups with rows of their own; 1 at workgroup scope
TSR_CONST uint kFlexibleSpecCols = 11;      // keys of a tile
TSR_CONST uint kFlexibleSpecDimBlock = 12;  // of head_dim that one product takes
TSR_CONST uint kFlexibleSpecVBlock = 13;    // of v_dim that one matrix of the output has
TSR_CONST uint kFlexibleSpecs = 14;
TSR_CONST uint kScopeWorkgroup = 2, kScopeSubgroup = 3;  // SPIR-V's numbers

// attention_split: few rows
TSR_CONST uint kSplitSpecParts = 8;     // lanes that share the dot product of a key
TSR_CONST uint kSplitSpecDimLanes = 9;  // lanes that share a row of V
TSR_CONST uint kSplitSpecRows = 10;     // rows of q a workgroup
TSR_CONST uint kSplitSpecDirect = 11;   // 1: one split, which writes the output itself
TSR_CONST uint kSplitSpecs = 12;
// attention_keys: a lane a key, one subgroup a workgroup
TSR_CONST uint kKeysSpecRows = 8;    // rows of q a workgroup
TSR_CONST uint kKeysSpecDirect = 9;  // 1: one split, which writes the output itself
TSR_CONST uint kKeysSpecs = 10;

// Fewest keys of a split that is not the last: below this a workgroup costs more than it computes.
TSR_CONST uint kSplitMinKeys = 64;

// attention_merge. A partial is ceil(v_dim/4) vec4 of the unnormalised output, then (max, sum, -, -), maxima
// in units of log2(e).
TSR_CONST uint kMergePartials = 0;  // (batch, q_len, heads, splits, ceil(v_dim/4) + 1) vec4
TSR_CONST uint kMergeSpecDimLanes = 8;
TSR_CONST uint kMergeSpecSplits = 9;
TSR_CONST uint kMergeSpecs = 10;

// attention_keep
TSR_CONST uint kKeepScores = 0;  // of attention_scores, masked, of all heads and rows

// mask_tiles: (batch, heads / group, tiles of rows) times a header and words of 16 tiles of keys. The header: keys
// [x, y) are those of tiles that some row sees a key of, [z, w) of tiles that no row misses one of.
TSR_CONST uint kMaskTilesHeader = 4;
TSR_CONST uint kMaskTilesBroken = 0x80000000u;  // in y and w: not of all tiles between
TSR_CONST uint kMaskTilesSpecRows = 8;          // folded rows of a tile
TSR_CONST uint kMaskTilesSpecCols = 9;          // keys of a tile
TSR_CONST uint kMaskTilesSpecLanes = 10;        // that share a word; a divisor of the group
TSR_CONST uint kMaskTilesSpecWhole = 11;        // 1: a lane asks about tiles of few rows whole, in straight code
TSR_CONST uint kMaskTilesSpecs = 12;

// attention_scores: out is (batch, score_heads or 1, score_rows, kv_len), f32, and the lse is read.
// AttentionParams::score_kind: AttentionScores' numbers.
TSR_CONST uint kScoresRaw = 1;
TSR_CONST uint kScoresCapped = 2;
TSR_CONST uint kScoresMasked = 3;
TSR_CONST uint kScoresWeights = 4;
TSR_CONST uint kScoresAverage = 5;

// An attention kernel has no push constants.
#ifdef __cplusplus
struct AttentionPush {};
#endif

TSR_INTERFACE_END
#endif
