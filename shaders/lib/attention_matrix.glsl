// What both matrix forms of attention share: operands in shared memory as f16, and what single scores need.
// The including shader defines ROWS and COLS of a tile, and DIM_PAD and V_PAD, the dimensions that fragments
// cover. docs/kernels/attention_matrix.md.

// Pitches leave 16 bytes behind each row: rows next to each other start in different banks.
const uint QK_PITCH = DIM_PAD / 4 + 2;
const uint V_PITCH = COLS / 4 + 2;

struct Tile {
  uint first;  // folded row: position in the sequence * group + head of the group
  uint count;  // folded rows of the sequence, or up to the end of the block of rows
  uint group;  // heads folded into rows
  uint head;   // the first of them
  Sequence sequence;
  Keys keys;
  RowsSeen seen;
  Walk walk;
};

shared f16vec4 q_tile[ROWS * QK_PITCH];  // (ROWS, DIM_PAD)
shared f16vec4 k_tile[COLS * QK_PITCH];  // (COLS, DIM_PAD)
shared f16vec4 v_tile[V_PAD * V_PITCH];  // transposed, (V_PAD, COLS): fragments read along the keys
shared Span row_span[ROWS];              // keys that each row sees
shared int row_diagonal[BY_DISTANCE ? ROWS : 1];
shared float row_norm[COSINE ? ROWS : 1];  // 1/|q|
shared float key_norm[COSINE ? COLS : 1];

uint lane() { return gl_LocalInvocationID.x; }
uint row_of_folded(Tile t, uint folded) { return folded / t.group; }
uint head_of_folded(Tile t, uint folded) { return t.head + folded % t.group; }

Tile tile_of(uint index) {
  Tile t;
  t.sequence = sequence_of(gl_WorkGroupID.z);
  t.group = p.group;
  t.head = gl_WorkGroupID.y * t.group;
  t.keys = keys_of(t.sequence.batch, t.head);
  uvec2 rows = tile_rows(t.sequence, index, ROWS);
  t.first = rows.x;
  t.count = rows.y;
  if (t.first < t.count) {
    t.seen = rows_seen(t.sequence, int(row_of_folded(t, t.first)),
                       int(row_of_folded(t, min(t.first + ROWS, t.count) - 1)));
    t.walk = walk_of(t.sequence, t.head, row_of_folded(t, t.first), t.seen.any);
  }
  return t;
}

uint q_row_of(Tile t, uint folded) {
  return q_row(t.sequence.batch, head_of_folded(t, folded), row_of_folded(t, folded));
}

f16vec4 halves_of(uvec2 words) { return f16vec4(unpackFloat2x16(words.x), unpackFloat2x16(words.y)); }
// Saturates: an infinity would meet a zero.
f16vec4 to_halves(vec4 v) { return f16vec4(clamp(v, -65504.0, 65504.0)); }

void stage_rows(Tile t) {  // spans, and norms with cosine
  for (uint i = lane(); i < ROWS; i += GROUP) {
    uint folded = t.first + i;
    Row row = Row(Span(0, 0), 0);
    if (folded < t.count) row = row_of(t.sequence, int(row_of_folded(t, folded)));
    row_span[i] = row.seen;
    if (BY_DISTANCE) row_diagonal[i] = row.diagonal;
    if (COSINE) {
      float sum = 0;
      if (folded < t.count) {
        uint at = q_row_of(t, folded);
        [[dont_unroll]] for (uint d = 0; d < DIM4; ++d) {
          vec4 q = load_q(at, d);
          sum += dot(q, q);
        }
      }
      row_norm[i] = inverse_norm(sum);
    }
  }
}

void stage_q(Tile t) {
  if (COSINE) barrier();
  [[dont_unroll]] for (uint i = lane(); i < ROWS * (DIM_PAD / 4); i += GROUP) {
    uint row = i / (DIM_PAD / 4), d = i % (DIM_PAD / 4), folded = t.first + row;
    f16vec4 q = f16vec4(0);
    if (folded < t.count && d < DIM4) {
      uint at = q_row_of(t, folded);
      if (COSINE)
        q = to_halves(load_q(at, d) * row_norm[row]);
      else if (Q_TYPE == kTypeF16 && (WIDE & (1u << kAttentionQ)) != 0)
        q = halves_of(q2[(at >> 2) + d]);
      else
        q = to_halves(load_q(at, d));
    }
    q_tile[row * QK_PITCH + d] = q;
  }
}

// Keys past the last that a row sees are not read: that one stands in for them.
void stage_key_norms(Tile t, int step) {
  if (!COSINE) return;
  for (uint i = lane(); i < COLS; i += GROUP) {
    uint at = k_row(t.keys, read_key(t.walk, step + int(i)));
    float sum = 0;
    [[dont_unroll]] for (uint d = 0; d < DIM4; ++d) {
      vec4 k = load_k(at, d);
      sum += dot(k, k);
    }
    key_norm[i] = inverse_norm(sum);
  }
  barrier();
}

void stage_k(Tile t, int step) {
  stage_key_norms(t, step);
  [[dont_unroll]] for (uint i = lane(); i < COLS * (DIM_PAD / 4); i += GROUP) {
    uint col = i / (DIM_PAD / 4), d = i % (DIM_PAD / 4);
    f16vec4 k = f16vec4(0);
    if (d < DIM4) {
      uint at = k_row(t.keys, read_key(t.walk, step + int(col)));
      if (COSINE)
        k = to_halves(load_k(at, d) * key_norm[col]);
      else if (KV_TYPE == kTypeF16 && (WIDE & (1u << kAttentionK)) != 0)
        k = halves_of(k2[(at >> 2) + d]);
      else
        k = to_halves(load_k(at, d));
    }
    k_tile[col * QK_PITCH + d] = k;
  }
}

// A lane turns four keys by four elements.
void stage_v(Tile t, int step) {
  [[dont_unroll]] for (uint i = lane(); i < COLS / 4 * (V_PAD / 4); i += GROUP) {
    uint col = i / (V_PAD / 4), d = i % (V_PAD / 4);
    f16vec4 v[4];
    [[unroll]] for (uint e = 0; e < 4; ++e) {
      v[e] = f16vec4(0);
      if (d < V_DIM4) {
        uint at = v_row(t.keys, read_key(t.walk, step + int(4 * col + e)));
        if (KV_TYPE == kTypeF16 && (WIDE & (1u << kAttentionV)) != 0)
          v[e] = halves_of(v2[(at >> 2) + d]);
        else
          v[e] = to_halves(load_v(at, d));
      }
    }
    [[unroll]] for (uint e = 0; e < 4; ++e)
      v_tile[(4 * d + e) * V_PITCH + col] = f16vec4(v[0][e], v[1][e], v[2][e], v[3][e]);
  }
}

ScoreRow score_row_of(Tile t, uint row) {
  uint folded = min(t.first + row, t.count - 1);
  return score_row(t.sequence.batch, head_of_folded(t, folded), row_of_folded(t, folded),
                   BY_DISTANCE ? row_diagonal[row] : 0);
}
float masked(Tile t, Span seen, float s, int step) {
  int key = key_of(t.walk, step);
  return key < seen.begin || key >= seen.end ? kMasked : s;
}

// Whether some row of the tile does not see some of these keys.
bool mixed(Tile t, int step) { return !steps_within(t.walk, t.seen.all, step, COLS); }
