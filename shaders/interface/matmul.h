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

// All families.
TSR_CONST uint kMatmulSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kMatmulSpecType = 1;   // kType* of w and up
TSR_CONST uint kMatmulSpecFlags = 2;  // kMatmulFlag*
TSR_CONST uint kMatmulSpecAct = 3;    // kAct*

// matvec: one workgroup computes COLUMNS columns of y for X_ROWS rows of x.
// matmul_lanes: one workgroup computes COLUMNS columns a lane for X_ROWS rows of x.
TSR_CONST uint kMatvecSpecColumns = 4;
TSR_CONST uint kMatvecSpecRows = 5;
TSR_CONST uint kMatvecSpecs = 6;

// tile: one workgroup computes TILE_M rows by TILE_N columns of y in steps of TILE_K, one lane LANE_M by
// LANE_N of it.
TSR_CONST uint kTileSpecM = 4;
TSR_CONST uint kTileSpecN = 5;
TSR_CONST uint kTileSpecK = 6;
TSR_CONST uint kTileSpecLaneM = 7;
TSR_CONST uint kTileSpecLaneN = 8;
TSR_CONST uint kTileSpecs = 9;

struct MatmulPush {
  uint rows;
  uint n;
  uint k;
  uint row_words;  // uvec4 a row of w
  uint first;      // column of y, bias, up_bias and residual that row 0 of w belongs to
  uint y_stride;   // elements between rows, of residual too
  uint groups_x;
  uint groups_y;
  uint x_stride;  // elements between rows
  uint x_batch;   // elements between products
  uint w_batch;   // uvec4 between products, of up too
  uint y_batch;   // elements between products, of residual too
  uint batch;
  uint scale;  // bits of a float
};

TSR_INTERFACE_END
#endif
