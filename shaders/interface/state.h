// The words of the StepState and SamplerParams buffers (src/graph/state.h says what they mean).
#ifndef TESSERA_INTERFACE_STATE_H
#define TESSERA_INTERFACE_STATE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kStatePosition = 0;
TSR_CONST uint kStateRows = 1;
TSR_CONST uint kStateStatus = 2;
TSR_CONST uint kStateToken = 3;
TSR_CONST uint kStateWords = 8;

TSR_CONST uint kStatusWordOk = 0;
TSR_CONST uint kStatusWordNaN = 1;

TSR_CONST uint kSamplerTemperature = 0;  // float
TSR_CONST uint kSamplerTopK = 1;
TSR_CONST uint kSamplerTopP = 2;     // float
TSR_CONST uint kSamplerMinP = 3;     // float
TSR_CONST uint kSamplerPenalty = 4;  // float
TSR_CONST uint kSamplerPenaltyLast = 5;
TSR_CONST uint kSamplerSeedLow = 6;
TSR_CONST uint kSamplerSeedHigh = 7;
TSR_CONST uint kSamplerWords = 8;

TSR_INTERFACE_END
#endif
