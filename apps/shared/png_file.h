#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/tessera.hpp"

namespace tool {

struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint8_t> rgba;
};

// Without its alpha.
tessera::Expected<tessera::Done> write_png(const std::string& path, const Picture& picture);

}  // namespace tool
