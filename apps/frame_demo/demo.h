// The whole demonstration: the scene with the model speaking, the same frames again without it, pictures, the
// plot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conversation.h"
#include "gpu.h"

namespace demo {

struct Options {
  std::size_t frames = 300;  // of each phase
  double fps = 30;
  std::uint32_t width = 640, height = 360;
  double budget_us = 2000;
  std::uint64_t seed = 1;
  std::size_t pictures = 4;
  std::string model, device, font, out = "frame_demo";
  std::vector<std::string> caps;
};

struct Report {
  std::string device;
  std::vector<double> without, with;  // milliseconds of each frame
  std::vector<double> tessera;  // milliseconds of the device for Tessera, each frame of `with`; or empty
  std::size_t tokens = 0, submits = 0;
  double seconds = 0;  // of the phase with Tessera
  std::vector<Conversation::Spoken> spoken;
  std::vector<std::string> files;
};

// `cancelled` when the user pressed Ctrl-C.
Expected<Report> run(const Options& options);

}  // namespace demo
