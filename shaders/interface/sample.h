// tokens[position+rows] = an id drawn from logits(vocab) as src/graph/state.h says. docs/kernels/sampling.md.
#ifndef TESSERA_INTERFACE_SAMPLE_H
#define TESSERA_INTERFACE_SAMPLE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kSampleLogits = 0;
TSR_CONST uint kSampleTokens = 1;  // (context)
TSR_CONST uint kSampleState = 2;
TSR_CONST uint kSampleSampler = 3;
TSR_CONST uint kSampleScratch = 4;  // (vocab) words
TSR_CONST uint kSampleBindings = 5;

TSR_CONST uint kSampleSpecGroup = 0;  // invocations of the workgroup, a power of two up to 1024
TSR_CONST uint kSampleSpecs = 1;

struct SamplePush {
  uint vocab;
  uint context;  // tokens that the buffer holds
};

TSR_INTERFACE_END
#endif
