#pragma once

#include <string>

#include "renderer.h"

namespace demo {

// Without its alpha.
Expected<Done> write_png(const std::string& path, const Picture& picture);

}  // namespace demo
