// A user's own functions of one score, whose text follows the kernel's: docs/user_functions.md. Where the text is put
// together: USER_SCORE and USER_MASK, 1 or 0, say which of them there are, USER_TILED whether mask_tiles.comp has run
// over the kernel's tiles, USER_TILES is the binding of what it wrote, USER_BATCHES and USER_HEADS whether that differs
// between them, USER_ASKS_FIRST whether attention_keys.comp and attention_split.comp ask the mask before they read keys,
// and USER_AHEAD about how many tiles at once the former does.
const uint kUserBatches = USER_BATCHES, kUserHeads = USER_HEADS;
const float kScoreUnit = USER_SCORE != 0 ? 1.0 : kLog2E;  // `score` sees natural logarithms
float user_score(float s, uint b, uint h, uint q, uint k);
bool user_mask(uint b, uint h, uint q, uint k);
const float kMostScore = 3e37;  // with kMasked a difference that is finite

layout(std430, binding = USER_TILES) readonly buffer UserTiles { uint user_tiles[]; };
const uint kUserNoTiles = 0xaaaaaaaau;  // a word whose tiles no row sees, and no row misses
uvec4 user_runs = uvec4(0);  // the header of a row of tiles
uint user_line = 0;          // where its words begin
bool user_sees_all = false;  // the tile of user_next_tile(): nothing to ask user_mask()

// `s` times kScoreUnit becomes one in units of log2(e). `place`: batch, head, row.
float user_adjusted(uvec3 place, float s, int key) {
  if (USER_SCORE != 0 && s > kLeastMax) {
    s = user_score(s, place.x, place.y, place.z, uint(key)) * kLog2E;
    s = s > kMasked ? min(s, kMostScore) : kMasked;  // NaN too
  }
  if (USER_MASK != 0 && !user_sees_all && !user_mask(place.x, place.y, place.z, uint(key))) s = kMasked;
  return s;
}

// The first key from `key` on, in steps of `cols` up to `end`, whose tile is not hidden wholly. Tiles need not begin
// where those of mask_tiles.comp do: they meet two of them then. Of block lists there are no tiles.
int user_next_tile(int key, uint cols, int end) {
  if (USER_TILED == 0) return key;
  int begin = int(user_runs.x), seen_end = int(user_runs.y & ~kMaskTilesBroken);
  if (key + int(cols) <= begin) key += (begin - key) / int(cols) * int(cols);
  if (key >= seen_end) return max(key, end);
  user_sees_all = key >= int(user_runs.z) && key + int(cols) <= int(user_runs.w);
  if (((user_runs.y | user_runs.w) & kMaskTilesBroken) == 0) return key;
  uint words = ((p.kv_len + cols - 1) / cols + 15) / 16, column = uint(key) / cols, off = uint(key) % cols;
  while (key < end) {
    uint word = column / 16, seen = user_tiles[user_line + word], all = seen;
    if (off != 0) {
      uint next = seen >> 2 | (word + 1 < words ? user_tiles[user_line + word + 1] : kUserNoTiles) << 30;
      seen |= next;
      all &= next;
    }
    seen = seen >> 2 * (column % 16) & 0x55555555u;
    uint found = seen != 0 ? column + uint(findLSB(seen)) / 2 : 16 * (word + 1);
    user_sees_all = (all >> 2 * (found % 16) & 2u) != 0;
    key = int(found * cols + off);
    if (seen != 0) break;
    column = found;
  }
  return key;
}
// Before others: of row tile `tile` of the heads `heads`.
int user_first_tile(uint batch, uint heads, uint tile, int key, uint cols, int end) {
  if (USER_TILED == 0) return key;
  uint words = ((p.kv_len + cols - 1) / cols + 15) / 16;
  uint slot = batch * kUserBatches * (kUserHeads != 0 ? p.heads / p.group : 1) + heads * kUserHeads;
  uint line = (slot * p.tiles + tile) * (kMaskTilesHeader + words);
  user_runs = uvec4(user_tiles[line], user_tiles[line + 1], user_tiles[line + 2], user_tiles[line + 3]);
  user_line = line + kMaskTilesHeader;
  return user_next_tile(key, cols, end);
}
