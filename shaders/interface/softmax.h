// y[o,i,c] = exp(x[o,i,c] - max_i) / sum_i exp(x[o,i,c] - max_i). docs/kernels/softmax.md.
#ifndef TESSERA_INTERFACE_SOFTMAX_H
#define TESSERA_INTERFACE_SOFTMAX_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kSoftmaxX = 0;
TSR_CONST uint kSoftmaxY = 1;
TSR_CONST uint kSoftmaxBindings = 2;

TSR_CONST uint kSoftmaxSpecGroup = 0;    // invocations of a workgroup: COLUMNS times lanes along n
TSR_CONST uint kSoftmaxSpecColumns = 1;  // neighbours along `inner` of a workgroup; divides the group
TSR_CONST uint kSoftmaxSpecs = 2;

struct SoftmaxPush {
  uint outer;
  uint n;
  uint inner;
  uint groups_x;
  uint groups_y;
};

TSR_INTERFACE_END
#endif
