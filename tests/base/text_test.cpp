#include "base/text.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(Text, ValidUtf8) {
  for (const char* good :
       {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"}) {
    EXPECT_TRUE(valid_utf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x82", "\xe2\x28\xa1"}) {
    EXPECT_FALSE(valid_utf8(bad)) << quote(bad);
  }
}

TEST(Text, QuotedIsOnePrintableLine) {
  EXPECT_EQ(quote("plain \xc3\xa9"), "\"plain \xc3\xa9\"");
  EXPECT_EQ(quote("a\nb\x1b[31m\x7f"), "\"a\\x0ab\\x1b[31m\\x7f\"");
  EXPECT_EQ(quote("\xff\xc2\x85"), "\"\\xff\\xc2\\x85\"");  // not UTF-8; the C1 control NEL
  EXPECT_EQ(quote("\xe2\x80\xa8\xe2\x80\xae\xe2\x81\xa6").find('\xe2'),
            std::string::npos);  // separator, bidi
  EXPECT_EQ(quote("say \"hi\" \\"), "\"say \\\"hi\\\" \\\\\"");
  EXPECT_EQ(quote(std::string_view("\0", 1)), "\"\\x00\"");
  EXPECT_EQ(quote("abcdef", 3), "\"abc...\"");
  EXPECT_EQ(quote("abc", 3), "\"abc\"");
  EXPECT_LT(quote(std::string(1000000, '\n')).size(), 600u);
}

}  // namespace
}  // namespace tessera
