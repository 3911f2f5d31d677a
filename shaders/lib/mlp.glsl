// What both forms of a network share: its layers, guarded loads of x, and y.
const bool DYNAMIC = (FLAGS & kMlpFlagDynamic) != 0;
const bool VEC4 = (FLAGS & kMlpFlagVec4) != 0;
const bool X_HALF = (FLAGS & kMlpFlagXHalf) != 0;
const bool Y_HALF = (FLAGS & kMlpFlagYHalf) != 0;
const uint MATRICES = 1;

layout(push_constant) uniform Push { MlpPush p; };
layout(std430, binding = kMlpWeights) readonly buffer W4 { uvec4 w4[]; };
layout(std430, binding = kMlpWeights) readonly buffer W1 { uint w1[]; };
layout(std430, binding = kMlpY) buffer Y { uint y[]; };  // (rows, n of the last layer)
layout(std430, binding = kMlpState) readonly buffer State { uint state[]; };
layout(std430, binding = kMlpParams) readonly buffer Params { uint params[]; };  // (layers, kMlpLayerWords)

uvec4 weight_words(uint which, uint i) { return w4[i]; }
uint weight_word(uint which, uint i) { return w1[i]; }

#define X_BINDING kMlpX
#include "activation.glsl"
#include "grid.glsl"
#include "half.glsl"
#include "load.glsl"
#include "x_rows.glsl"

uint row_count() { return DYNAMIC ? min(p.rows, state[kStateRows]) : p.rows; }

struct Layer {
  uint k, n, row_words, weights, bias, act;
};
Layer layer_of(uint i) {
  uint at = i * kMlpLayerWords;
  return Layer(params[at + kMlpLayerK], params[at + kMlpLayerN], params[at + kMlpLayerRowWords],
               params[at + kMlpLayerWeights], params[at + kMlpLayerBias], params[at + kMlpLayerAct]);
}

// Only activations that occur are in the code: software drivers compute all sides of a branch.
float activate_of(Layer layer, float x) {
  float value = x;
  [[unroll]] for (uint act = kActSilu; act <= kActSigmoid; ++act)
    if (ACTS == 1u << act)
      value = activate(act, x);
    else if ((ACTS >> act & 1u) != 0u)
      value = layer.act == act ? activate(act, x) : value;
  return value;
}

// Apart from output_of() because drivers do not see that all rows have the same.
float bias_of(Layer layer, uint col) {
  return layer.bias != kMlpNoBias ? uintBitsToFloat(w1[layer.bias + min(col, layer.n - 1)]) : 0.0;
}

// Element `col` of the layer's output; columns past the end are 0.
float output_of(Layer layer, uint col, float bias, float sum) {
  float value = activate_of(layer, sum + bias);
  return col < layer.n ? value : 0.0;
}

void store_y(uint i, float value) {
  if (Y_HALF) {  // the other half of the word is another invocation's
    uint shift = (i & 1u) * 16u;
    atomicAnd(y[i >> 1], ~(0xffffu << shift));
    atomicOr(y[i >> 1], half_bits(value) << shift);
  } else {
    y[i] = floatBitsToUint(value);
  }
}
