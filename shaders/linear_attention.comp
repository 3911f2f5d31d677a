#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "interface/linear_attention.h"

layout(constant_id = kLinearSpecGroup) const uint GROUP = 64;
layout(constant_id = kLinearSpecChunk) const uint CHUNK = 16;
layout(constant_id = kLinearSpecRows) const uint ROWS = 2;
layout(local_size_x_id = kLinearSpecGroup) in;
#include "lib/linear_attention.glsl"

const uint K4 = (K_DIM + 3) / 4;
const uint PITCH = K4 | 1;  // odd: lanes on rows of their own meet no bank twice
const uint WIDTH4 =
    COLS4 + (NORMALISE ? 1 : 0);  // the normaliser is the state of a column of ones behind v's
const uint BLOCKS = CHUNK / ROWS;
// vec4 of two rows in flight: unrolled further, Adreno 660 spills.
const uint D_STEP = K4 % 4 == 0 ? 4 : 1;

shared vec4 states[K4 * 4 * WIDTH4];             // (4 K4, WIDTH4)
shared vec4 keys[CHUNK * PITCH];                 // f(k)
shared vec4 staged[CHUNK * PITCH];               // f(q), or f(k), with decays
shared vec4 decays[BY_DIM ? CHUNK * PITCH : 1];  // g summed up from the chunk's first row on
shared float row_decays[GATED && !BY_DIM ? CHUNK : 1];
shared vec4 news[CHUNK * WIDTH4];   // v, then u
shared float pairs[CHUNK * CHUNK];  // products of rows t and j <= t
shared float betas[CHUNK];
shared float denominators[NORMALISE ? CHUNK : 1];
shared vec4 partial[PARTS > 1 ? GROUP : 1];

vec4 features(vec4 x, uint i) {  // elements past the head's stay zero
  vec4 f = vec4(0);
  for (uint e = 0; e < 4; ++e)
    if (4 * i + e < K_DIM) f[e] = feature(x[e]);
  return f;
}

void load_state(Place at) {
  for (uint i = lane(); i < K4 * 4 * WIDTH4; i += GROUP) {
    uint d = i / WIDTH4, c = i % WIDTH4;
    vec4 s = vec4(0);
    if (d < K_DIM) {
      if (c >= COLS4)
        s.x = p.has_past_normaliser != 0 ? past_z[state_of(at) + d] : 0;
      else if (p.has_past != 0 && column_of(at, c) < p.v_dim)
        s = load_past((state_of(at) + d) * p.v_dim, at.tile * COLS4 + c);
    }
    states[i] = s;
  }
}

void store_state(Place at) {
  for (uint i = lane(); i < K_DIM * WIDTH4; i += GROUP) {
    uint d = state_of(at) + i / WIDTH4, c = i % WIDTH4, column = column_of(at, c);
    if (c >= COLS4) {
      if (p.store_normaliser != 0 && at.tile == 0) present_z[d] = states[i].x;
    } else if (p.store_state != 0) {
      store_present(d, column, states[i]);
    }
  }
}

// Rows [row, row + n) of k, v, decay and beta; past them zeros, which leave the state alone.
void load_chunk(Place at, uint row, uint n) {
  for (uint i = lane(); i < CHUNK * K4; i += GROUP) {
    uint t = i / K4, d = i % K4;
    vec4 x = vec4(0);
    uint key_row = at.batch % p.key_sequences * p.len + row + t;
    if (t < n) x = features(load_k((key_row * p.kv_heads + at.kv_head) * K_DIM, d), d);
    keys[t * PITCH + d] = x;
  }
  for (uint i = lane(); i < CHUNK * WIDTH4; i += GROUP) {
    uint t = i / WIDTH4, c = i % WIDTH4;
    vec4 x = vec4(0);
    if (t < n && c >= COLS4)
      x.x = 1;
    else if (t < n && column_of(at, c) < p.v_dim)
      x = load_v((row_of(at, row + t) * p.kv_heads + at.kv_head) * p.v_dim, at.tile * COLS4 + c);
    news[i] = x;
  }
  if (DELTA)
    for (uint t = lane(); t < CHUNK; t += GROUP)
      betas[t] = t < n ? beta[row_of(at, row + t) * p.betas + (p.betas == 1 ? 0 : at.kv_head)] : 0;
  if (GATED && BY_DIM)
    for (uint d = lane(); d < K4; d += GROUP) {
      vec4 sum = vec4(0);
      for (uint t = 0; t < CHUNK; ++t) {
        if (t < n)
          sum += max(load_decay((row_of(at, row + t) * p.kv_heads + at.kv_head) * K_DIM, d), kLinearLeastDecay);
        decays[t * PITCH + d] = sum;
      }
    }
  if (GATED && !BY_DIM)
    for (uint t = lane(); t < CHUNK; t += GROUP) {
      float sum = 0;
      for (uint j = 0; j <= t; ++j)
        if (j < n) sum += max(element_decay(row_of(at, row + j) * p.kv_heads + at.kv_head), kLinearLeastDecay);
      row_decays[t] = sum;
    }
}

