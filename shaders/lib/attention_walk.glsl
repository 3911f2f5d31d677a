// The order in which keys are visited. Without block lists a step is a key; with them step n is key n % k_block
// of the n / k_block-th block that the list of a tile's rows names, so that no other key costs anything. Rows of
// one tile have one list. A shader that goes over all keys whatever the lists say defines EVERY_KEY.
#ifdef EVERY_KEY
const bool LISTED = false;
#else
const bool LISTED = HAS_LISTS;
#endif
// First entries, (batch|1, heads|1, blocks of rows + 1), then the entries: key blocks, ascending in each list.
layout(std430, binding = kAttentionLists) readonly buffer Lists { uint lists[]; };

const int kNoKey = 0x7fffffff;

struct Walk {
  Span steps;
  uint list;  // the entry of step 0
  int end;    // keys from here on are not read
};

uint listed_block(uint entry) { return lists[p.list_entries + entry]; }

// Entries [x, y) of the list of a row. Whatever the lists hold, they stay within the entries there are.
uvec2 list_of(Sequence s, uint head, uint row) {
  uint at = s.batch * p.list_batch + head * p.list_head + row / p.q_block;
  uint first = min(lists[at], p.list_count), end = clamp(lists[at + 1], first, p.list_count);
  return uvec2(first, min(end, first + p.list_most));
}

// The first entry of a list that names this block or a later one.
uint entry_from(uvec2 list, uint block) {
  while (list.x < list.y) {
    uint middle = (list.x + list.y) / 2;
    if (listed_block(middle) < block) list.x = middle + 1; else list.y = middle;
  }
  return list.x;
}

bool is_listed(Sequence s, uint head, uint row, uint key) {
  if (!HAS_LISTS) return true;
  uvec2 list = list_of(s, head, row);
  uint entry = entry_from(list, key / p.k_block);
  return entry < list.y && listed_block(entry) == key / p.k_block;
}

// What the list of `row` leaves of the keys `any`. Steps count from the list's first entry, whatever `any` is.
Walk walk_of(Sequence s, uint head, uint row, Span any) {
  if (!LISTED) return Walk(any, 0, any.end);
  uvec2 list = list_of(s, head, row);
  Walk w = Walk(Span(0, 0), list.x, any.end);
  if (any.begin >= any.end) return w;
  uint first_block = uint(any.begin) / p.k_block, last_block = uint(any.end - 1) / p.k_block;
  uint begin = entry_from(list, first_block), end = entry_from(list, last_block + 1);
  if (begin >= end) return w;
  w.steps = Span(int((begin - list.x) * p.k_block), int((end - list.x) * p.k_block));
  if (listed_block(begin) == first_block) w.steps.begin += any.begin - int(first_block * p.k_block);
  if (listed_block(end - 1) == last_block) w.steps.end -= int((last_block + 1) * p.k_block) - any.end;
  return w;
}

// Of all rows of the call or, with lists, of the block of rows that `row` is in: what splits share out.
Walk walk_of_all(Sequence s, uint head, uint row) {
  uint first = LISTED ? row / p.q_block * p.q_block : 0;
  uint last = LISTED ? min(first + p.q_block, uint(s.rows)) - 1 : uint(s.rows) - 1;
  return walk_of(s, head, row, rows_seen(s, int(first), int(last)).any);
}

uint listed_key(Walk w, int step) {
  uint n = uint(step) / p.k_block;
  return listed_block(w.list + n) * p.k_block + (uint(step) - n * p.k_block);
}
// kNoKey past the last step.
int key_of(Walk w, int step) {
  if (step >= w.steps.end) return kNoKey;
  return LISTED ? int(listed_key(w, step)) : step;
}
// One that may be read: past the last step, the last one stands in. There are steps.
uint read_key(Walk w, int step) {
  step = min(step, w.steps.end - 1);
  return LISTED ? min(listed_key(w, step), uint(w.end - 1)) : uint(step);
}
// Whether `count` steps are all there, and their keys within `all`.
bool steps_within(Walk w, Span all, int step, uint count) {
  int last = step + int(count) - 1;
  return last < w.steps.end && key_of(w, step) >= all.begin && key_of(w, last) < all.end;
}

// Of `rows` folded rows each, tile i begins at x, and its sequence or block of rows ends at y.
uvec2 tile_rows(Sequence s, uint i, uint rows) {
  uint count = uint(s.rows) * p.group;
  if (!LISTED) return uvec2(i * rows, count);
  uint block = i / p.list_tiles * p.q_block * p.group;
  return uvec2(block + i % p.list_tiles * rows, min(block + p.q_block * p.group, count));
}
