// The small ops around a pass: last_row and advance.
#ifndef TESSERA_INTERFACE_STEP_H
#define TESSERA_INTERFACE_STEP_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kLastRowX = 0;  // (rows, dim)
TSR_CONST uint kLastRowState = 1;
TSR_CONST uint kLastRowResidual = 2;  // (rows, dim)
TSR_CONST uint kLastRowY = 3;         // (1, dim)
TSR_CONST uint kLastRowBindings = 4;
TSR_CONST uint kLastRowSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kLastRowSpecs = 1;

struct LastRowPush {
  uint dim;
  uint residual;  // 1: it is added
};

TSR_CONST uint kAdvanceState = 0;
TSR_CONST uint kAdvanceBindings = 1;
TSR_CONST uint kAdvanceSpecs = 0;
TSR_CONST uint kStateRemaining = 4;  // a word of the state that only advance reads

struct AdvancePush {
  uint chunk;  // the most rows of a pass
};

TSR_INTERFACE_END
#endif
