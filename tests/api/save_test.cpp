// Sessions as bytes: the same text afterwards, and bytes that are not to be trusted.
#include "api/api_fixture.h"

namespace tessera::test {
namespace {

class Saving : public OnBoth {
 protected:
  static GenerateOptions into(std::string& text, std::uint32_t tokens) {
    GenerateOptions options;
    options.max_tokens = tokens;
    options.ignore_eos = true;
    options.on_text = [&text](std::string_view more) {
      text += more;
      return true;
    };
    return options;
  }
  static std::string generate(Session& s, std::uint32_t tokens) {
    std::string text;
    take(s.generate(into(text, tokens)));
    return text;
  }
  Session hot(const Model& model, std::uint32_t context = 64) {
    tessera_sampler sampler = init<tessera_sampler>();
    sampler.temperature = 1.3f;
    sampler.seed = 11;
    sampler.penalty = 1.2f;
    tessera_session_desc desc = init<tessera_session_desc>();
    desc.context = context;
    desc.sampler = &sampler;
    return take(model.session(desc));
  }
};
TSR_ON_BOTH(Saving);

TEST_P(Saving, TheTextGoesOnInAnotherContext) {
  const Model model = load();
  Session s = hot(model);
  take(s.append(take(model.tokenize(kPrompt))));
  generate(s, 9);
  const std::string bytes = take(s.save());
  EXPECT_EQ(take(s.save()), bytes);
  const std::string wanted = generate(s, 12);

  const Context fresh = take(Context::create(on_gpu() ? gpu() : reference()));
  const Model again = take(fresh.load(kQwen2));
  for (const std::uint32_t positions : {64u, 40u}) {
    Session other = session_of(again, positions);
    take(other.append(Ids{5, 6, 7}));
    take(other.next());
    take(other.restore(bytes));
    EXPECT_EQ(other.stats().position, s.stats().position - 12);
    EXPECT_EQ(take(other.save()), bytes);
    EXPECT_EQ(generate(other, 12), wanted) << positions;
  }
  Session small = session_of(again, 16);
  expect_failure(small.restore(bytes), TESSERA_INVALID_ARGUMENT, "context of 16");
}

TEST_P(Saving, APromptThatWasNotEvaluated) {
  const Model model = load();
  Session s = hot(model), other = session_of(model);
  const std::string empty = take(s.save());
  take(s.append(take(model.tokenize(kPrompt))));
  take(other.restore(take(s.save())));
  EXPECT_EQ(generate(other, 8), generate(s, 8));
  take(other.restore(empty));
  expect_failure(other.next(), TESSERA_INVALID_ARGUMENT, "append a prompt");
}

TEST_P(Saving, AGenerationThatIsUnderWay) {
  const Model model = load();
  Session s = hot(model);
  take(s.append(take(model.tokenize(kPrompt))));
  const std::string start = take(s.save());
  std::string whole;
  Ids all;
  GenerateOptions options = into(whole, 16);
  options.on_token = [&](std::uint32_t id) {
    all.push_back(id);
    return true;
  };
  take(s.generate(options));

  std::string before, after;
  take(s.restore(start));
  options = into(before, 16);
  std::uint32_t tokens = 0;
  options.on_token = [&](std::uint32_t) { return ++tokens > 0; };
  take(s.begin(options));
  while (tokens < 6) {
    take(s.step(4000));
    take(s.wait(10'000'000'000));
  }
  const std::string bytes = take(s.save());
  const std::uint32_t rest = 16 - tokens;
  Session other = session_of(model);
  take(other.restore(bytes));
  take(other.generate(into(after, rest)));
  EXPECT_EQ(before + after, whole);
  while (take(s.step(4000)).state != TESSERA_STEP_DONE) take(s.wait(10'000'000'000));  // it goes on here too
  EXPECT_EQ(before, whole);
}

TEST_P(Saving, WhatIsHeldBackOfTheTextComesLater) {
  const Model model = load();
  Session s = hot(model);
  take(s.append(take(model.tokenize(kPrompt))));
  const std::string start = take(s.save());
  const std::string whole = generate(s, 16);
  // Every text that begins a stop is held back: save with all of it held.
  take(s.restore(start));
  std::string before, after;
  std::uint32_t tokens = 0;
  GenerateOptions options = into(before, 16);
  options.stop_texts = {whole + "never there"};
  options.on_token = [&](std::uint32_t) { return ++tokens > 0; };
  take(s.begin(options));
  while (tokens < 5) {
    take(s.step(0));
    take(s.wait(10'000'000'000));
  }
  EXPECT_EQ(before, "");
  Session other = session_of(model);
  take(other.restore(take(s.save())));
  take(other.generate(into(after, 16 - tokens)));
  EXPECT_EQ(after, whole);
}

TEST_P(Saving, BytesThatAreNotRightAreRefused) {
  const Model model = load();
  Session s = hot(model);
  take(s.append(take(model.tokenize(kPrompt))));
  generate(s, 3);
  const std::string bytes = take(s.save());
  Session other = session_of(model);
  take(other.append(Ids{1, 2, 3}));
  const auto refused = [&](const std::string& wrong) {
    expect_failure(other.restore(wrong), TESSERA_INVALID_ARGUMENT, "saved session");
  };
  for (std::size_t size = 1; size < bytes.size(); size += size < 200 ? 1 : bytes.size() / 40)
    refused(bytes.substr(0, size));
  for (std::size_t at = 0; at < bytes.size(); at += at < 200 ? 1 : bytes.size() / 40) {
    std::string wrong = bytes;
    wrong[at] = static_cast<char>(wrong[at] ^ 0x41);
    refused(wrong);
  }
  refused(bytes + "x");
  tessera_session_desc desc = init<tessera_session_desc>();
  desc.context = 64;
  desc.kv_type = TESSERA_KV_F16;
  Session half = take(model.session(desc));
  const std::string type = s.stats().cache_bytes == half.stats().cache_bytes ? "" : "type";
  if (!type.empty()) expect_failure(half.restore(bytes), TESSERA_INVALID_ARGUMENT, type);
  EXPECT_EQ(take(other.next()), [&] {  // as if nothing had been
    Session plain = session_of(model);
    take(plain.append(Ids{1, 2, 3}));
    return take(plain.next());
  }());
}

}  // namespace
}  // namespace tessera::test
