// sum = x + residual; y = (sum - mean) / sqrt(variance + eps) * weight + bias, where RMSNorm has no mean.
#ifndef TESSERA_INTERFACE_NORM_H
#define TESSERA_INTERFACE_NORM_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kNormX = 0;
TSR_CONST uint kNormWeight = 1;
TSR_CONST uint kNormBias = 2;
TSR_CONST uint kNormResidual = 3;
TSR_CONST uint kNormY = 4;
TSR_CONST uint kNormSum = 5;
TSR_CONST uint kNormState = 6;
TSR_CONST uint kNormBindings = 7;

TSR_CONST uint kNormSpecGroup = 0;  // invocations of a workgroup, which is one row
TSR_CONST uint kNormSpecFlags = 1;  // kNormFlag*
TSR_CONST uint kNormSpecs = 2;

TSR_CONST uint kNormFlagLayer = 1;
TSR_CONST uint kNormFlagBias = 2;
TSR_CONST uint kNormFlagResidual = 4;

struct NormPush {
  uint rows;
  uint dim;
  float eps;
  uint groups_x;
  uint groups_y;
  uint dynamic_rows;  // 1: the number of rows is StepState's. No constant: one pipeline serves both
};

TSR_INTERFACE_END
#endif
