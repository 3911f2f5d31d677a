#pragma once

#include <gtest/gtest.h>

#include "base/result.h"

namespace tessera::test {

// The value, or a failed test and a default.
template <typename T>
T must(Result<T> result) {
  if (result.ok()) return *std::move(result);
  ADD_FAILURE() << result.error().message;
  return T{};
}

}  // namespace tessera::test
