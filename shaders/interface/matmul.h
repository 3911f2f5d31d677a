// y[:, first:first+n) = act(scale x w^T + bias) [* (scale x up^T + up_bias)] [+ residual]
#ifndef TESSERA_INTERFACE_MATMUL_H
#define TESSERA_INTERFACE_MATMUL_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kMatmulX = 0;
TSR_CONST uint kMatmulW = 1;
TSR_CONST uint kMatmulUp = 2;
TSR_CONST uint kMatmulBias = 3;
TSR_CONST uint kMatmulUpBias = 4;
TSR_CONST uint kMatmulY = 5;
TSR_CONST uint kMatmulState = 6;
TSR_CONST uint kMatmulResidual = 7;
TSR_CONST uint kMatmulBindings = 8;

TSR_CONST uint kMatmulFlagBias = 1;
TSR_CONST uint kMatmulFlagGated = 2;
TSR_CONST uint kMatmulFlagDynamic = 4;  // the number of rows is StepState's
TSR_CONST uint kMatmulFlagVec4 = 8;     // k and x's strides are multiples of 4 elements
TSR_CONST uint kMatmulFlagResidual = 16;
TSR_CONST uint kMatmulFlagScale = 32;
TSR_CONST uint kMatmulFlagXHalf = 64;   // x is f16
TSR_CONST uint kMatmulFlagYHalf = 128;  // y and residual are f16
TSR_CONST uint kMatmulFlagBatch = 256;
TSR_CONST uint kMatmulFlagVec8 = 16384;  // k and x's strides are multiples of 8 elements
TSR_CONST uint kMatmulFlagY4 = 32768;    // n, first and y's strides are multiples of 4 elements
TSR_CONST uint kMatmulFlagBiases = 65536;  // bias and up_bias have an element for each row of w, of all matrices

// Modules with -DFUSED have more bindings, flags and parameters.
TSR_CONST uint kFusedNorm = 8;     // (k)
TSR_CONST uint kFusedTable = 9;    // (positions, rope_dims/2, 2)
TSR_CONST uint kFusedK = 10;       // caches
TSR_CONST uint kFusedV = 11;
TSR_CONST uint kFusedBlocks = 12;  // u32 (batch, table_stride)
TSR_CONST uint kFusedBindings = 13;

TSR_CONST uint kMatmulFlagNorm = 512;    // rows of x are normalised, RMSNorm
TSR_CONST uint kMatmulFlagHeads = 1024;  // rotation and KV append in the place of y; y is q
TSR_CONST uint kMatmulFlagAdjacent = 2048;
TSR_CONST uint kMatmulFlagPaged = 4096;
TSR_CONST uint kMatmulFlagRing = 8192;

// All families.
TSR_CONST uint kMatmulSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kMatmulSpecType = 1;   // kType* of w and up
TSR_CONST uint kMatmulSpecFlags = 2;  // kMatmulFlag*
TSR_CONST uint kMatmulSpecAct = 3;    // kAct*; with kMatmulFlagHeads kTypeF32, F16 or Bf16, of the caches

// matvec: one workgroup computes COLUMNS columns of y for X_ROWS rows of x.
// matmul_lanes: one workgroup computes COLUMNS columns a lane for X_ROWS rows of x.
TSR_CONST uint kMatvecSpecColumns = 4;
TSR_CONST uint kMatvecSpecRows = 5;
TSR_CONST uint kMatvecSpecs = 6;

// matmul_dot_few: like matvec, of blocks of x (interface/quantise.h); matmul_dot: like tile, of 32 along k at a time.
// tile: one workgroup computes TILE_M rows by TILE_N columns of y in steps of TILE_K, one lane LANE_M by
// LANE_N of it.
TSR_CONST uint kTileSpecM = 4;
TSR_CONST uint kTileSpecN = 5;
TSR_CONST uint kTileSpecK = 6;
TSR_CONST uint kTileSpecLaneM = 7;
TSR_CONST uint kTileSpecLaneN = 8;
TSR_CONST uint kTileSpecs = 9;

// matmul_coopmat: like tile, by fragments of M x N x K; the subgroups of a workgroup are GROUPS_M x GROUPS_N.
// STAGES: copies of the tiles in shared memory, 1 or 2.
TSR_CONST uint kFragmentSpecM = 4;
TSR_CONST uint kFragmentSpecN = 5;
TSR_CONST uint kFragmentSpecK = 6;
TSR_CONST uint kFragmentSpecTileM = 7;
TSR_CONST uint kFragmentSpecTileN = 8;
TSR_CONST uint kFragmentSpecTileK = 9;
TSR_CONST uint kFragmentSpecGroupsM = 10;
TSR_CONST uint kFragmentSpecGroupsN = 11;
TSR_CONST uint kFragmentSpecStages = 12;
TSR_CONST uint kFragmentSpecs = 13;

// matmul_coopmat2: a matrix of a subgroup is its whole part of the tile, one of the workgroup the whole tile; in
// steps of K.
TSR_CONST uint kWholeSpecScope = 4;  // kProductScope*
TSR_CONST uint kWholeSpecK = 5;
TSR_CONST uint kWholeSpecTileM = 6;
TSR_CONST uint kWholeSpecTileN = 7;
TSR_CONST uint kWholeSpecTileK = 8;
TSR_CONST uint kWholeSpecGroupsM = 9;
TSR_CONST uint kWholeSpecGroupsN = 10;
TSR_CONST uint kWholeSpecStages = 11;
TSR_CONST uint kWholeSpecs = 12;
TSR_CONST uint kProductScopeWorkgroup = 2, kProductScopeSubgroup = 3;  // SPIR-V's numbers

// Both push structs begin with these.
#define TSR_MATMUL_PUSH                                                                    \
  uint rows;                                                                               \
  uint n;                                                                                  \
  uint k;                                                                                  \
  uint row_words; /* uvec4 a row of w */                                                   \
  uint first;     /* column of y, bias, up_bias and residual that row 0 of w belongs to */ \
  uint y_stride;  /* elements between rows, of residual too */                             \
  uint groups_x;                                                                           \
  uint groups_y;                                                                           \
  uint x_stride; /* elements between rows */                                               \
  uint x_batch;  /* elements between products */                                           \
  uint w_batch;  /* rows between products, of up too */                                    \
  uint y_batch;  /* elements between products, of residual too */                          \
  uint batch;                                                                              \
  uint inner;    /* products in a group */                                                 \
  uint x_outer;  /* elements between groups */                                             \
  uint w_outer;  /* rows between groups */                                                 \
  uint scale; /* bits of a float */

struct MatmulPush {
  TSR_MATMUL_PUSH
};

struct FusedMatmulPush {
  TSR_MATMUL_PUSH
  uint eps;  // bits of a float
  // As in RopePush:
  uint sequence_rows;
  uint heads;
  uint kv_heads;
  uint head_dim;
  uint v_dim;
  uint rope_dims;
  uint positions;
  uint capacity;
  uint slots;
  uint blocks;
  uint table_stride;
};

TSR_INTERFACE_END
#endif
