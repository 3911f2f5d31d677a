// A user's own GLSL in attention: docs/user_functions.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tessera {

using SpirvBytes = std::vector<std::uint8_t>;

// Where text becomes SPIR-V.
class GlslModules {
 public:
  virtual ~GlslModules() = default;
  // Of a whole compute shader, the same text once. `log`: what the compiler says when it fails, as it says
  // it.
  virtual Result<std::shared_ptr<const SpirvBytes>> module(std::string_view kernel, const std::string& source,
                                                           std::string& log) = 0;
};

struct UserBuffer {
  enum class Type : std::uint8_t { f32, u32, i32 };
  std::string name;  // of a GLSL identifier
  Type type = Type::f32;
};

struct UserFunctions {
  std::string score, mask;  // empty: there is none; one of them is not
  std::vector<UserBuffer> buffers{};
  std::shared_ptr<GlslModules> modules{};
};

}  // namespace tessera
