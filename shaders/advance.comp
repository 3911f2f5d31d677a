#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/state.h"
#include "interface/step.h"

layout(local_size_x = 1) in;

layout(push_constant) uniform Push { AdvancePush p; };
layout(std430, binding = kAdvanceState) buffer State { uint state[]; };

void main() {
  uint next = min(state[kStateRemaining], p.chunk);
  state[kStatePosition] += state[kStateRows];
  state[kStateRows] = next;
  state[kStateRemaining] -= next;
}
