// How many multiply-adds a second the device does from registers: what a kernel can at most.
#ifndef TESSERA_INTERFACE_PROBE_H
#define TESSERA_INTERFACE_PROBE_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kProbeOut = 0;  // one word: keeps the work alive, is never written
TSR_CONST uint kProbeBindings = 1;
TSR_CONST uint kProbeSpecGroup = 0;  // invocations of a workgroup
TSR_CONST uint kProbeSpecs = 1;
TSR_CONST uint kProbeChains = 8;  // independent vec4, enough to hide an addition's latency
TSR_CONST uint kProbeSteps = 8;   // multiply-adds of a chain in a loop

struct ProbePush {
  uint loops;
  uint never;  // 0xffffffff: the invocation that writes
};

TSR_INTERFACE_END
#endif
