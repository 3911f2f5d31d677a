#include "characters.h"

#include <cstddef>

namespace tool {

char32_t next_character(std::string_view& text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t bytes = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  char32_t c = bytes == 1 ? lead : lead & (0x7fu >> bytes);
  bool whole = bytes != 0 && lead < 0xf5 && bytes <= text.size();
  for (std::size_t i = 1; i < bytes && whole; ++i) {
    whole = (byte(i) & 0xc0u) == 0x80;
    c = c << 6 | (byte(i) & 0x3fu);
  }
  const char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  whole = whole && c >= least[bytes] && c < 0x110000 && (c < 0xd800 || c >= 0xe000);
  text.remove_prefix(whole ? bytes : 1);
  return whole ? c : kDamaged;
}

}  // namespace tool
