// A host's compiler of GLSL.
#pragma once

#include "api/handles.h"
#include "base/user_functions.h"

namespace tessera::api {

// Null without compile_glsl.
std::shared_ptr<GlslModules> make_glsl_modules(const tessera_context_desc& desc);

}  // namespace tessera::api
