// The three who tell stories. Each is drawn with its feet at the brush's origin.
#pragma once

#include "brush.h"

namespace demo {

struct Pose {
  float time = 0;   // seconds, shifted for each so that they do not move as one
  float mouth = 0;  // 0: shut, 1: wide open
};

void draw_fox(const Brush& brush, const Pose& pose);
void draw_owl(const Brush& brush, const Pose& pose);  // on its stump
void draw_bear(const Brush& brush, const Pose& pose);

}  // namespace demo
