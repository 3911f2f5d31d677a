// Damaged folders of an encoder-decoder: each is refused with a clean message, or translates.
#include <random>

#include "support/refusal.h"
#include "support/tiny_transformer.h"

namespace tessera::test {
namespace {

void exercise(const TinyTransformer& files) {
  const Result<void> done = files.exercise();
  if (done.ok()) return;
  const Code code = done.error().code;
  EXPECT_TRUE(code == Code::bad_model || code == Code::unsupported || code == Code::invalid_argument)
      << done.error().message;
  expect_refused(done, code, {});
}

using File = std::pair<const char*, std::string TinyTransformer::*>;
class HostileTransformer : public testing::TestWithParam<File> {};

TEST_P(HostileTransformer, DamagedText) {
  const TinyTransformer valid;
  ASSERT_TRUE(valid.exercise().ok()) << valid.exercise().error().message;
  const std::string text = valid.*GetParam().second;
  const auto with = [&](std::string damaged) {
    TinyTransformer files = valid;
    files.*GetParam().second = std::move(damaged);
    exercise(files);
  };
  for (std::size_t size = 0; size < text.size(); ++size) with(text.substr(0, size));
  for (std::size_t bit = 0; bit < text.size() * 8; bit += text.size() < 1000 ? 1 : 7) {
    std::string damaged = text;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
    with(damaged);
  }
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = text;
    for (std::size_t edits = 1 + below(3); edits > 0 && !damaged.empty(); --edits) {
      const std::size_t at = below(damaged.size());
      switch (below(4)) {
        case 0: damaged[at] = static_cast<char>(random()); break;
        case 1: damaged[at] = static_cast<char>('0' + below(10)); break;
        case 2: damaged.erase(at, 1 + below(9)); break;
        default: damaged.insert(at, damaged.substr(below(damaged.size()), below(20)));
      }
    }
    with(damaged);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, HostileTransformer,
                         testing::Values(File{"config", &TinyTransformer::config},
                                         File{"source", &TinyTransformer::source},
                                         File{"target", &TinyTransformer::target},
                                         File{"weights", &TinyTransformer::header}),
                         [](const auto& file) { return std::string(file.param.first); });

}  // namespace
}  // namespace tessera::test
