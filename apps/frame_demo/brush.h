// Shapes relative to a place, as the cast and the scene are drawn.
#pragma once

#include "draw.h"

namespace demo {

class Brush {
 public:
  Brush(DrawList& list, Vec2 origin) : list_(list), origin_(origin) {}
  Brush moved(Vec2 by) const { return {list_, origin_ + by}; }

  // second: the colour at the lower end, 0: the same.
  void ellipse(Vec2 at, Vec2 half, Color fill, Color second = 0, float angle = 0) const {
    add({at, half, Form::kEllipse, fill, second, angle});
  }
  void box(Vec2 at, Vec2 half, float round, Color fill, Color second = 0, float angle = 0) const {
    add({at, half, Form::kBox, fill, second, angle, round});
  }
  void triangle(Vec2 at, Vec2 half, float round, Color fill, Color second = 0, float angle = 0) const {
    add({at, half, Form::kTriangle, fill, second, angle, round});
  }
  void leaf(Vec2 at, Vec2 half, Color fill, Color second = 0, float angle = 0) const {
    add({at, half, Form::kLeaf, fill, second, angle});
  }
  void arc(Vec2 at, Vec2 half, float line, Color color, float angle = 0) const {
    add({at, half, Form::kArc, color, 0, angle, line});
  }
  void ring(Vec2 at, Vec2 half, float line, Color color) const {
    add({at, half, Form::kEllipse, color & 0xffffff00u, color, 0, 0, line});
  }
  void light(Vec2 at, Vec2 half, Color color) const { add({at, half, Form::kGlow, color}); }
  void shadow(Vec2 at, Vec2 half) const {
    Shape shape{at, half, Form::kEllipse, 0x05081480};
    shape.soft = 9;
    add(shape);
  }
  void add(Shape shape) const {
    shape.centre = shape.centre + origin_;
    list_.shapes.push_back(shape);
  }

 private:
  DrawList& list_;
  Vec2 origin_;
};

}  // namespace demo
