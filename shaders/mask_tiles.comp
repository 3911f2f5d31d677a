// Which tiles of scores a user's mask leaves (docs/user_functions.md), a workgroup for each row of tiles. Of each tile
// two bits: the lower where some row sees some key, the upper where no row misses one; before them where they begin and
// end, so that what is one run of tiles needs no bits. LANES lanes share a word of 16 tiles side by side.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/attention.glsl"
#ifdef USER_FUNCTIONS
#include "lib/attention_user.glsl"
#else
const uint kUserBatches = 1, kUserHeads = 1;
bool user_mask(uint b, uint h, uint q, uint k) { return true; }
#endif

layout(constant_id = kMaskTilesSpecRows) const uint ROWS = 64;
layout(constant_id = kMaskTilesSpecCols) const uint COLS = 32;
layout(constant_id = kMaskTilesSpecLanes) const uint LANES = 128;
layout(constant_id = kMaskTilesSpecWhole) const uint WHOLE = 0;
layout(local_size_x_id = kAttentionSpecGroup) in;
// (batch, heads / group, tiles, header and words); batch or heads 1 where the mask does not ask for them
layout(std430, binding = kAttentionOut) writeonly buffer Words { uint words[]; };

const uint WORDS = GROUP / LANES;  // at once
shared uint found[WORDS];          // lower bits: seen by some row; upper bits: missed by some row
shared uint run_begin[2];          // tiles that some row sees; those that no row misses a key of
shared uint run_end[2];
shared uint run_count[2];

// Of a column of a tile: 1: some row sees it, 2: some row misses it. `count` folded rows from `first` on.
uint ask_rows(uint batch, uint head, uint first, uint count, uint key) {
  bool by_head = kUserHeads != 0;
  uint q = first / p.group, heads = by_head ? p.group : 1, g = by_head ? first % p.group : 0;
  uint asked = by_head ? count : (first + count - 1) / p.group - q + 1, seen = 0;
  // Few rows are straight code, whose loads of one key are one: the last row is asked again past the end.
  for (uint i = 0; i < ROWS; ++i) {
    if (ROWS > 4 && i >= asked) break;
    seen |= user_mask(batch, head + g, q, key) ? 1u : 2u;
    g += i + 1 < asked ? 1 : 0;
    q += g == heads ? 1 : 0;
    g = g == heads ? 0 : g;
  }
  return seen;
}

void add_to_run(uint which, uint column, uint bits) {  // even bits: a tile each
  if (bits == 0) return;
  atomicMin(run_begin[which], column + uint(findLSB(bits)) / 2);
  atomicMax(run_end[which], column + uint(findMSB(bits)) / 2 + 1);
  atomicAdd(run_count[which], uint(bitCount(bits)));
}

void main() {
  uint lane = gl_LocalInvocationID.x, part = lane % LANES, mine = lane / LANES;
  uint slots = kUserHeads != 0 ? p.heads / p.group : 1, head = gl_WorkGroupID.y % slots * p.group;
  Sequence s = sequence_of(gl_WorkGroupID.y / slots);
  if (kUserBatches == 0 && HAS_LENGTHS) s.keys = int(p.kv_len);
  uint first = gl_WorkGroupID.x * ROWS, count = min(ROWS, max(uint(s.rows) * p.group, first) - first);
  uint line_words = ((p.kv_len + COLS - 1) / COLS + 15) / 16;
  uint line = (gl_WorkGroupID.y * p.tiles + gl_WorkGroupID.x) * (kMaskTilesHeader + line_words);
  if (lane < 2) {
    run_begin[lane] = 0xffffffffu;
    run_end[lane] = run_count[lane] = 0;
  }
  for (uint base = 0; base < line_words; base += WORDS) {
    if (part == 0) found[mine] = 0;
    barrier();
    uint word = base + mine, key = word * 16 * COLS, keys = min(16 * COLS, max(uint(s.keys), key) - key), seen = 0;
    if (WHOLE != 0) {  // a tile a lane, without a loop over its pairs
      for (uint tile = part; tile < 16; tile += LANES) {
        [[unroll]] for (uint c = 0; c < COLS; ++c) {
          uint column = tile * COLS + c, bits = ask_rows(s.batch, head, first, max(count, 1), key + column);
          seen |= (column < keys && count != 0 ? bits : 0) << 2 * tile;
        }
      }
    } else if (count != 0) {
      for (uint column = part; column < keys; column += LANES)
        seen |= ask_rows(s.batch, head, first, count, key + column) << 2 * (column / COLS);
    }
    atomicOr(found[mine], seen);
    barrier();
    if (part == 0 && word < line_words) {
      uint bits = found[mine];
      words[line + kMaskTilesHeader + word] = bits ^ 0xaaaaaaaau;
      add_to_run(0, 16 * word, bits & 0x55555555u);
      add_to_run(1, 16 * word, bits & ~(bits >> 1) & 0x55555555u);
    }
  }
  barrier();
  if (lane < 2) {
    bool none = run_count[lane] == 0, whole = none || run_end[lane] - run_begin[lane] == run_count[lane];
    words[line + 2 * lane] = none ? 0 : run_begin[lane] * COLS;
    words[line + 2 * lane + 1] = run_end[lane] * COLS | (whole ? 0 : kMaskTilesBroken);
  }
}
