#include "scene.h"

#include <algorithm>
#include <cmath>

#include "cast.h"

namespace demo {
namespace {

struct Seat {
  float x;  // of the feet, from the middle of the picture
  float y;
  Vec2 lips;       // where the bubble's tail ends, from the feet
  float bubble_x;  // the middle of the bubble, from the middle of the picture
  float bubble_low;
  Color color;  // of the bubble's border and caret
};
constexpr std::array<Seat, kCast> kSeats{Seat{-196, 312, {10, -118}, -208, 166, 0xc8692fff},
                                         Seat{0, 262, {0, -104}, 0, 136, 0x8a6a3cff},
                                         Seat{194, 314, {-10, -132}, 208, 160, 0xa83250ff}};
constexpr float kTextWidth = 168;
constexpr float kPadding = 10;
constexpr std::size_t kMostLines = 8;

float part(float x) { return x - std::floor(x); }
// A number in [0, 1) that looks drawn by chance, the same for the same n.
float chance(int n) { return part(std::sin(static_cast<float>(n) * 12.9898f) * 43758.547f); }

float fire_light(float time) {
  return 1 + 0.07f * std::sin(time * 7.3f) + 0.05f * std::sin(time * 12.7f + 1) +
         0.03f * std::sin(time * 21.1f);
}

void draw_fire(const Brush& brush, float time) {
  for (int i = 0; i < 9; ++i) {
    const float turn = 6.2832f * static_cast<float>(i) / 9;
    brush.ellipse({42 * std::cos(turn), 8 + 9 * std::sin(turn)}, {8.5f, 5.5f}, 0x6a6577ff, 0x2f2c40ff);
  }
  brush.box({-4, 4}, {25, 4.5f}, 4, 0x6b432cff, 0x2d1c22ff, 0.30f);
  brush.box({5, 5}, {25, 4.5f}, 4, 0x7a4c30ff, 0x2d1c22ff, -0.26f);
  brush.light({0, 0}, {32, 14}, 0xff7a1cff);
  struct Tongue {
    Vec2 at, half;
    Color low, high;
    float speed;
  };
  constexpr std::array kTongues{Tongue{{-12, -12}, {8, 17}, 0xf2701dff, 0xd9401ae0, 5.1f},
                                Tongue{{13, -14}, {8, 19}, 0xf2701dff, 0xd9401ae0, 4.3f},
                                Tongue{{0, -22}, {14, 30}, 0xf7892aff, 0xe04a1bf0, 4.7f},
                                Tongue{{1, -13}, {9, 20}, 0xffc23dff, 0xff9a2cff, 5.9f},
                                Tongue{{0, -6}, {5.5f, 12}, 0xfff2b0ff, 0xffd65cff, 6.7f}};
  for (const Tongue& tongue : kTongues) {
    Shape shape{tongue.at, tongue.half, Form::kFlame, tongue.high, tongue.low};
    shape.soft = 1.6f;
    shape.phase = -time * tongue.speed + tongue.at.x;
    brush.add(shape);
  }
  for (int i = 0; i < 16; ++i) {  // sparks
    const float life = part(time * (0.32f + 0.2f * chance(i)) + chance(i + 40));
    const float x = (chance(i + 80) - 0.5f) * 34 + 9 * life * std::sin(time * 1.7f + static_cast<float>(i));
    brush.light({x, -20 - 95 * life}, {2.4f, 2.4f}, with_alpha(0xffb347ff, 1.6f * (1 - life)));
  }
}

void draw_fireflies(const Brush& brush, float time) {
  for (int i = 0; i < 10; ++i) {
    const auto n = static_cast<float>(i);
    const Vec2 at{(chance(i + 7) - 0.5f) * 600 + 16 * std::sin(time * 0.4f + n),
                  215 + 80 * chance(i + 21) + 9 * std::sin(time * 0.6f + 2 * n)};
    const float bright = std::max(0.0f, std::sin(time * (0.8f + 0.5f * chance(i)) + 5 * n));
    brush.light(at, {5, 5}, with_alpha(0xd8f06aff, 0.75f * bright));
  }
}

void draw_bubble(DrawList& list, const Actor& actor, const Seat& seat, float middle, float sway, float time,
                 const Font& font) {
  if (actor.words.empty() || actor.visible <= 0) return;
  std::vector<std::string> lines = font.wrap(TextSize::kBody, actor.words, kTextWidth);
  if (lines.size() > kMostLines) lines.erase(lines.begin(), lines.end() - kMostLines);
  float wide = 40;
  for (const std::string& line : lines) wide = std::max(wide, font.width(TextSize::kBody, line));
  const float pitch = font.line_height(TextSize::kBody);
  const Vec2 half{0.5f * wide + kPadding, 0.5f * pitch * static_cast<float>(lines.size()) + kPadding - 2};
  const float rise = 5 * (1 - actor.visible);
  const Vec2 lips = Vec2{middle + seat.x + sway, seat.y} + seat.lips;
  const float room = middle - half.x - 6;
  const Vec2 centre{middle + std::clamp(seat.bubble_x, -room, room), seat.bubble_low - half.y + rise};

  Shape shade{centre + Vec2{0, 4}, half + Vec2{1, 1}, Form::kBox, with_alpha(0x05081470, actor.visible)};
  shade.round = 12;
  shade.soft = 10;
  list.shapes.push_back(shade);
  Shape bubble{centre, half, Form::kBubble, with_alpha(0xfffaf0f6, actor.visible),
               with_alpha(seat.color, actor.visible)};
  bubble.round = 11;
  bubble.border = 1.6f;
  bubble.tail = lips - centre;
  list.shapes.push_back(bubble);

  Vec2 pen{centre.x - half.x + kPadding, centre.y - half.y + kPadding - 2 + 0.78f * pitch};
  for (const std::string& line : lines) {
    font.draw(list.glyphs, TextSize::kBody, pen, line, with_alpha(0x2a1e2cff, actor.visible));
    pen.y += pitch;
  }
  if (actor.speaking && part(time * 1.6f) < 0.6f) {
    const Vec2 end{pen.x + font.width(TextSize::kBody, lines.back()) + 3, pen.y - pitch - 4};
    list.shapes.push_back({end, {1.1f, 5.5f}, Form::kBox, seat.color});
  }
}

void draw_corner(DrawList& list, const Corner& corner, const Font& font) {
  constexpr float kLow = 352, kHigh = 324, kLeft = 10, kPitch = 2.2f;
  constexpr std::size_t kBars = 60;
  if (corner.text.empty()) return;
  const Brush brush(list, {});
  const float text_at = kLeft + kPitch * kBars + 8;
  const float right = text_at + font.width(TextSize::kSmall, corner.text) + 8;
  brush.box({0.5f * (right + kLeft) - 2, 0.5f * (kLow + kHigh)}, {0.5f * (right - kLeft) + 4, 17}, 5,
            0x0b0f1eb8);
  const std::size_t count = std::min(kBars, corner.recent.size());
  for (std::size_t i = 0; i < count; ++i) {
    const FrameBar& bar = corner.recent[corner.recent.size() - count + i];
    const float x = kLeft + kPitch * static_cast<float>(kBars - count + i) + 1;
    const float scale = (kLow - kHigh - 2) / corner.full;
    const float own = std::min(bar.frame, corner.full) * scale, share = std::min(own, bar.tessera * scale);
    brush.box({x, kLow - 1 - 0.5f * own}, {0.85f, 0.5f * own}, 0, 0x6fa8dcff);
    brush.box({x, kLow - 1 - 0.5f * share}, {0.85f, 0.5f * share}, 0, 0xf2a33cff);
  }
  font.draw(list.glyphs, TextSize::kSmall, {text_at, 341.5f}, corner.text, 0xe8e6f0ff);
}

}  // namespace

DrawList draw_scene(const SceneState& state, float width, const Font& font) {
  DrawList list;
  const auto time = static_cast<float>(state.time);
  const float middle = 0.5f * width;
  list.time = time;
  list.camera = 26 * std::sin(time * 0.35f);
  list.fire = fire_light(time);
  const float sway = -list.camera;  // what is near stays with the ground
  using DrawActor = void (*)(const Brush&, const Pose&);
  constexpr std::array<DrawActor, kCast> kDraw{draw_fox, draw_owl, draw_bear};
  for (const std::size_t i : {std::size_t{1}, std::size_t{0}, std::size_t{2}})  // the owl is behind
    kDraw[i](Brush(list, {middle + kSeats[i].x + sway, kSeats[i].y}),
             {time + 1.3f * static_cast<float>(i), state.cast[i].mouth});
  const Brush ground(list, {middle + sway, 318});
  draw_fire(ground, time);
  ground.light({0, -30}, {250, 120}, with_alpha(0xff8a306c, 0.85f * list.fire));
  draw_fireflies(Brush(list, {middle + sway, 0}), time);
  for (std::size_t i = 0; i < kCast; ++i)
    draw_bubble(list, state.cast[i], kSeats[i], middle, sway, time, font);
  draw_corner(list, state.corner, font);
  return list;
}

}  // namespace demo
