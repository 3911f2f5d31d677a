// A small network in one dispatch: h = act(h w^T + bias), layer after layer.
#ifndef TESSERA_INTERFACE_MLP_H
#define TESSERA_INTERFACE_MLP_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kMlpX = 0;
TSR_CONST uint kMlpWeights = 1;  // of all layers, and their biases, wherever they lie
TSR_CONST uint kMlpY = 2;
TSR_CONST uint kMlpState = 3;
TSR_CONST uint kMlpParams = 4;
TSR_CONST uint kMlpBindings = 5;

TSR_CONST uint kMlpFlagDynamic = 1;  // the number of rows is StepState's
TSR_CONST uint kMlpFlagVec4 = 2;     // k is a multiple of 4
TSR_CONST uint kMlpFlagXHalf = 4;    // x is f16
TSR_CONST uint kMlpFlagYHalf = 8;    // y is f16

TSR_CONST uint kMlpSpecGroup = 0;     // invocations of a workgroup; mlp_lanes: a subgroup
TSR_CONST uint kMlpSpecType = 1;      // kType* of all weights
TSR_CONST uint kMlpSpecFlags = 2;     // kMlpFlag*
TSR_CONST uint kMlpSpecLaneRows = 3;  // a lane
TSR_CONST uint kMlpSpecVec4 = 4;      // that are kept of a row between two layers: an even number
TSR_CONST uint kMlpSpecActs = 5;      // bit kAct*: the activations that some layer has
TSR_CONST uint kMlpSpecLanesM = 6;    // mlp: the lanes are LANES_M x (GROUP / LANES_M)
TSR_CONST uint kMlpSpecs = 7;
TSR_CONST uint kMlpLanesSpecs = 6;

struct MlpPush {
  uint rows;
  uint k;  // columns of x
  uint layers;
  uint groups_x;
  uint groups_y;
};

// Words of the parameter buffer, a layer.
TSR_CONST uint kMlpLayerK = 0;
TSR_CONST uint kMlpLayerN = 1;
TSR_CONST uint kMlpLayerRowWords = 2;  // uvec4 a row of weights
TSR_CONST uint kMlpLayerWeights = 3;   // uvec4 from the start of the binding
TSR_CONST uint kMlpLayerBias = 4;      // words from there; kMlpNoBias: none
TSR_CONST uint kMlpLayerAct = 5;       // kAct*
TSR_CONST uint kMlpLayerWords = 8;
TSR_CONST uint kMlpNoBias = 0xffffffffu;

TSR_INTERFACE_END
#endif
