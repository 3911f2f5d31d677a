#include "font.h"

#include <algorithm>
#include <cmath>

#include "../shared/characters.h"
#include "../shared/font_face.h"

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

}  // namespace

// Renders letters row by row into a picture of fixed width that grows downwards.
class Font::Baker {
 public:
  Baker(Font& font, tool::FontFace& face) : font_(font), face_(face) {}

  bool bake(std::size_t size) {
    if (!face_.resize(static_cast<unsigned>(std::lround(kUnits[size] * font_.scale_)))) return false;
    font_.sizes_[size].line_height = face_.line_height();
    for (const char32_t c : characters()) {
      if (!face_.has(c)) continue;
      tool::FontFace::Letter picture;
      if (!face_.load(c, picture) || !add(font_.sizes_[size].letters[c], picture)) return false;
    }
    return font_.sizes_[size].letters.contains('?');
  }

 private:
  bool add(Letter& letter, const tool::FontFace::Letter& picture) {
    const int width = picture.width, height = picture.height;
    if (width > kAtlasWidth) return false;
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
      std::copy_n(picture.cover + row * picture.pitch, width, &atlas.cover[(y_ + row) * kAtlasWidth + x_]);
    letter = {static_cast<std::uint16_t>(x_),
              static_cast<std::uint16_t>(y_),
              static_cast<std::uint16_t>(width),
              static_cast<std::uint16_t>(height),
              picture.left,
              picture.top,
              picture.advance};
    x_ += width;
    return true;
  }

  Font& font_;
  tool::FontFace& face_;
  int x_ = 0, y_ = 0, row_ = 0;
};

tessera::Expected<Font> Font::create(const std::string& path, float scale) {
  Font font;
  font.scale_ = scale;
  auto face = tool::FontFace::open(path);
  if (!face) return face.failure();
  Baker baker(font, *face);
  for (std::size_t size = 0; size < kUnits.size(); ++size)
    if (!baker.bake(size))
      return tessera::Failure{TESSERA_IO, "'" + path + "' is a font whose letters cannot be drawn"};
  return font;
}

const Font::Letter& Font::letter(TextSize size, char32_t character) const {
  const auto& letters = sizes_[static_cast<std::size_t>(size)].letters;
  const auto found = letters.find(character);
  return found != letters.end() ? found->second : letters.at('?');
}

int Font::pixels(TextSize size, std::string_view text) const {
  int sum = 0;
  while (!text.empty()) sum += letter(size, tool::next_character(text)).advance;
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
    const Letter& l = letter(size, tool::next_character(text));
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
      used += letter(size, tool::next_character(rest)).advance;
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
