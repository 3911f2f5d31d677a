#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/embedding.h"
#include "interface/state.h"

layout(constant_id = kEmbeddingSpecGroup) const uint GROUP = 64;
layout(constant_id = kEmbeddingSpecType) const uint WEIGHT_TYPE = kTypeF32;
layout(local_size_x_id = kEmbeddingSpecGroup) in;

layout(push_constant) uniform Push { EmbeddingPush p; };
layout(std430, binding = kEmbeddingTokens) readonly buffer Tokens { uint tokens[]; };
layout(std430, binding = kEmbeddingState) readonly buffer State { uint state[]; };
layout(std430, binding = kEmbeddingTable) readonly buffer Table4 { uvec4 table4[]; };  // (count, row_words)
layout(std430, binding = kEmbeddingTable) readonly buffer Table1 { uint table1[]; };
layout(std430, binding = kEmbeddingPositions) readonly buffer Positions { float positions[]; };  // (context, dim)
layout(std430, binding = kEmbeddingOut) writeonly buffer Out { float embedded[]; };  // (rows, dim)

uvec4 weight_words(uint which, uint i) { return table4[i]; }
uint weight_word(uint which, uint i) { return table1[i]; }
#include "lib/grid.glsl"
#include "lib/half.glsl"
#include "lib/load.glsl"

void put(uint row, uint position, uint col, float w) {
  float added = (p.flags & kEmbeddingFlagPositions) != 0 ? positions[position * p.dim + col] : 0.0;
  embedded[row * p.dim + col] = p.scale * w + added;
}

void main() {
  uint row = group_index(p.groups_x, p.groups_y);
  bool batch = (p.flags & kEmbeddingFlagBatch) != 0;
  if (row >= (batch ? p.rows : min(p.rows, state[kStateRows]))) return;
  uint position = state[kStatePosition] + (batch ? 0 : row);
  uint entry = tokens[batch ? row : position] - p.first;  // ids below `first` wrap and are refused too
  if (entry >= p.count) return;
  for (uint col = gl_LocalInvocationID.x * 8; col < p.dim; col += GROUP * 8) {
    Weights8 w = load8(0, entry * p.row_words, p.dim, col);
    for (uint i = 0; i < 4; ++i) {
      if (col + i < p.dim) put(row, position, col + i, w.lo[i]);
      if (col + 4 + i < p.dim) put(row, position, col + 4 + i, w.hi[i]);
    }
  }
}
