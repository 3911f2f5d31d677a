#include "font.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <algorithm>
#include <cmath>
#include <memory>

namespace demo {
namespace {

constexpr std::array<float, 3> kUnits{9, 11.5f, 17};  // of TextSize
constexpr int kAtlasWidth = 512;

std::vector<char32_t> characters() {
  std::vector<char32_t> out;
  for (char32_t c = 0x20; c < 0x7f; ++c) out.push_back(c);
  for (char32_t c = 0xa0; c < 0x100; ++c) out.push_back(c);
  for (const char32_t c : U"\u2013\u2014\u2018\u2019\u201c\u201d\u2026")
    if (c != 0) out.push_back(c);
  return out;
}

// The character at the front of `text`, which is not empty; removes it. A damaged one is '?'.
char32_t next_character(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t bytes = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  char32_t c = bytes == 1 ? lead : lead & (0x7fu >> bytes);
  if (bytes > text.size()) {
    text = {};
    return '?';
  }
  for (std::size_t i = 1; i < bytes; ++i) c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3fu);
  text.remove_prefix(bytes);
  return c;
}

}  // namespace

// Renders letters row by row into a picture of fixed width that grows downwards.
class Font::Baker {
 public:
  explicit Baker(Font& font) : font_(font) {}
  ~Baker() {
    if (face_ != nullptr) FT_Done_Face(face_);
    if (library_ != nullptr) FT_Done_FreeType(library_);
  }
  Baker(const Baker&) = delete;
  Baker& operator=(const Baker&) = delete;

  bool open(const std::string& path) {
    return FT_Init_FreeType(&library_) == 0 && FT_New_Face(library_, path.c_str(), 0, &face_) == 0;
  }
  bool bake(std::size_t size) {
    const auto pixels = static_cast<FT_UInt>(std::lround(kUnits[size] * font_.scale_));
    if (FT_Set_Pixel_Sizes(face_, 0, std::max(pixels, 1u)) != 0) return false;
    font_.sizes_[size].line_height = static_cast<int>(face_->size->metrics.height >> 6);
    for (const char32_t c : characters()) {
      if (FT_Get_Char_Index(face_, c) == 0) continue;
      if (FT_Load_Char(face_, c, FT_LOAD_RENDER | FT_LOAD_TARGET_LIGHT) != 0) return false;
      if (!add(font_.sizes_[size].letters[c], *face_->glyph)) return false;
    }
    return font_.sizes_[size].letters.contains('?');
  }

 private:
  bool add(Letter& letter, const FT_GlyphSlotRec_& slot) {
    const FT_Bitmap& bitmap = slot.bitmap;
    const int width = static_cast<int>(bitmap.width), height = static_cast<int>(bitmap.rows);
    if (width > kAtlasWidth || bitmap.pixel_mode != FT_PIXEL_MODE_GRAY) return false;
    if (x_ + width > kAtlasWidth) {
      x_ = 0;
      y_ += row_;
      row_ = 0;
    }
    row_ = std::max(row_, height);
    Atlas& atlas = font_.atlas_;
    atlas.width = kAtlasWidth;
    atlas.height = std::max(atlas.height, y_ + row_);
    atlas.cover.resize(static_cast<std::size_t>(atlas.width) * static_cast<std::size_t>(atlas.height));
    for (int row = 0; row < height; ++row)
      std::copy_n(bitmap.buffer + row * bitmap.pitch, width, &atlas.cover[(y_ + row) * kAtlasWidth + x_]);
    letter = {static_cast<std::uint16_t>(x_),
              static_cast<std::uint16_t>(y_),
              static_cast<std::uint16_t>(width),
              static_cast<std::uint16_t>(height),
              slot.bitmap_left,
              slot.bitmap_top,
              static_cast<int>(slot.advance.x >> 6)};
    x_ += width;
    return true;
  }

  Font& font_;
  FT_Library library_ = nullptr;
  FT_Face face_ = nullptr;
  int x_ = 0, y_ = 0, row_ = 0;
};

tessera::Expected<Font> Font::create(const std::string& path, float scale) {
  Font font;
  font.scale_ = scale;
  {
    Baker baker(font);
    bool baked = baker.open(path);
    for (std::size_t size = 0; size < kUnits.size() && baked; ++size) baked = baker.bake(size);
    if (!baked) return tessera::Failure{TESSERA_IO, "'" + path + "' is no font that can be read"};
  }
  return font;
}

const Font::Letter& Font::letter(TextSize size, char32_t character) const {
  const auto& letters = sizes_[static_cast<std::size_t>(size)].letters;
  const auto found = letters.find(character);
  return found != letters.end() ? found->second : letters.at('?');
}

int Font::pixels(TextSize size, std::string_view text) const {
  int sum = 0;
  while (!text.empty()) sum += letter(size, next_character(text)).advance;
  return sum;
}

float Font::line_height(TextSize size) const {
  return static_cast<float>(sizes_[static_cast<std::size_t>(size)].line_height) / scale_;
}

float Font::width(TextSize size, std::string_view text) const {
  return static_cast<float>(pixels(size, text)) / scale_;
}

void Font::draw(std::vector<Glyph>& out, TextSize size, Vec2 at, std::string_view text, Color color) const {
  int x = static_cast<int>(std::lround(at.x * scale_));
  const int y = static_cast<int>(std::lround(at.y * scale_));
  while (!text.empty()) {
    const Letter& l = letter(size, next_character(text));
    if (l.width > 0)
      out.push_back({static_cast<std::int16_t>(x + l.left), static_cast<std::int16_t>(y - l.top), l.u, l.v,
                     l.width, l.height, color});
    x += l.advance;
  }
}

std::vector<std::string> Font::wrap(TextSize size, std::string_view text, float width) const {
  const int room = static_cast<int>(width * scale_);
  std::vector<std::string> lines;
  while (!text.empty()) {
    std::string_view rest = text, line, next;  // line: what fits; next: where the following one begins
    for (int used = 0;;) {
      const std::string_view here = rest;
      const auto upto = [&] { return text.substr(0, text.size() - here.size()); };
      if (rest.empty() || rest.front() == '\n') {
        line = upto();
        next = rest.empty() ? rest : rest.substr(1);
        break;
      }
      if (rest.front() == ' ') {
        line = upto();
        next = rest.substr(1);
      }
      const bool space = rest.front() == ' ';
      used += letter(size, next_character(rest)).advance;
      if (used <= room || space) continue;
      if (line.data() == nullptr) {  // one word, too long
        line = upto().empty() ? text.substr(0, text.size() - rest.size()) : upto();
        next = text.substr(line.size());
      }
      break;
    }
    lines.emplace_back(line);
    text = next;
  }
  return lines;
}

}  // namespace demo
