// The small values that change from pass to pass. They live in buffers that ops read and advance themselves,
// so that a recorded pass is replayed as it is. Layout shared with shaders/interface/state.h (4-byte
// scalars).
#pragma once

#include <cstdint>

namespace tessera {

// A pass of a graph takes the positions [position, position+rows). Input "tokens" of a decoder, u32
// (context+1), has their ids, and room for one that is sampled when the cache is full.
// advance (the end of a prefill chunk): position += rows, rows = min(remaining, chunk), remaining -= rows.
// With
//   rows another chunk follows; with none the tokens are in the cache, nothing is pending, and "head" samples
//   from the last hidden row.
// sample: id from the logits; tokens[position+rows] = id, token = id, position += rows, rows = 1: the new
//   token is pending, and the next pass ("decode") takes it. After advance rows is 0: tokens[position] = id.
//   Without an id it changes nothing but the status, and with a status other than ok nothing at all: passes
//   that were submitted after it do no harm. The host makes it ok again.

// input "state", u32 (8)
struct StepState {
  std::uint32_t position = 0;   // tokens already in the cache: row i of the pass is at position+i
  std::uint32_t rows = 0;       // rows of the pass, at most the graph's max_rows: tokens not yet in the cache
  std::uint32_t status = 0;     // kStatusOk, or what sample found
  std::uint32_t token = 0;      // sample: the id it chose
  std::uint32_t remaining = 0;  // of a prompt after this pass's rows
  std::uint32_t reserved[3] = {};
};
// In "tokens" where no id has been sampled yet; no vocabulary has it.
inline constexpr std::uint32_t kNoToken = 0xffffffffu;
inline constexpr std::uint32_t kStatusOk = 0;
inline constexpr std::uint32_t kStatusNaN =
    1;  // a logit is NaN or +infinity, or all are -infinity, also after the penalty: no id chosen

// input "sampler", u32 (8). Applied in this order: penalty, temperature, top_k, top_p, min_p; ties go to the
// lowest id everywhere.
//   penalty: a logit of each distinct id among the last `penalty_last` tokens (before position+rows, as many
//            as there are) is divided by it when positive, multiplied when negative (1: off)
//   temperature 0: greedy, the rest is not applied
//   top_k: the k largest stay (0: all); top_p: the shortest prefix in descending order whose probability
//   (softmax over what is left) reaches p stays (1: all; at least one); min_p: what has at least
//   min_p * the largest probability stays (0: all)
//   The draw: u in [0,1) = Philox4x32-10(counter {position+rows of the new token,0,0,0}, key seed)[0] >> 8,
//   times 2^-24; ids in ascending order, the first whose cumulative probability exceeds u.
struct SamplerParams {
  float temperature = 0;
  std::uint32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float penalty = 1;
  std::uint32_t penalty_last = 64;
  std::uint32_t seed_low = 0;
  std::uint32_t seed_high = 0;
};

}  // namespace tessera
