// What both forms of linear attention share: operands, and where a workgroup is.
layout(constant_id = kLinearSpecKDim) const uint K_DIM = 64;
layout(constant_id = kLinearSpecCols4) const uint COLS4 = 4;
layout(constant_id = kLinearSpecParts) const uint PARTS = 2;
layout(constant_id = kLinearSpecFlags) const uint FLAGS = 0;
layout(constant_id = kLinearSpecMap) const uint MAP = 0;
layout(constant_id = kLinearSpecWide) const uint WIDE = 0;
layout(constant_id = kLinearSpecQType) const uint Q_TYPE = 0;
layout(constant_id = kLinearSpecKType) const uint K_TYPE = 0;
layout(constant_id = kLinearSpecVType) const uint V_TYPE = 0;
layout(constant_id = kLinearSpecYType) const uint Y_TYPE = 0;
const bool GATED = (FLAGS & kLinearFlagGated) != 0;
const bool BY_DIM = (FLAGS & kLinearFlagDecayByDim) != 0;
const bool DELTA = (FLAGS & kLinearFlagDelta) != 0;
const bool NORMALISE = (FLAGS & kLinearFlagNormalise) != 0;
const bool UPDATE = (FLAGS & kLinearFlagUpdate) != 0;
const bool OUTPUT = (FLAGS & kLinearFlagOutput) != 0;

layout(push_constant) uniform Push { LinearAttentionPush p; };

#include "lib/grid.glsl"
#include "lib/half.glsl"
#include "lib/rows.glsl"
TSR_ROWS(q, kLinearQ, Q_TYPE, K_DIM, 1)            // (batch, len, heads, K_DIM)
TSR_ROWS(k, kLinearK, K_TYPE, K_DIM, 1)            // (key_sequences, len, kv_heads, K_DIM)
TSR_ROWS(v, kLinearV, V_TYPE, p.v_dim, 1)          // (batch, len, kv_heads, v_dim)
TSR_ROWS(past, kLinearPast, kTypeF32, p.v_dim, 1)  // (batch, kv_heads, K_DIM, v_dim)
TSR_ROWS(decay, kLinearDecay, kTypeF32, K_DIM, 1)  // (batch, len, kv_heads, K_DIM or 1)
layout(std430, binding = kLinearBeta) readonly buffer Beta { float beta[]; };  // (batch, len, betas)
layout(std430, binding = kLinearPastNormaliser) readonly buffer PastZ {
  float past_z[];
};                                                                      // (batch, kv_heads, K_DIM)
layout(std430, binding = kLinearY) writeonly buffer Y4 { vec4 y4[]; };  // (batch, len, heads, v_dim)
layout(std430, binding = kLinearY) buffer Y1 { uint y1[]; };
layout(std430, binding = kLinearPresent) writeonly buffer Present { float present[]; };  // like past
layout(std430, binding = kLinearNormaliser) writeonly buffer Z { float present_z[]; };           // like past_z

uint lane() { return gl_LocalInvocationID.x; }

float feature(float x) {
  if (MAP == kMapEluPlusOne) return x > 0 ? x + 1 : exp(x);
  if (MAP == kMapRelu) return max(x, 0);
  return MAP == kMapExp ? exp(x) : x;
}

// Where a workgroup is.
struct Place {
  uint batch, kv_head, tile, first, end;
};
uint row_of(Place at, uint row) { return at.batch * p.len + row; }
uint state_of(Place at) { return (at.batch * p.kv_heads + at.kv_head) * K_DIM; }
// Of v, where a vec4 of the tile begins: the last tile may reach past v_dim.
uint column_of(Place at, uint c) { return 4 * (at.tile * COLS4 + c); }

void store_y(uint row_at, uint column, vec4 x) {
  if (column >= p.v_dim) return;
  uint at = row_at + column;
  if (Y_TYPE == kTypeF32 && (WIDE & (1u << kLinearY)) != 0) {
    y4[at >> 2] = x;
    return;
  }
  for (uint e = 0; e < 4 && column + e < p.v_dim; ++e) {
    if (Y_TYPE == kTypeF32) {
      y1[at + e] = floatBitsToUint(x[e]);
      continue;
    }
    uint bits = Y_TYPE == kTypeF16 ? half_bits(x[e]) : bf16_bits(x[e]);
    if ((WIDE & (1u << kLinearY)) != 0) {
      uint next = Y_TYPE == kTypeF16 ? half_bits(x[e + 1]) : bf16_bits(x[e + 1]);
      y1[(at + e) >> 1] = bits | next << 16;
      ++e;
      continue;
    }
    uint shift = ((at + e) & 1u) * 16u;  // a word may hold elements of two workgroups
    atomicAnd(y1[(at + e) >> 1], ~(0xffffu << shift));
    atomicOr(y1[(at + e) >> 1], bits << shift);
  }
}

// Rows [first, end) of v's columns of a tile; false: there is nothing for this workgroup.
bool find_place(out Place at) {
  uint group = group_index(p.groups_x, p.groups_y);
  if (group >= p.groups) return false;
  at.tile = group % p.tiles;
  group /= p.tiles;
  at.kv_head = group % p.kv_heads;
  group /= p.kv_heads;
  at.first = p.first + group % p.blocks * p.rows;
  at.end = min(at.first + p.rows, p.len);
  at.batch = group / p.blocks;
  return true;
}

void store_present(uint row, uint column, vec4 x) {
  for (uint e = 0; e < 4; ++e)
    if (column + e < p.v_dim) present[row * p.v_dim + column + e] = x[e];
}
