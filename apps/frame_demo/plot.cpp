#include "plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "summary.h"

namespace demo {
namespace {

constexpr Color kText = 0x2f2b36ff, kFaint = 0x7d7886ff, kGrid = 0xe4e0d8ff, kAxis = 0x9a95a3ff;
constexpr Color kWithout = 0x3f74b5ff, kWith = 0xd96a1bff, kBudget = 0x9c2f55ff;

std::string milliseconds(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), value < 9.95 ? "%.2f ms" : "%.1f ms", value);
  return text;
}

// 1, 2 or 5 times a power of ten: four to eight of them reach `top`.
double tick_step(double top) {
  const double power = std::pow(10, std::floor(std::log10(top / 4)));
  const double part = top / 4 / power;
  return power * (part >= 5 ? 5 : part >= 2 ? 2 : 1);
}

// One panel: a rectangle of the picture with frames from left to right and milliseconds from below.
class Panel {
 public:
  Panel(DrawList& list, const Font& font, Vec2 low, Vec2 high, double top, std::size_t frames)
      : list_(list),
        font_(font),
        low_(low),
        high_(high),
        top_(top),
        frames_(std::max<std::size_t>(frames, 2)) {}

  void axes(const std::string& caption, bool numbers_below) const {
    const double step = tick_step(top_);
    for (int i = 0; step * i <= top_ * 1.0001; ++i) {
      const float y = at(0, step * i).y;
      line({low_.x, y}, {high_.x, y}, i == 0 ? kAxis : kGrid, 0.8f);
      char text[32];
      std::snprintf(text, sizeof(text), "%g", step * i);
      right(text, {low_.x - 5, y + 3}, kFaint);
    }
    line({low_.x, low_.y}, {low_.x, high_.y}, kAxis, 0.8f);
    text(caption, {low_.x, high_.y - 7}, kText);
    if (!numbers_below) return;
    const auto step_x = std::max(1, static_cast<int>(tick_step(static_cast<double>(frames_))));
    for (int frame = 0; frame <= static_cast<int>(frames_); frame += step_x) {
      const float x = at(static_cast<std::size_t>(frame), 0).x;
      line({x, low_.y}, {x, low_.y + 3}, kAxis, 0.8f);
      const std::string number = std::to_string(frame);
      text(number, {x - 0.5f * font_.width(TextSize::kSmall, number), low_.y + 13}, kFaint);
    }
    const std::string name = "frame";
    text(name, {0.5f * (low_.x + high_.x - font_.width(TextSize::kSmall, name)), low_.y + 25}, kText);
  }

