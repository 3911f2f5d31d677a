// The scene as a function of its state: three story tellers at a fire, what they say in bubbles, and a corner
// with the frame's times. Pure.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "draw.h"
#include "font.h"

namespace demo {

inline constexpr std::size_t kCast = 3;  // fox, owl, bear: from left to right

struct Actor {
  std::string words;      // in the bubble; empty: no bubble
  bool speaking = false;  // more will come
  float visible = 0;      // of the bubble: 0 to 1
  float mouth = 0;        // 0: shut, 1: wide open
};

struct FrameBar {  // milliseconds
  float frame = 0, tessera = 0;
};

struct Corner {
  std::string text;
  std::vector<FrameBar> recent;  // the newest last
  float full = 33;               // milliseconds of a bar that fills the graph
};

struct SceneState {
  double time = 0;  // seconds
  std::array<Actor, kCast> cast;
  Corner corner;
};

// width: of the picture, in units.
DrawList draw_scene(const SceneState& state, float width, const Font& font);

}  // namespace demo
