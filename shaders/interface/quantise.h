// x in blocks of 32 whole numbers of 8 bits, for products by integer dot products. docs/kernels/matmul.md.
#ifndef TESSERA_INTERFACE_QUANTISE_H
#define TESSERA_INTERFACE_QUANTISE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kQuantiseX = 0;
TSR_CONST uint kQuantiseState = 1;
TSR_CONST uint kQuantiseBlocks = 2;
TSR_CONST uint kQuantiseBindings = 3;

TSR_CONST uint kQuantiseSpecGroup = 0;  // invocations of a workgroup, a block each
TSR_CONST uint kQuantiseSpecFlags = 1;  // kMatmulFlag*: Dynamic, Vec4, XHalf
// Of 8 elements the even ones first, as nibbles of weights lie in words; else in their order.
TSR_CONST uint kQuantiseSpecEvenFirst = 2;
TSR_CONST uint kQuantiseSpecs = 3;

// A block: 8 words of quants, the bits of the f32 step, the sums of the first and of the last 16 quants (low and
// high half of a word), two words of nothing.
TSR_CONST uint kQuantisedBlock = 32;
TSR_CONST uint kQuantisedVectors = 3;  // uvec4 a block

struct QuantisePush {
  uint rows;
  uint k;
  uint x_stride;  // elements between rows
  uint x_batch;   // elements between matrices
  uint batch;
  uint inner;     // matrices in a group
  uint x_outer;   // elements between groups
  uint groups_x;
  uint groups_y;
};

TSR_INTERFACE_END
#endif
