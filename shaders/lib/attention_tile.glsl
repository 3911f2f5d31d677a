// The scores of a tile of rows against a tile of keys, in registers: what attention and attention_scores share.
// Lane (row group, column group) has ROW_TILE rows and COL_TILE keys.
layout(constant_id = kAttentionSpecColGroups) const uint COL_GROUPS = 8;
layout(constant_id = kAttentionSpecRowTile) const uint ROW_TILE = 4;
layout(constant_id = kAttentionSpecColTile) const uint COL_TILE = 4;
layout(constant_id = kAttentionSpecChunk) const uint CHUNK = 8;
layout(constant_id = kAttentionSpecQWhole) const uint Q_WHOLE = 0;

const uint ROW_GROUPS = GROUP / COL_GROUPS;
const uint ROWS = ROW_GROUPS * ROW_TILE;
const uint COLS = COL_GROUPS * COL_TILE;
const uint D_STEP = CHUNK % 4 == 0 && !ADDITIVE ? 4 : 1;  // unrolled: all of a chunk would take drivers long to compile
const uint CHUNKS = (DIM4 + CHUNK - 1) / CHUNK;
// Odd pitches in units of 16 bytes: rows next to each other start in different banks.
const uint Q_PITCH = (Q_WHOLE != 0 ? CHUNKS * CHUNK : CHUNK) | 1;
const uint K_PITCH = CHUNK | 1;

struct Tile {
  uint first;  // folded row: position in the sequence * group + head of the group
  uint count;  // folded rows of the sequence, or up to the end of the block of rows
  uint group;  // heads folded into rows
  uint head;   // the first of them
  uint row;    // position of folded row 0
  Sequence sequence;
  Keys keys;
  Walk walk;
};

shared vec4 q_tile[ROWS * Q_PITCH];  // (ROWS, CHUNK or all of DIM4), times the scale
shared vec4 kv_tile[KV_SIZE];        // K: (COLS, CHUNK)
shared Span row_span[ROWS];          // keys that each row sees
shared int row_diagonal[BY_DISTANCE ? ROWS : 4];  // 16 bytes at least: some drivers put it first, and
                                                 // read a vec4 that starts elsewhere in two halves

float s[ROW_TILE * COL_TILE];

uint lane() { return gl_LocalInvocationID.x; }
uint tile_row(uint r) { return r * ROW_GROUPS + lane() / COL_GROUPS; }
uint tile_col(uint c) { return c * COL_GROUPS + lane() % COL_GROUPS; }
uint row_of_folded(Tile t, uint folded) { return t.row + folded / t.group; }
uint head_of_folded(Tile t, uint folded) { return t.head + folded % t.group; }

void stage_spans(Tile t) {
  for (uint i = lane(); i < ROWS; i += GROUP) {
    Row row = Row(Span(0, 0), 0);
    if (t.first + i < t.count) row = row_of(t.sequence, int(row_of_folded(t, t.first + i)));
    row_span[i] = row.seen;
    if (BY_DISTANCE) row_diagonal[i] = row.diagonal;
  }
}

void stage_q(Tile t, uint first, uint width) {
  float scale = SCALES_LATE ? 1.0 : score_scale();
  [[dont_unroll]] for (uint i = lane(); i < ROWS * width; i += GROUP) {
    uint row = i / width, d = i % width, folded = t.first + row;
    vec4 q = vec4(0);
    if (folded < t.count && first + d < DIM4)
      q = load_q(q_row(t.sequence.batch, head_of_folded(t, folded), row_of_folded(t, folded)), first + d) *
          scale;
    q_tile[row * Q_PITCH + d] = q;
  }
}

void stage_k(Tile t, int step, uint first) {
  [[dont_unroll]] for (uint i = lane(); i < COLS * CHUNK; i += GROUP) {
    uint col = i / CHUNK, d = i % CHUNK;
    vec4 k = vec4(0);
    if (first + d < DIM4) k = load_k(k_row(t.keys, read_key(t.walk, step + int(col))), first + d);
    kv_tile[col * K_PITCH + d] = k;
  }
}

void scores(Tile t, int step) {  // s = scale q k^T
  float qq[COSINE ? ROW_TILE : 1], kk[COSINE ? COL_TILE : 1];
  [[unroll]] for (uint i = 0; i < ROW_TILE * COL_TILE; ++i) s[i] = 0;
  if (COSINE) {
    [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) qq[r] = 0;
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) kk[c] = 0;
  }
  [[dont_unroll]] for (uint chunk = 0; chunk < CHUNKS; ++chunk) {
    if (chunk != 0) barrier();
    stage_k(t, step, chunk * CHUNK);
    if (Q_WHOLE == 0) stage_q(t, chunk * CHUNK, CHUNK);
    barrier();
    // Constants are added last: drivers put them into the loads.
    uint q_at = tile_row(0) * Q_PITCH + (Q_WHOLE != 0 ? chunk * CHUNK : 0), k_at = tile_col(0) * K_PITCH;
    [[dont_unroll]] for (uint d0 = 0; d0 < CHUNK; d0 += D_STEP)
      [[unroll]] for (uint i = 0; i < D_STEP; ++i) {  // from a constant: else drivers do not unroll
        vec4 q[ROW_TILE], v = vec4(0);
        if (ADDITIVE) v = load_vector(t.head, chunk * CHUNK + d0 + i);
        [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
          q[r] = q_tile[q_at + d0 + (i + r * ROW_GROUPS * Q_PITCH)];
          if (COSINE) qq[r] = dot_add(qq[r], q[r], q[r]);
        }
        [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
          vec4 k = kv_tile[k_at + d0 + (i + c * COL_GROUPS * K_PITCH)];
          if (COSINE) kk[c] = dot_add(kk[c], k, k);
          [[unroll]] for (uint r = 0; r < ROW_TILE; ++r)
            s[r * COL_TILE + c] = score_add(s[r * COL_TILE + c], q[r], k, v);
        }
      }
  }
  if (ADDITIVE) {
    [[unroll]] for (uint i = 0; i < ROW_TILE * COL_TILE; ++i) s[i] *= score_scale();
  }
  if (!COSINE) return;
  float scale = score_scale();
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    float of_row = inverse_norm(qq[r]) * scale;
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) s[r * COL_TILE + c] *= of_row * inverse_norm(kk[c]);
  }
}

// Soft-cap, slopes, bias and mask.
void adjust_scores(Tile t, int step) {
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    uint folded = min(t.first + tile_row(r), t.count - 1);
    ScoreRow row = score_row(t.sequence.batch, head_of_folded(t, folded), row_of_folded(t, folded),
                             BY_DISTANCE ? row_diagonal[tile_row(r)] : 0);
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c)
      s[r * COL_TILE + c] = adjust(row, s[r * COL_TILE + c], int(read_key(t.walk, step + int(tile_col(c)))));
  }
}

void mask_scores(Tile t, int step) {
  [[unroll]] for (uint r = 0; r < ROW_TILE; ++r) {
    Span seen = row_span[tile_row(r)];
    [[unroll]] for (uint c = 0; c < COL_TILE; ++c) {
      int key = key_of(t.walk, step + int(tile_col(c)));
      if (key < seen.begin || key >= seen.end) s[r * COL_TILE + c] = kMasked;
    }
  }
}
