#include <array>
#include <cstdio>

#include "../shared/characters.h"
#include "attend_figure.h"

namespace tool {
namespace {

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

// XML has no other control characters than these, and no half of a character.
std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::string_view before = text;
    const char32_t c = next_character(text);
    const std::string_view bytes = before.substr(0, before.size() - text.size());
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == kDamaged || c == 0xfffe || c == 0xffff || (c < 0x20 && c != '\t' && c != '\n'))
      out += "\ufffd";
    else
      out += bytes;
  }
  return out;
}

// A path for each colour, of runs of cells that have it; white ones are the paper.
std::string map_svg(const FigureMap& map) {
  std::array<std::string, 256> paths;
  for (std::size_t r = 0; r < map.rows; ++r)
    for (std::size_t c = 0; c < map.columns;) {
      const std::uint8_t color = map.colors[r * map.columns + c];
      std::size_t end = c + 1;
      while (end < map.columns && map.colors[r * map.columns + end] == color) ++end;
      const std::string length = std::to_string(end - c);
      if (color != 0)
        paths[color] +=
            "M" + std::to_string(c) + " " + std::to_string(r) + "h" + length + "v1h-" + length + "z";
      c = end;
    }
  std::string out = "<g transform=\"translate(" + std::to_string(map.x) + " " + std::to_string(map.y) +
                    ") scale(" + std::to_string(map.cell_width) + " " + std::to_string(map.cell_height) +
                    ")\">\n";
  for (std::size_t i = 0; i < paths.size(); ++i)
    if (!paths[i].empty())
      out += "<path fill=\"" + color_name(attention_colors()[i]) + "\" d=\"" + paths[i] + "\"/>\n";
  return out + "</g>\n";
}

std::string text_svg(const FigureText& text) {
  const char* anchor = text.anchor == Anchor::start ? "start" : text.anchor == Anchor::end ? "end" : "middle";
  const std::string at = number(text.x) + (text.upwards ? " " : "\" y=\"") + number(text.y);
  return (text.upwards ? "<text transform=\"translate(" + at + ") rotate(-90)\"" : "<text x=\"" + at + "\"") +
         " font-size=\"" + number(text.size) + "\" text-anchor=\"" + anchor + "\" fill=\"" +
         (text.strong ? "#222" : "#666") + "\">" + escaped(text.text) + "</text>\n";
}

}  // namespace

tessera::Expected<tessera::Done> write_attention_svg(const std::string& path, const AttentionView& view) {
  auto figure = draw_attention(view, estimated_width);
  if (!figure) return figure.failure();
  const std::string width = std::to_string(figure->width), height = std::to_string(figure->height);
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" + height +
                    "\" viewBox=\"0 0 " + width + " " + height +
                    "\" font-family=\"'DejaVu Sans',Verdana,sans-serif\">\n<title>" + escaped(view.title()) +
                    "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
                    "<g shape-rendering=\"crispEdges\">\n";
  for (const FigureMap& map : figure->maps) out += map_svg(map);
  for (const FigureBox& box : figure->boxes)
    out += "<rect x=\"" + number(box.x) + "\" y=\"" + number(box.y) + "\" width=\"" + number(box.width) +
           "\" height=\"" + number(box.height) + "\" fill=\"" + color_name(box.color) + "\"/>\n";
  out += "</g>\n";
  for (const FigureText& text : figure->texts) out += text_svg(text);
  return write_file(path, out + "</svg>\n");
}

}  // namespace tool
