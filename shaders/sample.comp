// Chooses the next token in one workgroup: src/graph/state.h says what, docs/kernels/sampling.md how.
// No step depends on the order of invocations: counts and masses are integers.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "interface/sample.h"
#include "interface/state.h"

layout(constant_id = kSampleSpecGroup) const uint GROUP = 256;
layout(local_size_x_id = kSampleSpecGroup) in;

layout(push_constant) uniform Push { SamplePush p; };
layout(std430, binding = kSampleLogits) readonly buffer Logits { uint logits[]; };  // (vocab) f32 bits
layout(std430, binding = kSampleTokens) buffer Tokens { uint tokens[]; };           // (context)
layout(std430, binding = kSampleState) buffer State { uint state[]; };
layout(std430, binding = kSampleSampler) readonly buffer Sampler { uint params[]; };
// Penalised logits as ordered integers. A word is only ever touched by the invocation id % GROUP.
layout(std430, binding = kSampleScratch) buffer Scratch { uint keys[]; };           // (vocab)
#include "lib/fixed64.glsl"
#include "lib/philox.glsl"

const uint MARKED = 16384;     // ids whose penalty marks are in shared memory at a time
const uint DIGITS = 256;
const uint BLOCK = 16;         // digits summed by one invocation
const uint kLeastKey = 0x007fffffu;  // of -infinity
const float kLog2E = 1.44269504088896340736;

shared uint marks[MARKED / 32];
shared uint digit_count[DIGITS];
shared uint digit_low[DIGITS];
shared uint digit_high[DIGITS];
shared uint block_count[DIGITS / BLOCK];
shared uvec2 block_mass[DIGITS / BLOCK];
shared uvec2 best_tile[GROUP];  // (GROUP): key, id
shared uint bad;
shared uint found_digit;
shared uint found_count;   // elements with the found prefix
shared uvec2 found_rest;   // what is still wanted within the found digit

uint lane() { return gl_LocalInvocationID.x; }

// Monotone in the float, -0 equal to +0.
uint to_key(uint bits) {
  if (bits == 0x80000000u) bits = 0;
  return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}
