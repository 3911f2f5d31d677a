// Rotary embedding and the append to a KV cache, together and each alone. docs/kernels/attention.md.
#ifndef TESSERA_INTERFACE_ROPE_H
#define TESSERA_INTERFACE_ROPE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kRopeAppendQkv = 0;  // (rows, (heads + 2 kv_heads) * head_dim)
TSR_CONST uint kRopeAppendTable = 1;
TSR_CONST uint kRopeAppendState = 2;
TSR_CONST uint kRopeAppendQ = 3;  // (rows, heads * head_dim)
TSR_CONST uint kRopeAppendK = 4;
TSR_CONST uint kRopeAppendV = 5;
TSR_CONST uint kRopeAppendBindings = 6;

TSR_CONST uint kRopeX = 0;  // (rows, heads * head_dim)
TSR_CONST uint kRopeTable = 1;
TSR_CONST uint kRopeState = 2;
TSR_CONST uint kRopeY = 3;
TSR_CONST uint kRopeBindings = 4;

TSR_CONST uint kKvAppendX = 0;  // (rows, kv_heads * head_dim)
TSR_CONST uint kKvAppendState = 1;
TSR_CONST uint kKvAppendCache = 2;
TSR_CONST uint kKvAppendBindings = 3;

TSR_CONST uint kRopeSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kRopeSpecType = 1;   // kTypeF32 or kTypeF16, of the caches
TSR_CONST uint kRopeSpecs = 2;

struct RopePush {  // of all three
  uint rows;       // the most there can be; StepState has the real number
  uint heads;
  uint kv_heads;
  uint head_dim;
  uint rope_dims;  // even; dimensions beyond pass through
  uint context;
  uint adjacent;  // pairs (2i, 2i+1); else (i, i + rope_dims/2)
};

TSR_INTERFACE_END
#endif
