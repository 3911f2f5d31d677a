// Rows of x as blocks of 32 whole multiples of max|x| / 127. A lane a block.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/matmul.h"
#include "interface/quantise.h"
#include "interface/state.h"

layout(constant_id = kQuantiseSpecGroup) const uint GROUP = 64;
layout(constant_id = kQuantiseSpecFlags) const uint FLAGS = 0;
layout(constant_id = kQuantiseSpecEvenFirst) const uint EVEN_FIRST = 0;
layout(local_size_x_id = kQuantiseSpecGroup) in;

layout(push_constant) uniform Push { QuantisePush p; };
layout(std430, binding = kQuantiseState) readonly buffer State { uint state[]; };
layout(std430, binding = kQuantiseBlocks) writeonly buffer Blocks { uvec4 blocks[]; };  // (batch, rows, k/32, 3)

const bool DYNAMIC = (FLAGS & kMatmulFlagDynamic) != 0;
const bool VEC4 = (FLAGS & kMatmulFlagVec4) != 0;
const bool X_HALF = (FLAGS & kMatmulFlagXHalf) != 0;
// Steps of blocks below this would have no reciprocal: such a block is zero.
const float kLeast = 3.0e-36;

#include "lib/grid.glsl"
#include "lib/half.glsl"
#define X_BINDING kQuantiseX  // (batch, rows, k)
#include "lib/x_elements.glsl"

vec4 load_x(uint i) {
  return VEC4 ? load_x4(i) : vec4(load_x1(i), load_x1(i + 1), load_x1(i + 2), load_x1(i + 3));
}

uint bytes_of(ivec4 q) {
  return uint(q.x & 255) | uint(q.y & 255) << 8 | uint(q.z & 255) << 16 | uint(q.w) << 24;
}

void main() {
  uint k_blocks = p.k / kQuantisedBlock, rows = DYNAMIC ? min(p.rows, state[kStateRows]) : p.rows;
  uint block = group_index(p.groups_x, p.groups_y) * GROUP + gl_LocalInvocationID.x;
  uint row = block / k_blocks % p.rows, matrix = block / (k_blocks * p.rows);
  if (row >= rows || matrix >= p.batch) return;
  uint first = matrix / p.inner * p.x_outer + matrix % p.inner * p.x_batch + row * p.x_stride +
               block % k_blocks * kQuantisedBlock;

  vec4 x[8];
  uvec4 most = uvec4(0);  // as bits: a NaN is above all
  [[unroll]] for (uint j = 0; j < 8; ++j) {
    x[j] = load_x(first + 4 * j);
    most = max(most, floatBitsToUint(x[j]) & 0x7fffffffu);
  }
  uint largest = max(max(most.x, most.y), max(most.z, most.w));
  bool finite = largest < 0x7f800000u, zero = uintBitsToFloat(largest) < kLeast;
  float scale = finite && !zero ? 127.0 / uintBitsToFloat(largest) : 0.0;

  ivec4 q[8];
  ivec2 sums = ivec2(0);
  [[unroll]] for (uint j = 0; j < 8; ++j) {
    // What is not finite is in the step, and spreads from there: times its sign, or by an infinity times 0.
    ivec4 bits = floatBitsToInt(x[j]), spreads = (bits >> 31) * 2 + 1;
    q[j] = finite ? ivec4(roundEven(x[j] * scale))
                  : mix(spreads, ivec4(0), lessThan(bits & 0x7fffffff, ivec4(0x7f800000)));
    sums[j / 4] += q[j].x + q[j].y + q[j].z + q[j].w;
  }
  uvec4 words[2];
  [[unroll]] for (uint j = 0; j < 4; ++j) {
    ivec4 a = q[2 * j], b = q[2 * j + 1];
    words[j / 2][2 * (j % 2)] = bytes_of(EVEN_FIRST != 0 ? ivec4(a.xz, b.xz) : a);
    words[j / 2][2 * (j % 2) + 1] = bytes_of(EVEN_FIRST != 0 ? ivec4(a.yw, b.yw) : b);
  }
  float step = zero ? 0.0 : uintBitsToFloat(largest) / 127.0;
  blocks[block * kQuantisedVectors] = words[0];
  blocks[block * kQuantisedVectors + 1] = words[1];
  blocks[block * kQuantisedVectors + 2] =
      uvec4(floatBitsToUint(step), uint(sums.x & 0xffff) | uint(sums.y) << 16, 0, 0);
}
