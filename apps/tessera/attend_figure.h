// The figure of an AttentionView, laid out once for every format: what is where, in CSS pixels.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "attention_view.h"

namespace tool {

using Rgb = std::array<std::uint8_t, 3>;

// 256 colours from white to a dark violet: a line of falling lightness and turning hue in OKLab
// (https://bottosson.github.io/posts/oklab), in steps of equal length there, so that equal differences of
// weight look equally different.
const std::array<Rgb, 256>& attention_colors();
std::string color_name(Rgb color);  // "#rrggbb"

enum class Anchor { start, middle, end };

struct FigureText {
  double x = 0, y = 0;  // of the anchor, on the baseline
  std::string text;
  double size = 11;
  Anchor anchor = Anchor::start;
  bool upwards = false;  // turned by 90 degrees
  bool strong = false;   // dark; else grey
};
struct FigureBox {
  double x = 0, y = 0, width = 0, height = 0;
  Rgb color{};
};
// Cells of integer size at integer places, so that their edges are sharp.
struct FigureMap {
  int x = 0, y = 0, cell_width = 1, cell_height = 1;
  std::size_t rows = 0, columns = 0;
  std::vector<std::uint8_t> colors;  // (rows, columns), of attention_colors()
};

struct Figure {
  int width = 0, height = 0;
  std::vector<FigureMap> maps;  // drawn in this order, on white
  std::vector<FigureBox> boxes;
  std::vector<FigureText> texts;
};

using TextWidth = std::function<double(std::string_view text, double size)>;
// Without a font at hand: about that of a sans serif.
double estimated_width(std::string_view text, double size);

// invalid_argument when it would be more than 16,000 pixels wide or high.
tessera::Expected<Figure> draw_attention(const AttentionView& view, const TextWidth& width);

}  // namespace tool