  void curve(const std::vector<double>& values, Color color) const {
    for (std::size_t i = 0; i + 1 < values.size(); ++i)
      line(at(i, values[i]), at(i + 1, values[i + 1]), color, 1);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] > top_) {  // cut off: a mark at the upper edge
        Shape mark{at(i, top_) - Vec2{0, 3}, {2.6f, 2.6f}, Form::kTriangle, color};
        list_.shapes.push_back(mark);
      }
  }

  void bars(const std::vector<double>& values, Color color) const {
    const float half = 0.42f * (high_.x - low_.x) / static_cast<float>(frames_);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Vec2 upper = at(i, values[i]);
      list_.shapes.push_back({{upper.x, 0.5f * (upper.y + low_.y)},
                              {std::max(half, 0.4f), 0.5f * (low_.y - upper.y)},
                              Form::kBox,
                              color});
    }
  }

  struct Level {
    double value;
    std::string name;
    Color color;
  };
  // Dashed lines over the whole width, named at the right; names keep a distance from each other.
  void levels(std::vector<Level> levels) const {
    std::sort(levels.begin(), levels.end(), [](const Level& a, const Level& b) { return a.value < b.value; });
    float lowest = low_.y + 6;  // names grow upwards from here
    for (const Level& level : levels) {
      const float y = at(0, level.value).y;
      for (float x = low_.x; x < high_.x; x += 7)
        line({x, y}, {std::min(x + 3.5f, high_.x), y}, level.color, 1.1f);
      const float beside = std::min(y + 3, lowest);
      lowest = beside - 10.5f;
      line({high_.x + 1, y}, {high_.x + 7, beside - 3}, level.color, 0.8f);
      text(level.name + " " + milliseconds(level.value), {high_.x + 10, beside}, level.color);
    }
  }

  void text(const std::string& words, Vec2 where, Color color) const {
    font_.draw(list_.glyphs, TextSize::kSmall, where, words, color);
  }

 private:
  Vec2 at(std::size_t frame, double value) const {
    const float x = static_cast<float>(frame) / static_cast<float>(frames_ - 1);
    const auto y = static_cast<float>(std::min(value, top_) / top_);
    return {low_.x + std::min(x, 1.0f) * (high_.x - low_.x), low_.y + y * (high_.y - low_.y)};
  }
  void right(const std::string& words, Vec2 where, Color color) const {
    text(words, where - Vec2{font_.width(TextSize::kSmall, words), 0}, color);
  }
  void line(Vec2 a, Vec2 b, Color color, float width) const {
    const Vec2 along = b - a;
    Shape shape{
        (a + b) * 0.5f, {0.5f * (std::hypot(along.x, along.y) + width), 0.5f * width}, Form::kBox, color};
    shape.angle = std::atan2(along.y, along.x);
    shape.round = 0.5f * width;
    list_.shapes.push_back(shape);
  }

  DrawList& list_;
  const Font& font_;
  Vec2 low_, high_;  // lower left and upper right corner
  double top_;
  std::size_t frames_;
};

void legend(DrawList& list, const Font& font, Vec2 at, const std::string& name, Color color) {
  list.shapes.push_back({at - Vec2{-6, 3}, {6, 1.6f}, Form::kBox, color});
  font.draw(list.glyphs, TextSize::kSmall, at + Vec2{17, 0}, name, kText);
}

}  // namespace

DrawList draw_plot(const PlotData& data, float width, const Font& font) {
  DrawList list;
  list.backdrop = Backdrop::kPlain;
  font.draw(list.glyphs, TextSize::kTitle, {44, 27}, data.title, kText);
  font.draw(list.glyphs, TextSize::kSmall, {44, 42}, data.subtitle, kFaint);
  legend(list, font, {44, 60}, "without Tessera", kWithout);
  legend(list, font, {144, 60}, "with Tessera", kWith);

  const Summary without = summarize(data.without), with = summarize(data.with);
  const double top = std::max(1.25 * std::max(without.p99, with.p99), 0.1);
  const std::size_t frames = std::max(data.without.size(), data.with.size());
  const float right = width - 92;
  const bool below = !data.tessera.empty();
  const Panel times(list, font, {44, below ? 214.0f : 322.0f}, {right, 86}, top, frames);
  times.axes("frame time, ms (from its first call to its fence)", !below);
  times.curve(data.without, kWithout);
  times.curve(data.with, kWith);
  std::vector<Panel::Level> levels{{without.p50, "p50", kWithout},
                                   {without.p99, "p99", kWithout},
                                   {with.p50, "p50", kWith},
                                   {with.p99, "p99", kWith}};
  if (data.interval <= top) levels.push_back({data.interval, "interval", kFaint});
  times.levels(levels);
  if (!below) return list;
  const Summary share = summarize(data.tessera);
  const Panel device(list, font, {44, 322}, {right, 250}, 1.3 * std::max({data.budget, share.p99, 0.01}),
                     frames);
  device.axes("device time of Tessera's work in a frame, ms", true);
  device.bars(data.tessera, with_alpha(kWith, 0.75f));
  device.levels({{data.budget, "budget", kBudget}, {share.p99, "p99", kWith}});
  return list;
}

}  // namespace demo
