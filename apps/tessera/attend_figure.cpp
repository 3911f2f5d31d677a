#include "attend_figure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>

#include "../shared/characters.h"

namespace tool {
namespace {

constexpr int kMostPixels = 16'000;
constexpr int kMargin = 18, kGap = 16;
constexpr double kTitle = 14, kName = 11;           // sizes of text
constexpr double kLeastLabel = 8, kMostLabel = 12;  // of tokens
constexpr Rgb kGrid{235, 235, 238}, kEdge{150, 150, 158};
constexpr int kGridCell = 10;  // smaller cells have no lines between them

// ---- colours

struct Lab {
  double l, a, b;
};

// Lightness falls evenly, the hue turns from a yellowish green to a bluish violet, and chroma stays within
// what sRGB has there.
Lab color_line(double t) {
  const double hue = (110 + 175 * t) * std::numbers::pi / 180;
  const double chroma = 0.075 * std::sin(std::numbers::pi * std::pow(t, 0.8)) + 0.045 * t;
  return {1 - 0.76 * t, chroma * std::cos(hue), chroma * std::sin(hue)};
}

// Linear sRGB of OKLab.
std::array<double, 3> linear_rgb(const Lab& c) {
  const double l = std::pow(c.l + 0.3963377774 * c.a + 0.2158037573 * c.b, 3);
  const double m = std::pow(c.l - 0.1055613458 * c.a - 0.0638541728 * c.b, 3);
  const double s = std::pow(c.l - 0.0894841775 * c.a - 1.2914855480 * c.b, 3);
  return {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
          -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
          -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
}

Rgb to_srgb(const Lab& c) {
  Rgb out{};
  const std::array<double, 3> linear = linear_rgb(c);
  for (std::size_t i = 0; i < 3; ++i) {
    const double x = std::clamp(linear[i], 0.0, 1.0);
    const double encoded = x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055;
    out[i] = static_cast<std::uint8_t>(std::lround(255 * encoded));
  }
  return out;
}

std::array<Rgb, 256> equal_steps() {
  constexpr std::size_t kSamples = 4096;
  std::vector<Lab> line;
  std::vector<double> length{0};
  for (std::size_t i = 0; i <= kSamples; ++i) {
    line.push_back(color_line(static_cast<double>(i) / kSamples));
    if (i == 0) continue;
    const Lab &p = line[i - 1], &q = line[i];
    length.push_back(length.back() + std::hypot(q.l - p.l, q.a - p.a, q.b - p.b));
  }
  std::array<Rgb, 256> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double at = length.back() * static_cast<double>(i) / 255;
    const auto sample = std::ranges::lower_bound(length, at) - length.begin();
    out[i] = to_srgb(line[static_cast<std::size_t>(sample)]);
  }
  return out;
}

// ---- layout

// Rows of panels: a layer each, or a list that is cut into lines.
struct Panels {
  std::size_t columns = 1, lines = 1;
  bool by_layer = false;  // lines are layers, columns heads
};

Panels arrange(const tessera::Attention& a) {
  const std::size_t count = a.heads.size();
  const std::size_t layers = a.heads.back().layer - a.heads.front().layer + 1;
  if (layers > 1 && count > layers) return {count / layers, layers, true};
  std::size_t columns = count;
  if (count > 4) {
    const double root = std::sqrt(static_cast<double>(count));
    columns = static_cast<std::size_t>(std::ceil(root));
    while (count % columns != 0 && static_cast<double>(columns) < 2 * root) ++columns;
    if (count % columns != 0) columns = static_cast<std::size_t>(std::ceil(root));
  }
  return {columns, (count + columns - 1) / columns, false};
}

// Labels of one axis: their size, and how many tokens one stands for where there is no room for all.
struct Labels {
  double size = kMostLabel, longest = 0;
  std::size_t every = 1;
};

Labels label_axis(const std::vector<std::string>& texts, int cell, const TextWidth& width) {
  Labels out;
  out.size = std::clamp<double>(cell - 2, kLeastLabel, kMostLabel);
  out.every = static_cast<std::size_t>(std::ceil((out.size + 2) / cell));
  for (std::size_t i = 0; i < texts.size(); i += out.every)
    out.longest = std::max(out.longest, width(texts[i], out.size));
  return out;
}

std::string number(double value) {
  char text[16];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

class Drawing {
 public:
  Drawing(const AttentionView& view, const TextWidth& width)
      : view_(view),
        width_(width),
        panels_(arrange(view.attention)),
        rows_(view.row_labels.size()),
        keys_(view.key_labels.size()) {
    const std::size_t count = view.attention.heads.size();
    const int room = count == 1 ? 540 : count <= 12 ? 230 : 130;
    const int most = count == 1 ? 30 : 24;
    cell_ = std::clamp(room / static_cast<int>(std::max(rows_, keys_)), 1, most);
    row_labels_ = label_axis(view.row_labels, cell_, width);
    key_labels_ = label_axis(view.key_labels, cell_, width);
    upright_ = key_labels_.longest <= cell_ * static_cast<int>(key_labels_.every) - 3;
  }

  tessera::Expected<Figure> draw() {
    place();
    if (figure_.width > kMostPixels || figure_.height > kMostPixels)
      return tessera::Failure{TESSERA_INVALID_ARGUMENT,
                              "a figure of " + std::to_string(figure_.width) + " x " +
                                  std::to_string(figure_.height) +
                                  " pixels is too large: choose a layer and a head, or a shorter text"};
    text({static_cast<double>(kMargin), kMargin + kTitle - 2, title(), kTitle, Anchor::start, false, true});
    for (std::size_t i = 0; i < view_.attention.heads.size(); ++i) panel(i);
    headings();
    axis_names();
    color_bar();
    return std::move(figure_);
  }

 private:
  int panel_width() const { return cell_ * static_cast<int>(keys_); }
  int panel_height() const { return cell_ * static_cast<int>(rows_); }
  int left_of(std::size_t column) const { return left_ + static_cast<int>(column) * pitch_; }
  int top_of(std::size_t line) const { return top_ + static_cast<int>(line) * (panel_height() + line_gap_); }
  int right() const { return left_of(panels_.columns - 1) + panel_width(); }
  int bottom() const { return top_of(panels_.lines - 1) + panel_height(); }

  std::string panel_name(const tessera::AttentionHead& head) const {
    return view_.mean ? "layer " + std::to_string(head.layer) : "head " + std::to_string(head.head);
  }
  bool titled() const { return view_.attention.heads.size() > 1 && !panels_.by_layer; }

  std::string title() const {
    const tessera::AttentionHead& first = view_.attention.heads.front();
    if (view_.attention.heads.size() == 1) return view_.title() + ", " + view_.name(first);
    if (view_.mean) return view_.title() + ", mean of heads";
    return panels_.by_layer ? view_.title() : view_.title() + ", layer " + std::to_string(first.layer);
  }

  void place() {
    const auto up = [](double x) { return static_cast<int>(std::ceil(x)); };
    pitch_ = panel_width() + kGap;
    if (panels_.columns > 1)  // names of narrow panels have room too
      for (const tessera::AttentionHead& head : view_.attention.heads)
        pitch_ = std::max(pitch_, up(width_(panel_name(head), kName)) + kGap / 2);
    const int heading = titled() || panels_.by_layer ? 20 : 0;
    line_gap_ = titled() ? 12 + heading : kGap;
    left_ = kMargin + 20 + (panels_.by_layer ? 20 : 0) + up(row_labels_.longest) + 7;
    top_ = kMargin + up(kTitle) + 14 + heading;
    const double below = upright_ ? key_labels_.size + 8 : key_labels_.longest + 9;
    key_name_ = bottom() + up(below) + 16;
    figure_.height = std::max(key_name_, top_ + bar_height() + 4) + kMargin;
    figure_.width = right() + 20 + 14 + 8 + up(width_("0.25", kName)) + kMargin;
    figure_.width = std::max(figure_.width, 2 * kMargin + up(width_(title(), kTitle)));
  }

  void text(FigureText t) { figure_.texts.push_back(std::move(t)); }
  void box(double x, double y, double w, double h, Rgb color) {
    figure_.boxes.push_back({x, y, w, h, color});
  }

  void frame(const FigureMap& m) {
    const double w = m.cell_width * static_cast<double>(m.columns),
                 h = m.cell_height * static_cast<double>(m.rows);
    box(m.x - 1, m.y - 1, w + 2, 1, kEdge);
    box(m.x - 1, m.y + h, w + 2, 1, kEdge);
    box(m.x - 1, m.y, 1, h, kEdge);
    box(m.x + w, m.y, 1, h, kEdge);
  }

  void panel(std::size_t index) {
    const tessera::AttentionHead& head = view_.attention.heads[index];
    const std::size_t column = index % panels_.columns, line = index / panels_.columns;
    FigureMap map{left_of(column), top_of(line), cell_, cell_, rows_, keys_, {}};
    for (const float weight : head.weights)
      map.colors.push_back(static_cast<std::uint8_t>(std::lround(255 * view_.darkness(weight))));
    if (cell_ >= kGridCell) grid(map);
    frame(map);
    if (titled())
      text({map.x + panel_width() / 2.0, map.y - 7.0, panel_name(head), kName, Anchor::middle, false, true});
    if (column == 0) row_labels(map);
    if (index + panels_.columns >= view_.attention.heads.size()) key_labels(map);
    figure_.maps.push_back(std::move(map));
  }

  void grid(const FigureMap& m) {
    for (std::size_t r = 1; r < rows_; ++r)
      box(m.x, m.y + cell_ * static_cast<double>(r) - 1, panel_width(), 1, kGrid);
    for (std::size_t k = 1; k < keys_; ++k)
      box(m.x + cell_ * static_cast<double>(k) - 1, m.y, 1, panel_height(), kGrid);
  }

  void row_labels(const FigureMap& m) {
    for (std::size_t r = 0; r < rows_; r += row_labels_.every)
      text({m.x - 6.0, m.y + cell_ * (static_cast<double>(r) + 0.5) + 0.36 * row_labels_.size,
            view_.row_labels[r], row_labels_.size, Anchor::end, false, true});
  }
  void key_labels(const FigureMap& m) {
    for (std::size_t k = 0; k < keys_; k += key_labels_.every) {
      const double x = m.x + cell_ * (static_cast<double>(k) + 0.5), y = m.y + panel_height();
      const double size = key_labels_.size;
      if (upright_)
        text({x, y + size + 4, view_.key_labels[k], size, Anchor::middle, false, true});
      else
        text({x + 0.36 * size, y + 6, view_.key_labels[k], size, Anchor::end, true, true});
    }
  }

  // Of lines and columns of a grid of layers and heads.
  void headings() {
    if (!panels_.by_layer) return;
    const auto& heads = view_.attention.heads;
    for (std::size_t c = 0; c < panels_.columns; ++c)
      text({left_of(c) + panel_width() / 2.0, top_ - 7.0, panel_name(heads[c]), kName, Anchor::middle, false,
            true});
    for (std::size_t l = 0; l < panels_.lines; ++l)
      text({kMargin + 32.0, top_of(l) + panel_height() / 2.0,
            "layer " + std::to_string(heads[l * panels_.columns].layer), kName, Anchor::middle, true, true});
  }

  void axis_names() {
    text({kMargin + 10.0, (top_ + bottom()) / 2.0, view_.row_name, kName, Anchor::middle, true, false});
    text({(left_ + right()) / 2.0, static_cast<double>(key_name_), view_.key_name, kName, Anchor::middle,
          false, false});
  }

  int bar_height() const { return std::clamp(bottom() - top_, 100, 220); }

  void color_bar() {
    const int height = bar_height(), x = right() + 20;
    FigureMap bar{x, top_, 14, 1, static_cast<std::size_t>(height), 1, {}};
    for (int i = 0; i < height; ++i)
      bar.colors.push_back(static_cast<std::uint8_t>(std::lround(255.0 * (height - 1 - i) / (height - 1))));
    frame(bar);
    figure_.maps.push_back(std::move(bar));
    const double step = tick_step(view_.top);
    for (int i = 0; i * step <= view_.top + 1e-9; ++i) {
      const double y = top_ + height * (1 - view_.darkness(i * step));
      box(x + 15, std::round(y) - (i == 0 ? 0 : 1), 4, 1, kEdge);
      text({x + 22.0, y + 0.36 * kName, number(i * step), kName, Anchor::start, false, false});
    }
  }

  const AttentionView& view_;
  const TextWidth& width_;
  Panels panels_;
  std::size_t rows_, keys_;
  int cell_ = 1, pitch_ = 0, left_ = 0, top_ = 0, line_gap_ = 0, key_name_ = 0;
  Labels row_labels_, key_labels_;
  bool upright_ = false;
  Figure figure_;
};

}  // namespace

const std::array<Rgb, 256>& attention_colors() {
  static const std::array<Rgb, 256> colors = equal_steps();
  return colors;
}

std::string color_name(Rgb color) {
  char text[8];
  std::snprintf(text, sizeof(text), "#%02x%02x%02x", unsigned{color[0]}, unsigned{color[1]},
                unsigned{color[2]});
  return text;
}

double estimated_width(std::string_view text, double size) {
  double ems = 0;
  while (!text.empty()) ems += next_character(text) < 0x1100 ? 0.6 : 1;
  return ems * size;
}

tessera::Expected<Figure> draw_attention(const AttentionView& view, const TextWidth& width) {
  return Drawing(view, width).draw();
}

}  // namespace tool
