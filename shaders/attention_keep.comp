// Of each row the k keys with the highest scores, as bits: a radix select from the highest digit down, over the
// scores and, for equal ones, over the keys, the lowest first. docs/kernels/attention.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/attention.glsl"

layout(local_size_x_id = kAttentionSpecGroup) in;
layout(std430, binding = kKeepScores) readonly buffer Scores { float scores[]; };  // (batch, heads, q_len, kv_len)
layout(std430, binding = kAttentionOut) writeonly buffer Keep { uint keep[]; };    // (batch, heads, q_len, keep_row)

const uint kDigits = 256;
shared uint count[kDigits];
shared uint chosen;  // digit
shared uint wanted;  // keys to be found among those whose digits so far are the chosen ones

// Ascending with x; a score of -infinity, which is masked, gives 0.
uint ordered(float x) {
  uint bits = floatBitsToUint(x == 0 ? 0.0 : x);
  if (bits == 0xff800000u) return 0;
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

void main() {
  uint lane = gl_LocalInvocationID.x, row = gl_WorkGroupID.x;
  uint at = (gl_WorkGroupID.z * p.heads + gl_WorkGroupID.y) * p.q_len + row;
  if (row >= uint(sequence_of(gl_WorkGroupID.z).rows)) return;
  uint first = at * p.kv_len;
  if (lane == 0) wanted = p.top_k;
  // The last key that is kept has this score, and this much is left of kv_len behind it.
  uint least = 0, behind = 0;
  [[dont_unroll]] for (int digit = 7; digit >= 0; --digit) {
    uint shift = 8 * (uint(digit) & 3u);
    bool of_score = digit >= 4;
    if (!of_score && digit > 0 && p.kv_len >> shift == 0) continue;
    for (uint i = lane; i < kDigits; i += GROUP) count[i] = 0;
    barrier();
    uint above = shift == 24 ? 0 : 0xffffffffu << (shift + 8);
    for (uint key = lane; key < p.kv_len; key += GROUP) {
      uint score = ordered(scores[first + key]);
      bool among = of_score ? ((score ^ least) & above) == 0
                            : score == least && (((p.kv_len - key) ^ behind) & above) == 0;
      if (among && score != 0) atomicAdd(count[((of_score ? score : p.kv_len - key) >> shift) & 255u], 1);
    }
    barrier();
    if (lane == 0) {
      uint left = wanted, d = kDigits;
      chosen = 0;  // fewer keys than wanted: all are kept
      while (d > 0) {
        --d;
        if (count[d] >= left) {
          chosen = d;
          break;
        }
        left -= count[d];
      }
      wanted = left;
    }
    barrier();
    if (of_score) least |= chosen << shift; else behind |= chosen << shift;
  }
  for (uint word = lane; word < p.keep_row; word += GROUP) {
    uint bits = 0;
    for (uint i = 0; i < 32 && 32 * word + i < p.kv_len; ++i) {
      uint key = 32 * word + i, score = ordered(scores[first + key]);
      if (score != 0 && (score > least || (score == least && p.kv_len - key >= behind))) bits |= 1u << i;
    }
    keep[at * p.keep_row + word] = bits;
  }
}
