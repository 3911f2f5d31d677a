// The folder of real models named by the environment variable TESSERA_MODELS.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace tessera::test {

inline std::string models_dir() {
  const char* dir = std::getenv("TESSERA_MODELS");
  return dir ? dir : "";
}

}  // namespace tessera::test

// At the start of a test on real models: skips it where the folder is not there.
#define TSR_NEED_MODELS() \
  if (::tessera::test::models_dir().empty()) GTEST_SKIP() << "TESSERA_MODELS is not set"
