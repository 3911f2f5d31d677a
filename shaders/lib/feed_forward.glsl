// What the forms of the fused feed-forward block share: weights, guarded loads of x, the hidden activation.
const bool BIAS = (FLAGS & kFeedForwardFlagBias) != 0;
const bool GATED = (FLAGS & kFeedForwardFlagGated) != 0;
const bool VEC4 = (FLAGS & kFeedForwardFlagVec4) != 0;
const bool X_HALF = (FLAGS & kFeedForwardFlagXHalf) != 0;
const bool SPLIT = (FLAGS & kFeedForwardFlagSplit) != 0;
const uint MATRICES = GATED ? 2 : 1;  // w, or w and up

#include "feed_forward_out.glsl"
#define X_BINDING kFeedForwardX
#include "x_rows.glsl"
layout(std430, binding = kFeedForwardW) readonly buffer W4 { uvec4 w4[]; };  // (hidden, row_words)
layout(std430, binding = kFeedForwardW) readonly buffer W1 { uint w1[]; };
layout(std430, binding = kFeedForwardUp) readonly buffer Up4 { uvec4 up4[]; };  // (hidden, row_words)
layout(std430, binding = kFeedForwardUp) readonly buffer Up1 { uint up1[]; };
layout(std430, binding = kFeedForwardDown) readonly buffer Down4 { uvec4 down4[]; };  // (n, down_words)
layout(std430, binding = kFeedForwardDown) readonly buffer Down1 { uint down1[]; };
layout(std430, binding = kFeedForwardBias) readonly buffer Bias { float bias[]; };         // (hidden)
layout(std430, binding = kFeedForwardUpBias) readonly buffer UpBias { float up_bias[]; };  // (hidden)
layout(std430, binding = kFeedForwardPartials) writeonly buffer Partials { float partials[]; };

const uint DOWN = 2;  // beside 0 and 1, w and up
uvec4 weight_words(uint which, uint i) { return which == 0 ? w4[i] : which == 1 ? up4[i] : down4[i]; }
uint weight_word(uint which, uint i) { return which == 0 ? w1[i] : which == 1 ? up1[i] : down1[i]; }

#include "activation.glsl"
#include "load.glsl"

// Of w and up, for hidden_of(). Apart from it because drivers do not see that all rows have the same.
vec2 biases_of(uint unit) {
  uint i = min(unit, p.hidden - 1);
  return vec2(BIAS ? bias[i] : 0.0, BIAS && GATED ? up_bias[i] : 0.0);
}

// From the sums over w and up; units past the end are 0, whatever their biases.
float hidden_of(uint unit, vec2 biases, float dot_w, float dot_up) {
  float value = activate(ACT, dot_w + biases.x);
  if (GATED) value *= dot_up + biases.y;
  return unit < p.hidden ? value : 0.0;
}

void store(uint split, uint row, uint col, float value) {
  if (SPLIT)
    partials[(split * p.rows + row) * p.n + col] = value;
  else
    store_y(row, col, value);
}
