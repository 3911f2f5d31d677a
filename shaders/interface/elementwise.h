// y(rows, dim) = a + b, act(a) or act(a) * b
#ifndef TESSERA_INTERFACE_ELEMENTWISE_H
#define TESSERA_INTERFACE_ELEMENTWISE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kElementwiseA = 0;
TSR_CONST uint kElementwiseB = 1;
TSR_CONST uint kElementwiseY = 2;
TSR_CONST uint kElementwiseState = 3;
TSR_CONST uint kElementwiseBindings = 4;

TSR_CONST uint kElementwiseSpecGroup = 0;    // invocations of a workgroup
TSR_CONST uint kElementwiseSpecKind = 1;     // kElementwiseAdd...
TSR_CONST uint kElementwiseSpecAct = 2;      // kAct*
TSR_CONST uint kElementwiseSpecDynamic = 3;  // 1: the number of rows is StepState's
TSR_CONST uint kElementwiseSpecs = 4;

TSR_CONST uint kElementwiseAdd = 0;
TSR_CONST uint kElementwiseActivation = 1;
TSR_CONST uint kElementwiseGlu = 2;

TSR_CONST uint kElementwisePerLane = 4;  // elements a lane computes, GROUP apart

struct ElementwisePush {
  uint rows;
  uint dim;
  uint groups_x;
  uint groups_y;
};

TSR_INTERFACE_END
#endif
