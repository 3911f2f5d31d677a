#include <array>

#include "api/api_fixture.h"

namespace tessera::test {
namespace {

class Generation : public OnBoth {
 protected:
  struct Outcome {
    std::string text;
    Ids ids;
    tessera_stop stop = TESSERA_STOP_CALLBACK;
  };
  // Of a greedy session with a context of 64.
  Outcome run(const std::string& prompt, GenerateOptions options, bool special = true) {
    Model model = load();
    Session s = session_of(model);
    Ids ids = take(model.tokenize(prompt, special));
    if (ids.empty()) ids = {319};
    take(s.append(ids));
    return run(s, std::move(options));
  }
  Outcome run(Session& s, GenerateOptions options) {
    Outcome out;
    if (!options.on_text)
      options.on_text = [&](std::string_view text) {
        out.text += text;
        return true;
      };
    options.on_token = [&](std::uint32_t id) {
      out.ids.push_back(id);
      return true;
    };
    out.stop = take(s.generate(options));
    return out;
  }
  static GenerateOptions most(std::uint32_t n, std::vector<std::string> stops = {}) {
    GenerateOptions options;
    options.max_tokens = n;
    options.ignore_eos = true;
    options.stop_texts = std::move(stops);
    return options;
  }
};
TSR_ON_BOTH(Generation);

TEST_P(Generation, StopsAtTheLength) {
  const Outcome out = run(kPrompt, most(8));
  EXPECT_EQ(out.stop, TESSERA_STOP_LENGTH);
  EXPECT_EQ(out.ids.size(), 8u);
  EXPECT_FALSE(out.text.empty());
}

TEST_P(Generation, AnEmptyPromptIsTheFirstTokenAlone) {
  const Outcome out = run("", most(5));
  EXPECT_EQ(out.ids.size(), 5u);
}

TEST_P(Generation, NeedsAPrompt) {
  const Model model = load();
  Session s = session_of(model);
  expect_failure(s.generate(most(5)), TESSERA_INVALID_ARGUMENT, "prompt");
}

TEST_P(Generation, StopTextsCutTheText) {
  const Outcome whole = run(kPrompt, most(16));
  ASSERT_GT(whole.text.size(), 4u);
  // Two characters from the middle, wherever tokens begin and end.
  std::size_t at = whole.text.size() / 2;
  while ((static_cast<unsigned char>(whole.text[at]) & 0xc0) == 0x80) ++at;
  const std::string stop = whole.text.substr(at, 3);
  const Outcome cut = run(kPrompt, most(16, {"never there", stop}));
  EXPECT_EQ(cut.stop, TESSERA_STOP_TEXT);
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(stop)));
}

TEST_P(Generation, StopsWhenTheCallbackSaysSo) {
  int calls = 0;
  GenerateOptions options = most(16);
  options.on_text = [&](std::string_view) { return ++calls < 3; };
  const Outcome out = run(kPrompt, options);
  EXPECT_EQ(out.stop, TESSERA_STOP_CALLBACK);
  EXPECT_EQ(calls, 3);
}

TEST_P(Generation, StopsWhenTheContextIsFull) {
  const Model model = load();
  Session s = session_of(model, 16);
  take(s.append(take(model.tokenize(kPrompt))));  // 12
  const Outcome out = run(s, most(100));
  EXPECT_EQ(out.stop, TESSERA_STOP_CONTEXT);
  EXPECT_EQ(out.ids.size(), 5u);  // the last one comes with a full cache
  EXPECT_EQ(s.stats().position, 16u);
  expect_failure(s.next(), TESSERA_INVALID_ARGUMENT, "full");
}

TEST_P(Generation, ASecondCallGoesOnWhereTheFirstStopped) {
  const Outcome whole = run(kPrompt, most(12));
  const Model model = load();
  Session s = session_of(model);
  take(s.append(take(model.tokenize(kPrompt))));
  Outcome first = run(s, most(5)), second = run(s, most(7));
  first.ids.insert(first.ids.end(), second.ids.begin(), second.ids.end());
  EXPECT_EQ(first.ids, whole.ids);
}

TEST_P(Generation, DefaultsOfTheDescription) {
  const Model model = load();
  Session s = session_of(model, 32);
  take(s.append(Ids{1}));
  const tessera_generate_desc desc = init<tessera_generate_desc>();  // 256 tokens, no callbacks
  tessera_error error;
  ASSERT_EQ(tessera_generate(s.get(), &desc, nullptr, &error), TESSERA_OK) << error.message;
  EXPECT_GT(s.stats().position, 1u);
}

// Hot sampling over 320 ids meets the end token within some seeds.
TEST_P(Generation, EndTokens) {
  constexpr std::uint32_t kEnd = 319;
  const Model model = load();
  Session s = session_of(model);
  const auto sampled = [&](std::uint64_t seed, bool ignore_eos) {
    tessera_sampler sampler = init<tessera_sampler>();
    sampler.temperature = 50;
    sampler.seed = seed;
    take(s.reset());
    take(s.set_sampler(sampler));
    take(s.append(Ids{1, 2}));
    GenerateOptions options = most(60);
    options.ignore_eos = ignore_eos;
    return run(s, options);
  };
  for (std::uint64_t seed = 1; seed < 100; ++seed) {
    const Outcome stopped = sampled(seed, false);
    if (stopped.stop != TESSERA_STOP_EOS) continue;
    EXPECT_EQ(stopped.ids.back(), kEnd);
    const Outcome ignored = sampled(seed, true);
    EXPECT_EQ(ignored.stop, TESSERA_STOP_LENGTH);
    EXPECT_EQ(ignored.ids.at(stopped.ids.size() - 1), kEnd);
    EXPECT_EQ(ignored.text.substr(0, stopped.text.size()), stopped.text);
    return;
  }
  FAIL() << "no seed met the end token";
}

}  // namespace
}  // namespace tessera::test