void load_queries(Place at, uint row, uint n, uint head) {
  for (uint i = lane(); i < CHUNK * K4; i += GROUP) {
    uint t = i / K4, d = i % K4;
    vec4 x = vec4(0);
    if (t < n) x = features(load_q((row_of(at, row + t) * p.heads + head) * K_DIM, d), d);
    staged[t * PITCH + d] = x;
  }
}

// What is left of the state before the chunk at row t.
vec4 since_begin(uint t, uint d) {
  if (!GATED) return vec4(1);
  return BY_DIM ? exp(decays[t * PITCH + d]) : vec4(exp(row_decays[t]));
}
// What is left of row j at row t >= j.
vec4 between(uint t, uint j, uint d) {
  if (!GATED) return vec4(1);
  return BY_DIM ? exp(decays[t * PITCH + d] - decays[j * PITCH + d])
                : vec4(exp(row_decays[t] - row_decays[j]));
}

// Row t of staged (queries) or of keys, times keys[j] with what is left of it.
float pair(uint t, uint j, bool query) {
  float sum = 0;
  [[dont_unroll]] for (uint d0 = 0; d0 < K4; d0 += D_STEP)
    [[unroll]] for (uint i = 0; i < D_STEP; ++i) {
      uint d = d0 + i;
      vec4 a = query ? staged[t * PITCH + d] : keys[t * PITCH + d], b = keys[j * PITCH + d];
      sum += dot(a, BY_DIM ? b * between(t, j, d) : b);
    }
  return GATED && !BY_DIM ? sum * between(t, j, 0).x : sum;
}

// Columns c of staged rows [t, t + ROWS) times the state, and with `chunk` what rows of the chunk up to each
// add to it. From all lanes, PARTS neighbours on the same rows: all of them get the sums.
void times_state(uint t, uint c, bool inside, bool chunk, out vec4 sums[ROWS]) {
  for (uint r = 0; r < ROWS; ++r) sums[r] = vec4(0);
  if (inside) {
    [[dont_unroll]] for (uint d = lane() % PARTS; d < K4; d += PARTS) {
      uint s = 4 * d * WIDTH4 + c;
      vec4 s0 = states[s], s1 = states[s + WIDTH4], s2 = states[s + 2 * WIDTH4], s3 = states[s + 3 * WIDTH4];
      for (uint r = 0; r < ROWS; ++r) {
        vec4 x = staged[(t + r) * PITCH + d];
        sums[r] += x.x * s0 + x.y * s1 + x.z * s2 + x.w * s3;
      }
    }
    if (chunk)
      for (uint r = 0; r < ROWS; ++r)
        for (uint j = lane() % PARTS; j <= t + r; j += PARTS)
          sums[r] += pairs[(t + r) * CHUNK + j] * news[j * WIDTH4 + c];
  }
  if (PARTS == 1) return;
  for (uint r = 0; r < ROWS; ++r) {
    barrier();
    partial[lane()] = sums[r];
    barrier();
    sums[r] = vec4(0);
    for (uint i = 0; i < PARTS; ++i) sums[r] += partial[lane() / PARTS * PARTS + i];
  }
}

// The delta rules: v becomes u = beta (v - S'^T k), of all rows of the chunk.
void correct_news() {
  for (uint i = lane(); i < CHUNK * K4; i += GROUP) {
    uint at = i / K4 * PITCH + i % K4;
    staged[at] = keys[at] * since_begin(i / K4, i % K4);
  }
  for (uint i = lane(); i < CHUNK * CHUNK; i += GROUP) {
    uint t = i / CHUNK, j = i % CHUNK;
    if (j < t) pairs[i] = betas[t] * pair(t, j, false);
  }
  barrier();
  for (uint first = 0; first < BLOCKS * WIDTH4; first += GROUP / PARTS) {
    uint item = first + lane() / PARTS, t = item / WIDTH4 * ROWS, c = item % WIDTH4;
    bool inside = item < BLOCKS * WIDTH4;
    vec4 sums[ROWS];
    times_state(t, c, inside, false, sums);
    if (inside && lane() % PARTS == 0)
      for (uint r = 0; r < ROWS; ++r) {
        uint at = (t + r) * WIDTH4 + c;
        news[at] = betas[t + r] * (news[at] - sums[r]);
      }
  }
  barrier();
  // Forward substitution: a lane has its columns of all rows.
  for (uint c = lane(); c < WIDTH4; c += GROUP)
    for (uint t = 1; t < CHUNK; ++t) {
      vec4 u = news[t * WIDTH4 + c];
      for (uint j = 0; j < t; ++j) u -= pairs[t * CHUNK + j] * news[j * WIDTH4 + c];
      news[t * WIDTH4 + c] = u;
    }
  barrier();
}

