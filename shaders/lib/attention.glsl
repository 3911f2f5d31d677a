// What every attention kernel shares: the constants of its pipeline, its parameters, and which keys a row sees.
// src/base/attention.h defines the operation. Positions are int: they stay below 2^31.
#include "interface/attention.h"
#include "interface/state.h"

layout(constant_id = kAttentionSpecGroup) const uint GROUP = 128;
layout(constant_id = kAttentionSpecFlags) const uint FLAGS = 0;
layout(constant_id = kAttentionSpecDim) const uint DIM = 64;
layout(constant_id = kAttentionSpecVDim) const uint V_DIM = 64;
layout(constant_id = kAttentionSpecQType) const uint Q_TYPE = kTypeF32;
layout(constant_id = kAttentionSpecKvType) const uint KV_TYPE = kTypeF32;
layout(constant_id = kAttentionSpecYType) const uint Y_TYPE = kTypeF32;
layout(constant_id = kAttentionSpecWide) const uint WIDE = 0;

const bool HAS_STATE = (FLAGS & kAttentionHasState) != 0;
const bool HAS_LENGTHS = (FLAGS & kAttentionHasLengths) != 0;
const bool HAS_DOCUMENTS = (FLAGS & kAttentionHasDocuments) != 0;
const bool HAS_SLOPES = (FLAGS & kAttentionHasSlopes) != 0;
const bool HAS_SINKS = (FLAGS & kAttentionHasSinks) != 0;
const bool HAS_SOFTCAP = (FLAGS & kAttentionHasSoftcap) != 0;
const bool HAS_LSE = (FLAGS & kAttentionHasLse) != 0;
const bool COSINE = (FLAGS & kAttentionCosine) != 0;
const bool PAGED = (FLAGS & kAttentionPaged) != 0;
const bool RING = (FLAGS & kAttentionRing) != 0;
const bool CAUSAL = (FLAGS & kAttentionCausal) != 0;
const bool BOTTOM_RIGHT = (FLAGS & kAttentionBottomRight) != 0;
const bool HAS_PREFIX = (FLAGS & kAttentionHasPrefix) != 0;
const bool HAS_PREFIXES = (FLAGS & kAttentionHasPrefixes) != 0;
const bool RELATIVE_DISTANCE = (FLAGS & kAttentionRelativeDistance) != 0;
const bool RELATIVE_WINDOW = (FLAGS & kAttentionRelativeWindow) != 0;
const bool HAS_KEEP = (FLAGS & kAttentionHasKeep) != 0;
const bool ADDITIVE = (FLAGS & kAttentionAdditive) != 0;
const bool HAS_LISTS = (FLAGS & kAttentionHasLists) != 0;
const bool WINDOW = (FLAGS & kAttentionWindow) != 0;
const uint DIM4 = (DIM + 3) / 4;
const uint V_DIM4 = (V_DIM + 3) / 4;

layout(std430, binding = kAttentionState) readonly buffer State { uint state[]; };
layout(std430, binding = kAttentionParams) readonly buffer Params { AttentionParams p; };
layout(std430, binding = kAttentionState) readonly buffer Lengths { uint lengths[]; };
layout(std430, binding = kAttentionDocuments) readonly buffer Documents { uint documents[]; };
layout(std430, binding = kAttentionDocuments) readonly buffer Prefixes { uint prefixes[]; };

const float kLog2E = 1.44269504088896340736;
// A masked score, and the least a running maximum can be: exp2(kMasked - kLeastMax) is 0, not NaN, so that a
// row with every key masked has sum 0 and gives 0. A bias of -1e38 * log2(e) is still above kLeastMax.
const float kMasked = -3.0e38;
const float kLeastMax = -1.5e38;
const uint kOpenWindow = 0xffffffffu;
const uint kMostPosition = 0x3fffffffu;

struct Span {  // of keys: begin <= j < end
  int begin;
  int end;
};

struct Sequence {  // of the batch
  uint batch;
  int rows;  // n_q
  int keys;  // n_k
};

Sequence sequence_of(uint batch) {
  Sequence s = Sequence(batch, int(p.q_len), int(p.kv_len));
  if (HAS_STATE) {
    uint position = min(state[kStatePosition], kMostPosition), rows = min(state[kStateRows], p.q_len);
    s.rows = int(rows);
    s.keys = int(RING ? position + rows : min(position + rows, p.kv_len));
  } else if (HAS_LENGTHS) {
    s.keys = int(min(lengths[batch], p.kv_len));
  }
  return s;
}

struct Row {
  Span seen;     // keys that lengths, documents, causality and the window leave
  int diagonal;  // the key that slopes count from
};

// begin and end of `seen` never decrease from row to row, so those of the first and the last row of a tile
// bound all between.
Row row_of(Sequence s, int row) {
  int keys = s.keys, rows = s.rows, first_key = 0;
  if (HAS_DOCUMENTS) {
    uint low = 0, high = p.documents;  // the last document that begins at or before the row
    while (high - low > 1) {
      uint middle = (low + high) / 2;
      if (int(documents[middle]) <= row) low = middle; else high = middle;
    }
    int begin = int(documents[low]), end = int(documents[low + 1]);
    first_key = int(min(documents[p.documents + 1 + low], uint(s.keys)));
    keys = int(min(documents[p.documents + 2 + low], uint(s.keys))) - first_key;
    if (row >= end) first_key += max(keys, 0);
    if (row < begin || row >= end) keys = 0;
    keys = max(keys, 0);
    row -= begin;
    rows = end - begin;
  }
  int diagonal = row + keys - rows;
  int centre = BOTTOM_RIGHT ? diagonal : row;
  int begin = 0, end = CAUSAL ? centre + 1 : keys;
  if (HAS_PREFIX) end = max(end, int(min(HAS_PREFIXES ? prefixes[s.batch] : p.prefix, kMostPosition)));
  if (WINDOW && p.window_left != kOpenWindow) begin = centre - int(p.window_left);
  if (WINDOW && p.window_right != kOpenWindow) end = min(end, centre + int(p.window_right) + 1);
  return Row(Span(first_key + clamp(begin, 0, keys), first_key + clamp(end, 0, keys)), first_key + diagonal);
}

// Keys that any of the rows sees, and those that all of them see.
struct RowsSeen {
  Span any;
  Span all;
};
RowsSeen rows_seen(Sequence s, int first, int last) {
  Span a = row_of(s, first).seen, b = row_of(s, last).seen;
  return RowsSeen(Span(a.begin, b.end), Span(b.begin, a.end));
}

// Keys of one split: equal shares, a function of the sequence alone, so that the merge finds the same.
int split_keys(Span any, uint splits) {
  int share = (any.end - any.begin + int(splits) - 1) / int(splits);
  return max(int(kSplitMinKeys), (share + 3) / 4 * 4);
}
