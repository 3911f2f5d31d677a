// What both attention forms and the merge share. Scores are in the log2 domain: scale * log2(e) is folded into
// q, so that softmax is exp2(s - max) / sum.
const float kLog2E = 1.44269504088896340736;
// A masked score, and the least a running maximum can be: exp2(kMasked - kLeastMax) is 0, not NaN, so that a
// row with every key masked has sum 0 and gives 0. Real scores must be above kLeastMax.
const float kMasked = -1.7e38;
const float kLeastMax = -0.8e38;

struct Span {  // of keys: begin <= j < end
  uint begin;
  uint end;
};

// Keys in the cache once this pass has appended its own.
uint kv_length(uint position, uint rows, uint context) {
  return position >= context ? context : min(rows, context - position) + position;
}

// Keys that the row at position `at` sees.
Span row_keys(uint at, uint length, uint window, bool causal) {
  Span s;
  uint end = causal ? at + 1 : length;
  s.end = min(end, length);
  s.begin = window != 0 && end > window ? min(end - window, s.end) : 0;
  return s;
}

// Keys that any row at positions first..last sees.
Span visible_keys(uint first, uint last, uint length, uint window, bool causal) {
  Span s;
  s.begin = row_keys(first, length, window, causal).begin;
  s.end = row_keys(last, length, window, causal).end;
  return s;
}

// Keys of one split: equal shares, a function of the state alone, so that the merge finds the same.
uint split_keys(Span all, uint splits) {
  uint share = (all.end - all.begin + splits - 1) / splits;
  return max(kSplitMinKeys, (share + 3) / 4 * 4);
}
