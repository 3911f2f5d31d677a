// Text: the glyphs of one face in three sizes, packed into one picture at the start; measuring, wrapping,
// placing.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "draw.h"
#include "tessera/tessera.hpp"

namespace demo {

enum class TextSize { kSmall, kBody, kTitle };

struct Atlas {
  int width = 0, height = 0;
  std::vector<std::uint8_t> cover;  // 0: nothing of the glyph, 255: all
};

class Font {
 public:
  // scale: pixels of a unit. Fails when the file is no font.
  static tessera::Expected<Font> create(const std::string& path, float scale);

  const Atlas& atlas() const { return atlas_; }
  float line_height(TextSize size) const;  // units, like all lengths here
  float width(TextSize size, std::string_view text) const;
  // Adds the glyphs of one line of UTF-8; `at` is where its baseline begins. A character that the font lacks
  // is '?'.
  void draw(std::vector<Glyph>& out, TextSize size, Vec2 at, std::string_view text, Color color) const;
  // Lines of at most `width`, cut between words, and within words that are longer; '\n' ends a line.
  std::vector<std::string> wrap(TextSize size, std::string_view text, float width) const;

 private:
  struct Letter {
    std::uint16_t u = 0, v = 0, width = 0, height = 0;
    int left = 0, top = 0, advance = 0;  // pixels
  };
  struct Size {
    std::unordered_map<char32_t, Letter> letters;
    int line_height = 0;
  };
  class Baker;

  const Letter& letter(TextSize size, char32_t character) const;
  int pixels(TextSize size, std::string_view text) const;

  float scale_ = 1;
  std::array<Size, 3> sizes_;
  Atlas atlas_;
};

}  // namespace demo
