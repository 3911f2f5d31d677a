// What a run of tests is told by its environment.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace tessera::test {

inline std::string env(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

}  // namespace tessera::test

// At the start of a test on a device: TESSERA_TEST_DEVICE=none is how a machine without Vulkan runs the
// others.
#define TSR_NEED_DEVICE() \
  if (::tessera::test::env("TESSERA_TEST_DEVICE") == "none") GTEST_SKIP() << "TESSERA_TEST_DEVICE=none"
