// The plot of both phases: frame times, and the device's time for Tessera's work beside its budget. Pure.
#pragma once

#include <string>
#include <vector>

#include "draw.h"
#include "font.h"

namespace demo {

struct PlotData {
  std::string title, subtitle;
  double interval = 0;                // milliseconds from frame to frame
  double budget = 0;                  // milliseconds of a frame for Tessera
  std::vector<double> without, with;  // milliseconds of each frame
  std::vector<double> tessera;  // milliseconds of the device in each frame of `with`; empty: not measured
};

// width: of the picture, in units.
DrawList draw_plot(const PlotData& data, float width, const Font& font);

}  // namespace demo
