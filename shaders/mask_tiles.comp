// Which tiles of scores a user's mask leaves (docs/user_functions.md): two bits a tile, the lower where some row sees
// some key, the upper where no row misses one. A workgroup makes one word, of 16 tiles side by side.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/attention.glsl"
#ifdef USER_FUNCTIONS
#include "lib/attention_user.glsl"
#else
bool user_mask(uint b, uint h, uint q, uint k) { return true; }
#endif

layout(constant_id = kMaskTilesSpecRows) const uint ROWS = 64;
layout(constant_id = kMaskTilesSpecCols) const uint COLS = 32;
layout(local_size_x_id = kAttentionSpecGroup) in;
// (batch, heads / group, tiles, words)
layout(std430, binding = kAttentionOut) writeonly buffer Words { uint words[]; };

shared uint found;  // lower bits: seen by some row; upper bits: missed by some row

void main() {
  uint lane = gl_LocalInvocationID.x, slots = p.heads / p.group;
  uint head = gl_WorkGroupID.z % slots * p.group;
  Sequence s = sequence_of(gl_WorkGroupID.z / slots);
  uint first = gl_WorkGroupID.y * ROWS, rows = min(ROWS, max(uint(s.rows) * p.group, first) - first);
  uint key = gl_WorkGroupID.x * 16 * COLS, keys = min(16 * COLS, max(uint(s.keys), key) - key);
  if (lane == 0) found = 0;
  barrier();
  uint mine = 0;
  for (uint i = lane; i < rows * keys; i += GROUP) {
    uint folded = first + i / keys, column = i % keys;
    bool seen = user_mask(s.batch, head + folded % p.group, folded / p.group, key + column);
    mine |= (seen ? 1u : 2u) << 2 * (column / COLS);
  }
  atomicOr(found, mine);
  barrier();
  uint columns = (p.kv_len + COLS - 1) / COLS;
  uint at = (gl_WorkGroupID.z * p.tiles + gl_WorkGroupID.y) * ((columns + 15) / 16) + gl_WorkGroupID.x;
  if (lane == 0) words[at] = found ^ 0xaaaaaaaau;
}
