// y = (act(x w^T + bias) [* (x up^T + up_bias)]) down^T + down_bias [+ residual]
#ifndef TESSERA_INTERFACE_FEED_FORWARD_H
#define TESSERA_INTERFACE_FEED_FORWARD_H
#include "common.h"
TSR_INTERFACE_BEGIN

TSR_CONST uint kFeedForwardX = 0;
TSR_CONST uint kFeedForwardW = 1;
TSR_CONST uint kFeedForwardUp = 2;
TSR_CONST uint kFeedForwardBias = 3;
TSR_CONST uint kFeedForwardUpBias = 4;
TSR_CONST uint kFeedForwardDown = 5;
TSR_CONST uint kFeedForwardDownBias = 6;
TSR_CONST uint kFeedForwardY = 7;
TSR_CONST uint kFeedForwardState = 8;
TSR_CONST uint kFeedForwardResidual = 9;
TSR_CONST uint kFeedForwardPartials = 10;  // (splits, rows, n) f32: sums over parts of the hidden dimension
TSR_CONST uint kFeedForwardBindings = 11;

TSR_CONST uint kFeedForwardFlagBias = 1;  // of w, and of up
TSR_CONST uint kFeedForwardFlagGated = 2;
TSR_CONST uint kFeedForwardFlagDynamic = 4;  // the number of rows is StepState's
TSR_CONST uint kFeedForwardFlagVec4 = 8;     // k is a multiple of 4
TSR_CONST uint kFeedForwardFlagResidual = 16;
TSR_CONST uint kFeedForwardFlagDownBias = 32;
TSR_CONST uint kFeedForwardFlagXHalf = 64;   // x is f16
TSR_CONST uint kFeedForwardFlagYHalf = 128;  // y and residual are f16
TSR_CONST uint kFeedForwardFlagSplit = 256;  // partials are written instead of y

TSR_CONST uint kFeedForwardSpecGroup = 0;  // invocations of a workgroup; feed_forward_lanes: a subgroup
TSR_CONST uint kFeedForwardSpecType = 1;   // kType* of w, up and down
TSR_CONST uint kFeedForwardSpecFlags = 2;  // kFeedForwardFlag*
TSR_CONST uint kFeedForwardSpecAct = 3;    // kAct*
TSR_CONST uint kFeedForwardSpecColumns = 4;   // of y, a lane
TSR_CONST uint kFeedForwardSpecLaneRows = 5;  // of x, a lane
// feed_forward: the lanes of a workgroup are LANES_M x (GROUP / LANES_M), and X_VEC4 are kept of a row of x.
TSR_CONST uint kFeedForwardSpecLanesM = 6;
TSR_CONST uint kFeedForwardSpecXVec4 = 7;
TSR_CONST uint kFeedForwardSpecs = 8;
TSR_CONST uint kFeedForwardLanesSpecs = 6;
TSR_CONST uint kFeedForwardMergeSpecs = 3;

struct FeedForwardPush {
  uint rows;
  uint k;       // columns of x
  uint hidden;  // rows of w and up
  uint n;       // columns of y
  uint row_words;   // uvec4 a row of w and up
  uint down_words;  // uvec4 a row of down
  uint splits;      // parts of the hidden dimension
  uint share;       // tiles of hidden units a part
  uint groups_x;
  uint groups_y;
};

TSR_INTERFACE_END
#endif
