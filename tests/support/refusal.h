// Expectations on errors: the code, words of the message, and that the message is one printable line.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/text.h"

namespace tessera::test {

template <typename T>
void expect_refused(const Result<T>& result, Code code, const std::vector<std::string>& words) {
  ASSERT_FALSE(result.ok()) << "expected an error with: " << testing::PrintToString(words);
  const std::string& message = result.error().message;
  EXPECT_EQ(result.error().code, code) << message;
  for (const std::string& word : words) EXPECT_THAT(message, testing::HasSubstr(word));
  EXPECT_TRUE(valid_utf8(message)) << quote(message);
  EXPECT_TRUE(std::ranges::none_of(message, [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  })) << quote(message);
  EXPECT_LT(message.size(), 5000u);
}

}  // namespace tessera::test
