#include <cmath>

#include "../shared/characters.h"
#include "../shared/font_face.h"
#include "../shared/png_file.h"
#include "attend_figure.h"

namespace tool {
namespace {

constexpr int kScale = 2;  // pixels of a CSS pixel: 192 dpi

class Canvas {
 public:
  Canvas(const Figure& figure, FontFace& face) : face_(face) {
    picture_.width = static_cast<std::uint32_t>(figure.width * kScale);
    picture_.height = static_cast<std::uint32_t>(figure.height * kScale);
    picture_.rgba.assign(std::size_t{4} * picture_.width * picture_.height, 255);
    for (const FigureMap& map : figure.maps) draw(map);
    for (const FigureBox& box : figure.boxes)
      fill(pixels(box.x), pixels(box.y), pixels(box.width), pixels(box.height), box.color);
    for (const FigureText& text : figure.texts) draw(text);
  }
  const Picture& picture() const { return picture_; }

 private:
  static int pixels(double x) { return static_cast<int>(std::lround(x * kScale)); }

  // `cover` of 255 of the colour, the rest as it was; nothing outside the picture.
  void blend(int x, int y, Rgb color, int cover) {
    if (x < 0 || y < 0 || x >= static_cast<int>(picture_.width) || y >= static_cast<int>(picture_.height))
      return;
    std::uint8_t* at =
        &picture_.rgba[4 * (static_cast<std::size_t>(y) * picture_.width + static_cast<std::size_t>(x))];
    for (std::size_t i = 0; i < 3; ++i)
      at[i] = static_cast<std::uint8_t>((at[i] * (255 - cover) + color[i] * cover + 127) / 255);
  }

  void fill(int x, int y, int width, int height, Rgb color) {
    for (int row = y; row < y + height; ++row)
      for (int column = x; column < x + width; ++column) blend(column, row, color, 255);
  }

  void draw(const FigureMap& map) {
    const int width = map.cell_width * kScale, height = map.cell_height * kScale;
    for (std::size_t r = 0; r < map.rows; ++r)
      for (std::size_t c = 0; c < map.columns; ++c)
        fill(map.x * kScale + static_cast<int>(c) * width, map.y * kScale + static_cast<int>(r) * height,
             width, height, attention_colors()[map.colors[r * map.columns + c]]);
  }

  void draw(const FigureText& text) {
    if (!face_.resize(static_cast<unsigned>(pixels(text.size)))) return;
    const Rgb color = text.strong ? Rgb{34, 34, 34} : Rgb{102, 102, 102};
    FontFace::Letter letter;
    int length = 0;
    for (std::string_view rest = text.text; !rest.empty();)
      if (load(rest, letter)) length += letter.advance;
    // Along the line, from where the text begins; `down` across it.
    int along = text.anchor == Anchor::start ? 0 : text.anchor == Anchor::end ? -length : -length / 2;
    const int x = pixels(text.x), y = pixels(text.y);
    for (std::string_view rest = text.text; !rest.empty();) {
      if (!load(rest, letter)) continue;
      for (int row = 0; row < letter.height; ++row)
        for (int column = 0; column < letter.width; ++column) {
          const int right = along + letter.left + column, down = row - letter.top;
          const int cover = letter.cover[row * letter.pitch + column];
          if (text.upwards)
            blend(x + down, y - right, color, cover);
          else
            blend(x + right, y + down, color, cover);
        }
      along += letter.advance;
    }
  }

  // The letter of the next character; what the font lacks has its own sign for that.
  bool load(std::string_view& rest, FontFace::Letter& letter) const {
    return face_.load(next_character(rest), letter);
  }

  FontFace& face_;
  Picture picture_;
};

}  // namespace

tessera::Expected<tessera::Done> write_attention_png(const std::string& path, const AttentionView& view,
                                                     const std::string& font) {
  const std::string file = font.empty() ? TESSERA_FONT : font;
  if (file.empty())
    return tessera::Failure{TESSERA_INVALID_ARGUMENT, "there is no font for a PNG: give one with --font"};
  auto face = FontFace::open(file);
  if (!face) return face.failure();
  const auto width = [&](std::string_view text, double size) {
    face->resize(static_cast<unsigned>(std::lround(size * kScale)));
    FontFace::Letter letter;
    int sum = 0;
    while (!text.empty())
      if (face->load(next_character(text), letter)) sum += letter.advance;
    return static_cast<double>(sum) / kScale;
  };
  auto figure = draw_attention(view, width);
  if (!figure) return figure.failure();
  return write_png(path, Canvas(*figure, *face).picture());
}

}  // namespace tool
