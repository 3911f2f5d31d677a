#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/state.h"
#include "interface/step.h"

layout(local_size_x = 1) in;

layout(std430, binding = kAdvanceState) buffer State { uint state[]; };

void main() {
  state[kStatePosition] += state[kStateRows];
  state[kStateRows] = 0;
}
