// A user's own functions of one score, whose text follows the kernel's: docs/user_functions.md. Where the text is put
// together: USER_SCORE and USER_MASK, 1 or 0, say which of them there are, USER_TILED whether mask_tiles.comp has run
// over the kernel's tiles, and USER_TILES is the binding of what it wrote.
const float kScoreUnit = USER_SCORE != 0 ? 1.0 : kLog2E;  // `score` sees natural logarithms
float user_score(float s, uint b, uint h, uint q, uint k);
bool user_mask(uint b, uint h, uint q, uint k);

layout(std430, binding = USER_TILES) readonly buffer UserTiles { uint user_tiles[]; };
bool user_sees_all = false;  // the tile of user_next_tile(): nothing to ask user_mask()

// `s` times kScoreUnit becomes one in units of log2(e). `place`: batch, head, row.
float user_adjusted(uvec3 place, float s, int key) {
  if (USER_SCORE != 0 && s > kLeastMax)
    s = min(user_score(s, place.x, place.y, place.z, uint(key)) * kLog2E, -kMasked);
  if (USER_MASK != 0 && !user_sees_all && !user_mask(place.x, place.y, place.z, uint(key))) s = kMasked;
  return s;
}

// The first key from `key` on, in steps of `cols` up to `end`, whose tile with row tile `tile` of the heads `heads` is
// not hidden wholly. Tiles need not begin where those of mask_tiles.comp do: they meet two of them then. Of block
// lists there are no tiles.
int user_next_tile(uint batch, uint heads, uint tile, int key, uint cols, int end) {
  if (USER_TILED == 0) return key;
  uint columns = (p.kv_len + cols - 1) / cols;
  uint line = ((batch * (p.heads / p.group) + heads) * p.tiles + tile) * ((columns + 15) / 16);
  for (; key < end; key += int(cols)) {
    uint column = uint(key) / cols, bits = user_tiles[line + column / 16] >> 2 * (column % 16);
    if (uint(key) % cols != 0 && column + 1 < columns) {
      uint next = user_tiles[line + (column + 1) / 16] >> 2 * ((column + 1) % 16);
      bits = ((bits | next) & 1u) | (bits & next & 2u);
    }
    user_sees_all = (bits & 2u) != 0;
    if ((bits & 1u) != 0) break;
  }
  return key;
}
