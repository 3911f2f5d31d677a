// Letters of one face of a font file as pictures, by FreeType.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tessera/tessera.hpp"

namespace tool {

class FontFace {
 public:
  struct Letter {
    int width = 0, height = 0, pitch = 0;  // pixels; bytes from row to row
    int left = 0, top = 0;                 // of the picture, from where it is placed on the baseline; up
    int advance = 0;                       // to the next letter
    const std::uint8_t* cover = nullptr;   // 0: nothing of the letter, 255: all; until the next load()
  };

  // Fails when the file is no font.
  static tessera::Expected<FontFace> open(const std::string& path);

  bool resize(unsigned pixels);  // of an em; at least 1 is taken
  int line_height() const;
  bool has(char32_t character) const;
  // Of the size; false when the font cannot draw it.
  bool load(char32_t character, Letter& letter);

 private:
  struct Handles;
  struct Close {
    void operator()(Handles* handles) const;
  };
  std::unique_ptr<Handles, Close> handles_;
};

}  // namespace tool
