// Rows of a linear attention, over a state that stays in shared memory or in registers.
// docs/kernels/linear_attention.md.
#ifndef TESSERA_INTERFACE_LINEAR_ATTENTION_H
#define TESSERA_INTERFACE_LINEAR_ATTENTION_H
#include "common.h"
TSR_INTERFACE_BEGIN

// The state and the normaliser are read at one binding and written at another, which may be one buffer (of
// the state alone: every workgroup reads all of its head's normaliser).
TSR_CONST uint kLinearQ = 0;
TSR_CONST uint kLinearK = 1;
TSR_CONST uint kLinearV = 2;
TSR_CONST uint kLinearPast = 3;
TSR_CONST uint kLinearDecay = 4;
TSR_CONST uint kLinearBeta = 5;
TSR_CONST uint kLinearPastNormaliser = 6;
TSR_CONST uint kLinearY = 7;
TSR_CONST uint kLinearPresent = 8;
TSR_CONST uint kLinearNormaliser = 9;
TSR_CONST uint kLinearBindings = 10;

TSR_CONST uint kLinearSpecGroup = 0;  // invocations of a workgroup, a multiple of PARTS
TSR_CONST uint kLinearSpecKDim = 1;
TSR_CONST uint kLinearSpecCols4 = 2;  // vec4 of the columns of v that a workgroup has
TSR_CONST uint kLinearSpecParts = 3;  // lanes that share a product with the state
TSR_CONST uint kLinearSpecFlags = 4;  // kLinearFlag*
TSR_CONST uint kLinearSpecMap = 5;    // FeatureMap's number
TSR_CONST uint kLinearSpecWide = 6;   // bit b: rows of binding b are whole vec4
TSR_CONST uint kLinearSpecQType = 7;  // F32, F16, BF16
TSR_CONST uint kLinearSpecKType = 8;
TSR_CONST uint kLinearSpecVType = 9;
TSR_CONST uint kLinearSpecYType = 10;
TSR_CONST uint kLinearLanesSpecs = 11;  // COLS4 * PARTS lanes
// Of the form with shared memory:
TSR_CONST uint kLinearSpecChunk = 11;  // rows that are computed together, a multiple of ROWS
TSR_CONST uint kLinearSpecRows = 12;   // of them a lane takes in a product with the state
TSR_CONST uint kLinearSpecs = 13;

TSR_CONST uint kLinearFlagGated = 1;
TSR_CONST uint kLinearFlagDecayByDim = 2;  // with gated
TSR_CONST uint kLinearFlagDelta = 4;
TSR_CONST uint kLinearFlagNormalise = 8;
TSR_CONST uint kLinearFlagUpdate = 16;  // rows go into the state
TSR_CONST uint kLinearFlagOutput = 32;  // rows of y; without update all of them see the state as it is

// FeatureMap's numbers.
TSR_CONST uint kMapNone = 0;
TSR_CONST uint kMapEluPlusOne = 1;
TSR_CONST uint kMapRelu = 2;
TSR_CONST uint kMapExp = 3;

// exp of less is 0 in f32. Sums of decays keep their last bits so, whatever a row that forgets has in it.
TSR_CONST float kLinearLeastDecay = -104;

struct LinearAttentionPush {
  uint len;     // rows of a sequence
  uint first;   // row that this dispatch begins with
  uint rows;    // that a workgroup takes, at most
  uint blocks;  // of so many rows: 1 with update
  uint heads;
  uint kv_heads;
  uint v_dim;
  uint tiles;     // of columns
  uint groups;    // batch * blocks * kv_heads * tiles
  uint has_past;  // 0: zeros
  uint has_past_normaliser;
  uint store_state;
  uint store_normaliser;
  uint betas;          // of a row
  uint key_sequences;  // 1: all have the same keys
  float scale;
  float epsilon;
  uint groups_x;
  uint groups_y;
};

TSR_INTERFACE_END
#endif
