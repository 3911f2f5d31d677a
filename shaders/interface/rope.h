// Rotary embedding and the append to a KV cache, together and each alone. docs/kernels/kv_cache.md.
#ifndef TESSERA_INTERFACE_ROPE_H
#define TESSERA_INTERFACE_ROPE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kRopeAppendQkv = 0;  // (rows, (heads + kv_heads) * head_dim + kv_heads * v_dim)
TSR_CONST uint kRopeAppendTable = 1;
TSR_CONST uint kRopeAppendState = 2;
TSR_CONST uint kRopeAppendQ = 3;  // (rows, heads * head_dim)
TSR_CONST uint kRopeAppendK = 4;
TSR_CONST uint kRopeAppendV = 5;
TSR_CONST uint kRopeAppendBlocks = 6;  // u32 (batch, table_stride)
TSR_CONST uint kRopeAppendBindings = 7;

TSR_CONST uint kRopeX = 0;
TSR_CONST uint kRopeTable = 1;
TSR_CONST uint kRopeState = 2;
TSR_CONST uint kRopeY = 3;
TSR_CONST uint kRopeBindings = 4;

TSR_CONST uint kKvAppendX = 0;
TSR_CONST uint kKvAppendState = 1;
TSR_CONST uint kKvAppendCache = 2;
TSR_CONST uint kKvAppendBlocks = 3;
TSR_CONST uint kKvAppendBindings = 4;

TSR_CONST uint kRopeSpecGroup = 0;  // invocations of a workgroup; with Q8_0 caches a multiple of kQ8Lanes
TSR_CONST uint kRopeSpecType = 1;   // kTypeF32, F16, Bf16 or Q8_0, of the caches
TSR_CONST uint kRopeSpecFlags = 2;  // kRopeFlag*
TSR_CONST uint kRopeSpecs = 3;

TSR_CONST uint kRopeFlagPaged = 1;
TSR_CONST uint kRopeFlagRing = 2;
TSR_CONST uint kRopeFlagByRow = 4;    // the table has a row for each row of x
TSR_CONST uint kRopeFlagAllRows = 8;  // whatever StepState says

// Invocations that make two blocks of Q8_0, whose scales share a word.
TSR_CONST uint kQ8Lanes = 32;

struct RopePush {  // of all three
  uint rows;       // of a sequence, the most there can be; StepState has the real number
  uint heads;
  uint kv_heads;
  uint head_dim;
  uint v_dim;
  uint rope_dims;  // even; dimensions beyond pass through
  uint adjacent;   // pairs (2i, 2i+1); else (i, i + rope_dims/2)
  uint lanes;      // invocations a head
  uint positions;  // that there can be: by the table and, unless it is a ring, the cache
  uint capacity;   // keys of a sequence
  uint slots;      // keys of a sequence, or of a block when paged
  uint blocks;     // paged: blocks there are
  uint table_stride;
  uint x_batch, x_head, x_row;  // where heads begin in x (of rope_append: q and k) and in y
  uint y_batch, y_head, y_row;
};

TSR_INTERFACE_END
#endif