float from_key(uint key) { return uintBitsToFloat((key & 0x80000000u) != 0u ? key ^ 0x80000000u : ~key); }
// By bits: a compiler may assume that floats are finite.
bool is_bad(uint bits) { return (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u; }

// Element set of the steps: keys above cut_key, and cut_key itself up to id cut_id, with weight >= least.
uint cut_key = 0;
uint cut_id = 0xffffffffu;
float least_weight = 0;
uint max_key;
float rate;  // log2(e) / temperature

float weight(uint key) {  // of the largest: 1
  if (key == max_key) return 1;
  if (key == kLeastKey) return 0;
  return min(exp2(max((from_key(key) - from_key(max_key)) * rate, -150)), 1);
}

uvec2 mass(float w) {  // w in units of 2^-44, exact down to 2^-20; 2^18 of them fit in 64 bits
  float high = floor(w * 4096.0);
  return uvec2(uint((w * 4096.0 - high) * 4294967296.0), uint(high));
}

void mark_recent(uint base, uint length, uint recent) {
  for (uint i = lane(); i < MARKED / 32; i += GROUP) marks[i] = 0;
  barrier();
  for (uint i = lane(); i < recent; i += GROUP) {
    uint at = tokens[length - recent + i] - base;  // ids below `base` wrap
    if (at < MARKED) atomicOr(marks[at / 32], 1u << (at % 32));
  }
  barrier();
}

uint penalised(uint bits, float penalty) {
  float x = uintBitsToFloat(bits);
  return bits == 0xff800000u ? bits : floatBitsToUint(x > 0 ? x / penalty : x * penalty);
}

// Fills keys and gives the lane's largest (key, lowest id).
uvec2 prepare(uint length) {
  float penalty = uintBitsToFloat(params[kSamplerPenalty]);
  uint recent = penalty == 1 ? 0 : min(params[kSamplerPenaltyLast], length);
  uvec2 best = uvec2(0);
  bool lane_bad = false;
  for (uint base = 0; base < p.vocab; base += MARKED) {
    if (recent != 0) mark_recent(base, length, recent);
    uint end = min(base + MARKED, p.vocab);
    for (uint id = base + lane(); id < end; id += GROUP) {
      uint bits = logits[id];
      lane_bad = lane_bad || is_bad(bits);
      if (recent != 0 && (marks[(id - base) / 32] >> (id % 32) & 1u) != 0u) {
        bits = penalised(bits, penalty);
        lane_bad = lane_bad || is_bad(bits);
      }
      uint key = to_key(bits);
      keys[id] = key;
      if (key > best.x) best = uvec2(key, id);
    }
    if (recent != 0) barrier();
  }
  if (lane_bad) atomicOr(bad, 1u);
  return best;
}

uvec2 reduce_best(uvec2 best) {  // the largest key, then the lowest id
  best_tile[lane()] = best;
  for (uint half_group = GROUP / 2; half_group > 0; half_group /= 2) {
    barrier();
    if (lane() < half_group) {
      uvec2 a = best_tile[lane()], b = best_tile[lane() + half_group];
      best_tile[lane()] = b.x > a.x || (b.x == a.x && b.y < a.y) ? b : a;
    }
  }
  barrier();
  return best_tile[0];
}

const uint kByCount = 0;     // target is the operand
const uint kByReach = 1;     // mass: least that reaches operand / 2^32 of the whole
const uint kByExceed = 2;    // mass: least that exceeds operand / 2^32 of the whole
const uint kByRest = 3;      // mass: what is left of a select before, in found_rest

uvec2 target_of(uint mode, uint operand, uvec2 whole) {
  if (mode == kByCount) return uvec2(operand, 0);
  bool exact;
  uvec2 target = scale64(whole, operand, exact);
  if (mode == kByExceed || !exact) target = add64(target, uvec2(1, 0));
  return target == uvec2(0) ? uvec2(1, 0) : target;
}

void clear_digits() {
  for (uint i = lane(); i < DIGITS; i += GROUP) {
    digit_count[i] = 0;
    digit_low[i] = 0;
    digit_high[i] = 0;
  }
  barrier();
}

void sum_blocks() {
  barrier();
  for (uint b = lane(); b < DIGITS / BLOCK; b += GROUP) {
    uint count = 0;
    uvec2 sum = uvec2(0);
    for (uint i = b * BLOCK; i < (b + 1) * BLOCK; ++i) {
      count += digit_count[i];
      sum = add64(sum, uvec2(digit_low[i], digit_high[i]));
    }
    block_count[b] = count;
    block_mass[b] = sum;
  }
  barrier();
}

// By one invocation: the digit where the running sum reaches the target.
void find_digit(bool first, uint mode, uint operand) {
  bool counting = mode == kByCount;
  uvec2 rest = found_rest;
  if (first && mode != kByRest) {
    uvec2 whole = uvec2(0);
    for (uint b = 0; b < DIGITS / BLOCK; ++b) whole = add64(whole, block_mass[b]);
    rest = target_of(mode, operand, whole);
  }
  uint b = 0, last = DIGITS / BLOCK - 1;
  uvec2 sum = counting ? uvec2(block_count[0], 0) : block_mass[0];
  while (b < last && less64(sum, rest)) {
    rest = sub64(rest, sum);
    ++b;
    sum = counting ? uvec2(block_count[b], 0) : block_mass[b];
  }
  uint i = b * BLOCK;
  last = i + BLOCK - 1;
  sum = counting ? uvec2(digit_count[i], 0) : uvec2(digit_low[i], digit_high[i]);
  while (i < last && less64(sum, rest)) {
    rest = sub64(rest, sum);
    ++i;
    sum = counting ? uvec2(digit_count[i], 0) : uvec2(digit_low[i], digit_high[i]);
  }
  found_digit = i;
  found_count = digit_count[i];
  found_rest = rest;
}

// The element of the set, in ascending order of id or descending order of key, where the running count or
// mass reaches the target: its id or ~key, digit by digit. `ties`: only keys equal to cut_key.
uint select(bool by_id, bool ties, uint mode, uint operand) {
  uint prefix = 0, known = 0;
  int shift = by_id ? max(findMSB(p.vocab - 1), 0) / 8 * 8 : 24;
  for (bool first = true; shift >= 0; shift -= 8, first = false) {
    clear_digits();
    for (uint id = lane(); id < p.vocab; id += GROUP) {
      uint key = keys[id];
      uint field = by_id ? id : ~key;
      bool inside = ((field ^ prefix) & known) == 0u &&
                    (key == cut_key ? id <= cut_id : key > cut_key && !ties);
      if (inside) {
        uint digit = field >> shift & 255u;
        if (mode == kByCount) {
          atomicAdd(digit_count[digit], 1);
        } else {
          float w = weight(key);
          uvec2 m = mass(w);
          if (w >= least_weight && (m.x | m.y) != 0u) {
            atomicAdd(digit_count[digit], 1);
            uint before = atomicAdd(digit_low[digit], m.x);
            uint high = m.y + (before + m.x < before ? 1u : 0u);
            if (high != 0u) atomicAdd(digit_high[digit], high);
          }
        }
      }
    }
    sum_blocks();
    if (lane() == 0) find_digit(first, mode, operand);
    barrier();
    prefix |= found_digit << shift;
    known |= 255u << shift;
  }
  return prefix;
}

// The stages, each a select that narrows the set: one loop, so that the driver compiles select once.
const uint kTopKKey = 0, kTopKTies = 1, kTopPKey = 2, kTopPTies = 3, kDraw = 4;

uint draw(uint position) {
  rate = min(kLog2E / uintBitsToFloat(params[kSamplerTemperature]), 3.0e38);
  uint top_k = params[kSamplerTopK];
  float top_p = uintBitsToFloat(params[kSamplerTopP]);
  uint random = philox4x32(uvec4(position, 0, 0, 0), uvec2(params[kSamplerSeedLow], params[kSamplerSeedHigh]));
  bool cut_ties = false;
  uint chosen = 0;
  for (uint stage = kTopKKey; stage <= kDraw; ++stage) {
    bool wanted = cut_ties;
    uint mode = stage == kTopKTies ? kByCount : kByRest, operand = found_rest.x;
    if (stage == kTopKKey) {
      wanted = top_k != 0 && top_k < p.vocab;
      mode = kByCount;
      operand = top_k;
    } else if (stage == kTopPKey) {
      wanted = top_p < 1;
      mode = kByReach;
      operand = uint(max(top_p, 0) * 4294967296.0);
    } else if (stage == kDraw) {
      wanted = true;
      mode = kByExceed;
      operand = random & 0xffffff00u;
      least_weight = min(uintBitsToFloat(params[kSamplerMinP]), 1);
    }
    if (wanted) {
      bool by_key = stage == kTopKKey || stage == kTopPKey;
      chosen = select(!by_key, !by_key && stage != kDraw, mode, operand);
      if (by_key) {
        if (~chosen != cut_key) cut_id = 0xffffffffu;
        cut_key = ~chosen;
        cut_ties = mode == kByCount ? found_rest.x < found_count : found_count > 1;
      } else {
        cut_id = min(cut_id, chosen);
        cut_ties = false;
      }
    }
  }
  return chosen;
}

void main() {
  if (state[kStateStatus] != kStatusWordOk) return;
  if (lane() == 0) bad = 0;
  barrier();
  uint position = state[kStatePosition] + state[kStateRows];  // of the new token
  uvec2 best = reduce_best(prepare(min(position, p.context)));
  if (bad != 0 || best.x == kLeastKey) {
    if (lane() == 0) state[kStateStatus] = kStatusWordNaN;
    return;
  }
  max_key = best.x;
  uint id = best.y;
  if (uintBitsToFloat(params[kSamplerTemperature]) > 0) id = draw(position);
  if (lane() != 0) return;
  if (position < p.context) tokens[position] = id;
  state[kStateToken] = id;
  state[kStatePosition] = position;
  state[kStateRows] = 1;
  state[kStateStatus] = kStatusWordOk;
}