// y of one head's staged rows.
void outputs(Place at, uint row, uint n, uint head) {
  if (UPDATE) {
    for (uint i = lane(); i < CHUNK * CHUNK; i += GROUP) {
      uint t = i / CHUNK, j = i % CHUNK;
      if (j <= t) pairs[i] = pair(t, j, true);
    }
    barrier();
    if (GATED) {
      for (uint i = lane(); i < CHUNK * K4; i += GROUP)
        staged[i / K4 * PITCH + i % K4] *= since_begin(i / K4, i % K4);
      barrier();
    }
  }
  vec4 sums[ROWS];
  if (NORMALISE) {
    for (uint first = 0; first < BLOCKS; first += GROUP / PARTS) {
      uint t = (first + lane() / PARTS) * ROWS;
      times_state(t, COLS4, t < CHUNK, UPDATE, sums);
      if (t < CHUNK && lane() % PARTS == 0)
        for (uint r = 0; r < ROWS; ++r) denominators[t + r] = sums[r].x + p.epsilon;
    }
    barrier();
  }
  for (uint first = 0; first < BLOCKS * COLS4; first += GROUP / PARTS) {
    uint item = first + lane() / PARTS, t = item / COLS4 * ROWS, c = item % COLS4;
    bool inside = item < BLOCKS * COLS4;
    times_state(t, c, inside, UPDATE, sums);
    if (!inside || lane() % PARTS != 0) continue;
    for (uint r = 0; r < ROWS; ++r) {
      if (t + r >= n) break;
      vec4 y = p.scale * sums[r];
      if (NORMALISE) {
        float denominator = denominators[t + r];
        y = denominator == 0 ? vec4(0) : y / denominator;
      }
      store_y((row_of(at, row + t + r) * p.heads + head) * p.v_dim, column_of(at, c), y);
    }
  }
}

void update_state() {
  if (GATED) {
    for (uint i = lane(); i < CHUNK * K4; i += GROUP) {
      uint t = i / K4, d = i % K4;
      staged[t * PITCH + d] = keys[t * PITCH + d] * between(CHUNK - 1, t, d);
    }
    barrier();
  }
  for (uint i = lane(); i < K4 * WIDTH4; i += GROUP) {
    uint d = i / WIDTH4, c = i % WIDTH4, s = 4 * d * WIDTH4 + c;
    vec4 left = since_begin(CHUNK - 1, d);
    vec4 s0 = states[s] * left.x, s1 = states[s + WIDTH4] * left.y, s2 = states[s + 2 * WIDTH4] * left.z,
         s3 = states[s + 3 * WIDTH4] * left.w;
    for (uint t = 0; t < CHUNK; ++t) {
      vec4 x = GATED ? staged[t * PITCH + d] : keys[t * PITCH + d], u = news[t * WIDTH4 + c];
      s0 += x.x * u;
      s1 += x.y * u;
      s2 += x.z * u;
      s3 += x.w * u;
    }
    states[s] = s0;
    states[s + WIDTH4] = s1;
    states[s + 2 * WIDTH4] = s2;
    states[s + 3 * WIDTH4] = s3;
  }
}

void main() {
  Place at;
  if (!find_place(at)) return;
  load_state(at);
  uint shared_by = p.heads / p.kv_heads;
  for (uint row = at.first; row < at.end; row += CHUNK) {
    uint n = min(CHUNK, at.end - row);
    if (UPDATE) load_chunk(at, row, n);
    barrier();
    if (DELTA) correct_news();
    if (OUTPUT)
      for (uint h = 0; h < shared_by; ++h) {
        load_queries(at, row, n, at.kv_head * shared_by + h);
        barrier();
        outputs(at, row, n, at.kv_head * shared_by + h);
        barrier();
      }
    if (UPDATE) update_state();
    barrier();
  }
  if (UPDATE) store_state(at);
}
