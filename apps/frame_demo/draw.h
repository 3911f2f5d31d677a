// What a picture is made of. Lengths are in units of 1/360 of the picture's height, y points down; whoever
// makes a list knows nothing of pixels or of Vulkan.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace demo {

inline constexpr float kViewHeight = 360;  // units

struct Vec2 {
  float x = 0, y = 0;
};
inline Vec2 operator+(Vec2 a, Vec2 b) { return {a.x + b.x, a.y + b.y}; }
inline Vec2 operator-(Vec2 a, Vec2 b) { return {a.x - b.x, a.y - b.y}; }
inline Vec2 operator*(Vec2 a, float s) { return {a.x * s, a.y * s}; }

// 0xRRGGBBAA, not premultiplied.
using Color = std::uint32_t;
inline Color with_alpha(Color color, float alpha) {
  const float clamped = alpha < 0 ? 0 : alpha > 1 ? 1 : alpha;
  return (color & 0xffffff00u) | static_cast<Color>(std::lround(static_cast<float>(color & 0xffu) * clamped));
}

// The numbers are those of shaders/shape.frag.
enum class Form : std::uint32_t {
  kBox = 0,       // `round` corners
  kEllipse = 1,   //
  kGlow = 2,      // light, added: `fill` in the middle, nothing at the edge
  kArc = 3,       // of an ellipse's lower half, a line of width `round`
  kTriangle = 4,  // base below, apex above, `round` corners
  kLeaf = 5,      // two arcs that meet in points above and below
  kFlame = 6,     // `phase` moves it
  kBubble =
      7,  // a box with `round` corners and a tail from its lower edge to (tail_x, tail_y), from the centre
};

struct Shape {
  Vec2 centre, half;  // half: half of its width and height
  Form form = Form::kBox;
  Color fill = 0xffffffff;
  Color second = 0;  // of the border when there is one; else the colour at the bottom, 0: `fill`
  float angle = 0;   // radians, clockwise
  float round = 0;
  float border = 0;  // width, inside
  float soft = 0;    // width of the edge; 0: one pixel
  float phase = 0;
  Vec2 tail = {};
};

// One glyph of the atlas: where its texels lie and where its picture goes, in pixels.
struct Glyph {
  std::int16_t x = 0, y = 0;  // of the upper left corner in the picture
  std::uint16_t u = 0, v = 0, width = 0, height = 0;
  Color color = 0xffffffff;
};

enum class Backdrop { kPlain, kForest };

// Backdrop, then shapes in order, then glyphs.
struct DrawList {
  Backdrop backdrop = Backdrop::kForest;
  float time = 0;    // seconds: stars, fire
  float camera = 0;  // units to the right: layers far away move less
  float fire = 1;    // brightness
  std::vector<Shape> shapes;
  std::vector<Glyph> glyphs;
};

}  // namespace demo
