// From a product q.k to what goes into softmax, in units of log2(e), for one row of one head and one key.
layout(std430, binding = kAttentionMask) readonly buffer Mask { uint mask_words[]; };
layout(std430, binding = kAttentionBias) readonly buffer Bias { uint bias_words[]; };
layout(std430, binding = kAttentionKeep) readonly buffer Keep { uint keep_words[]; };
layout(std430, binding = kAttentionVector) readonly buffer Vector { float vector[]; };  // (heads, DIM)
layout(std430, binding = kAttentionSlopes) readonly buffer Slopes { float slopes[]; };
layout(std430, binding = kAttentionSlopes) readonly buffer Relative { float relative[]; };  // (entries, heads)

const uint MASK_TYPE = (FLAGS >> kAttentionMaskShift) & 15u;  // plus 1; 0: none
const uint BIAS_TYPE = (FLAGS >> kAttentionBiasShift) & 15u;
const uint kMaskU8 = 6;
const bool HAS_MASK = MASK_TYPE != 0;
const bool HAS_BIAS = BIAS_TYPE != 0;
const bool BY_DISTANCE = HAS_SLOPES || RELATIVE_DISTANCE;
// adjust() changes scores also where every row sees every key.
const bool CHANGES_SCORES = HAS_MASK || HAS_BIAS || BY_DISTANCE || RELATIVE_WINDOW || HAS_SOFTCAP || HAS_KEEP;
#ifdef USER_FUNCTIONS
#include "lib/attention_user.glsl"
#define FIRST_TILE(t, rows, step, cols, end) \
  user_first_tile(t.sequence.batch, t.head / p.group, t.first / rows, step, cols, end)
#define NEXT_TILE(step, cols, end) user_next_tile(step, cols, end)
#define ADJUSTS (CHANGES_SCORES || USER_SCORE != 0 || !user_sees_all)
#else
#define FIRST_TILE(t, rows, step, cols, end) step
#define NEXT_TILE(step, cols, end) step
#define ADJUSTS CHANGES_SCORES
const float kScoreUnit = kLog2E;  // what scores are multiplied by until the end of adjust()
#endif

float max4(vec4 v) { return max(max(v.x, v.y), max(v.z, v.w)); }

float dot_add(float sum, vec4 a, vec4 b) {
  sum += a.x * b.x;
  sum += a.y * b.y;
  sum += a.z * b.z;
  return sum + a.w * b.w;
}

// What q is multiplied by (with cosine the cosine, of additive scores the sum). With a soft-cap, scores are in
// units of it until adjust().
const bool SCALES_LATE = COSINE || ADDITIVE;
float score_scale() { return HAS_SOFTCAP ? p.scale / p.softcap : p.scale * kScoreUnit; }

// Relative error of a few ulp everywhere; tanh() of some drivers overflows.
float tanh_of(float x) {
  float t = exp2(2 * kLog2E * clamp(x, -10.0, 10.0)), xx = x * x;
  float near_0 = x + x * xx * (-1 / 3.0 + xx * (2 / 15.0 + xx * (-17 / 315.0 + xx * (62 / 2835.0))));
  return abs(x) < 0.25 ? near_0 : (t - 1) / (t + 1);
}

// Elements 4 i .. 4 i + 3 of the vector of additive scores, 0 past its end.
vec4 load_vector(uint head, uint i) {
  vec4 v = vec4(0);
  [[unroll]] for (uint e = 0; e < 4; ++e)
    if (4 * i + e < DIM) v[e] = vector[head * DIM + 4 * i + e];
  return v;
}
// sum + v . tanh(q + k), tanh within a few ulp of 1.
float additive(float sum, vec4 q, vec4 k, vec4 v) {
  vec4 e = exp2(2 * kLog2E * clamp(q + k, -10.0, 10.0));
  return dot_add(sum, v, 1 - 2 / (e + 1));
}
// A part of the score of q and k; `v` is of the additive one alone.
float score_add(float sum, vec4 q, vec4 k, vec4 v) { return ADDITIVE ? additive(sum, q, k, v) : dot_add(sum, q, k); }

// 1/|x| from |x|^2, 0 of a zero vector.
float inverse_norm(float square) { return square > 0 ? 1 / sqrt(square) : 0; }

float word_element(uint type, uint word, uint i) {
  if (type == kTypeF32) return uintBitsToFloat(word);
  uint half_word = (i & 1u) == 0u ? word & 0xffffu : word >> 16;
  return type == kTypeF16 ? unpackHalf2x16(half_word).x : uintBitsToFloat(half_word << 16);
}

struct ScoreRow {
  uint mask;   // element of key 0
  uint bias;
  float slope;  // times kScoreUnit
  int diagonal;
  uint batch;
  uint head;
  uint row;
  uint keep;  // word of key 0
};

ScoreRow score_row(uint batch, uint head, uint row, int diagonal) {
  ScoreRow r = ScoreRow(0, 0, 0, diagonal, batch, head, row, 0);
  if (HAS_KEEP) r.keep = ((batch * p.heads + head) * p.q_len + row) * p.keep_row;
  if (HAS_MASK) r.mask = batch * p.mask_batch + head * p.mask_head + row * p.mask_row;
  if (HAS_BIAS) r.bias = batch * p.bias_batch + head * p.bias_head + row * p.bias_row;
  if (HAS_SLOPES) r.slope = slopes[head] * kScoreUnit;
  return r;
}

// `unit`: what `s` is multiplied by.
float biased(float s, float bias, float unit) { return bias < -1e38 ? kMasked : s + bias * unit; }

float relative_bias(ScoreRow r, uint key) {
  uint size = p.relative_size;
  if (RELATIVE_DISTANCE) {
    uint entry = uint(clamp(int(key) - r.diagonal, -int(size), int(size)) + int(size));
    return relative[entry * p.heads + r.head];
  }
  uint last_row = p.q_len / size - 1;
  uint entry = (r.row / size + last_row - key / size) * (2 * size - 1) + r.row % size + size - 1 - key % size;
  return relative[entry * p.heads + r.head];
}

float capped(float s) { return HAS_SOFTCAP ? tanh_of(s) * (p.softcap * kScoreUnit) : s; }

// `key` is one that exists.
float adjust(ScoreRow r, float s, int key) {
  s = capped(s);
  if (HAS_SLOPES) s -= r.slope * float(abs(r.diagonal - key));
  if (RELATIVE_DISTANCE || RELATIVE_WINDOW) s = biased(s, relative_bias(r, uint(key)), kScoreUnit);
  if (HAS_BIAS) {
    uint i = r.bias + uint(key) * p.bias_key;
    s = biased(s, word_element(BIAS_TYPE - 1, bias_words[BIAS_TYPE - 1 == kTypeF32 ? i : i >> 1], i), kScoreUnit);
  }
#ifdef USER_FUNCTIONS
  s = user_adjusted(uvec3(r.batch, r.head, r.row), s, key);
#endif
  if (HAS_MASK) {
    uint i = r.mask + uint(key) * p.mask_key;
    if (MASK_TYPE - 1 == kMaskU8) {
      if (((mask_words[i >> 2] >> (8 * (i & 3u))) & 255u) == 0) s = kMasked;
    } else {
      s = biased(s, word_element(MASK_TYPE - 1, mask_words[MASK_TYPE - 1 == kTypeF32 ? i : i >> 1], i), kLog2E);
    }
  }
  if (HAS_KEEP && (keep_words[r.keep + (uint(key) >> 5)] >> (uint(key) & 31u) & 1u) == 0) s = kMasked;
  return max(s, kMasked);
}
