// The folder of real models named by the environment variable TESSERA_MODELS.
#pragma once

#include <string>

#include "support/environment.h"

namespace tessera::test {

inline std::string models_dir() { return env("TESSERA_MODELS"); }

}  // namespace tessera::test

// At the start of a test on real models: skips it where the folder is not there.
#define TSR_NEED_MODELS() \
  if (::tessera::test::models_dir().empty()) GTEST_SKIP() << "TESSERA_MODELS is not set"
