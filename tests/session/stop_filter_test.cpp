#include <gtest/gtest.h>

#include "session/generate.h"

namespace tessera::test {
namespace {

struct Filtered {
  std::string text;
  bool stopped;
  bool operator==(const Filtered&) const = default;
};

Filtered filter(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopFilter f(stops);
  std::string out;
  for (const std::string& piece : pieces) out += f.push(piece);
  const bool stopped = f.stopped();
  return {out + f.finish(), stopped};
}

TEST(StopFilter, WithoutStopsPassesAllOnAtOnce) {
  StopFilter f({});
  EXPECT_EQ(f.push("ab"), "ab");
  EXPECT_EQ(f.push(""), "");
  EXPECT_EQ(f.finish(), "");
  EXPECT_EQ(filter({"", ""}, {"ab", "c"}), (Filtered{"abc", false}));
}

TEST(StopFilter, CutsAtTheStop) {
  EXPECT_EQ(filter({"END"}, {"one END two"}), (Filtered{"one ", true}));
  EXPECT_EQ(filter({"END"}, {"END"}), (Filtered{"", true}));
  EXPECT_EQ(filter({"END"}, {"one EN two"}), (Filtered{"one EN two", false}));
}

TEST(StopFilter, HoldsBackWhatMayBeginAStop) {
  StopFilter f({"\n\nQ:"});
  EXPECT_EQ(f.push("a\n"), "a");
  EXPECT_EQ(f.push("\n"), "");
  EXPECT_EQ(f.push("R"), "\n\nR");
  EXPECT_EQ(f.push("\n\nQ"), "");
  EXPECT_FALSE(f.stopped());
  EXPECT_EQ(f.finish(), "\n\nQ");
}

TEST(StopFilter, FindsAStopAcrossPieces) {
  EXPECT_EQ(filter({"END"}, {"one E", "N", "D two"}), (Filtered{"one ", true}));
  EXPECT_EQ(filter({"aab"}, {"a", "a", "a", "b"}), (Filtered{"a", true}));
  EXPECT_EQ(filter({"abab"}, {"aba", "bab"}), (Filtered{"", true}));
  EXPECT_EQ(filter({"abac"}, {"aba", "bac"}), (Filtered{"ab", true}));
}

TEST(StopFilter, TheEarliestOfSeveralWins) {
  EXPECT_EQ(filter({"world", "lo"}, {"hello world"}), (Filtered{"hel", true}));
  EXPECT_EQ(filter({"b", "abc"}, {"xabc"}), (Filtered{"x", true}));  // begins earlier
  EXPECT_EQ(filter({"abc", "ab"}, {"x", "a", "b", "c"}), (Filtered{"x", true}));
  EXPECT_EQ(filter({"bc", "abd"}, {"ab", "c"}), (Filtered{"a", true}));  // the other one did not come
}

// The same whatever the pieces are.
TEST(StopFilter, DoesNotDependOnThePieces) {
  const std::string text = "aabaabaacaab<|end|>x";
  for (const std::vector<std::string>& stops :
       {std::vector<std::string>{"aac"}, {"<|end|>"}, {"zz"}, {"baac", "aacaab"}, {"x"}}) {
    const Filtered whole = filter(stops, {text});
    for (std::size_t size = 1; size < 7; ++size) {
      std::vector<std::string> pieces;
      for (std::size_t at = 0; at < text.size(); at += size) pieces.push_back(text.substr(at, size));
      EXPECT_EQ(filter(stops, pieces), whole) << stops[0] << " by " << size;
    }
  }
}

TEST(StopFilter, NothingComesAfterAStop) {
  StopFilter f({"x"});
  EXPECT_EQ(f.push("axb"), "a");
  EXPECT_TRUE(f.stopped());
  EXPECT_EQ(f.push("more"), "");
  EXPECT_EQ(f.finish(), "");
}

}  // namespace
}  // namespace tessera::test
