// Generations in steps, as a host that draws frames takes them.
#include "api/api_fixture.h"
#include "support/allocations.h"
#include "support/vulkan_table.h"

namespace tessera::test {
namespace {

class Frames : public OnBoth {
 protected:
  struct Outcome {
    std::string text;
    Ids ids;
    tessera_stop stop = TESSERA_STOP_CALLBACK;
    std::uint64_t submits = 0, steps = 0;
  };
  GenerateOptions into(Outcome& out, std::uint32_t tokens) {
    GenerateOptions options;
    options.max_tokens = tokens;
    options.ignore_eos = true;
    options.on_text = [&out](std::string_view text) {
      out.text += text;
      return true;
    };
    options.on_token = [&out](std::uint32_t id) {
      out.ids.push_back(id);
      return true;
    };
    return options;
  }
  Outcome whole(const Model& model, std::uint32_t tokens) {
    Outcome out;
    Session s = prompted(model);
    out.stop = take(s.generate(into(out, tokens)));
    return out;
  }
  static void draw_quietly(Session& s) {
    while (take(s.step(0)).state != TESSERA_STEP_DONE) take(s.wait(10'000'000'000));
  }
  // Steps until it is done; a frame that finds nothing to submit waits a little, as a display would.
  void draw(Session& s, double budget_us, Outcome& out, std::uint32_t in_flight = 0) {
    std::uint64_t timeline = 0;
    for (;;) {
      const std::uint64_t submits = s.stats().prefill_submits + s.stats().decode_submits;
      auto result = s.step(budget_us, in_flight);
      ASSERT_TRUE(result) << result.failure().message;
      const tessera_step_result r = *result;
      const std::uint64_t made = s.stats().prefill_submits + s.stats().decode_submits - submits;
      EXPECT_LE(made, 1u);
      EXPECT_EQ(made != 0, r.timeline != 0);
      EXPECT_EQ(r.tokens, out.ids.size());
      ++out.steps;
      out.submits += made;
      if (r.timeline != 0) {
        EXPECT_GT(r.timeline, timeline);
        EXPECT_TRUE(r.alone || budget_us == 0 || r.submitted_us <= budget_us);
        timeline = r.timeline;
      }
      if (r.state == TESSERA_STEP_DONE) {
        out.stop = r.stop;
        return;
      }
      if (r.state == TESSERA_STEP_WAITING) take(s.wait(10'000'000'000));
    }
  }
};
TSR_ON_BOTH(Frames);

TEST_P(Frames, GiveTheTextOfOneCall) {
  const Model model = load();
  const Outcome wanted = whole(model, 14);
  for (const double budget_us : {0.0, 200.0, 8000.0}) {
    Session s = prompted(model);
    Outcome out;
    take(s.begin(into(out, 14)));
    draw(s, budget_us, out);
    EXPECT_EQ(out.text, wanted.text) << budget_us;
    EXPECT_EQ(out.ids, wanted.ids);
    EXPECT_EQ(out.stop, wanted.stop);
  }
}

// Tokens ahead of the host: fewer submissions than tokens, and the same text.
TEST_P(Frames, ALargeBudgetHoldsSeveralTokens) {
  const Model model = load();
  const Outcome wanted = whole(model, 40);
  Session s = prompted(model);
  Outcome out, again;
  take(s.begin(into(out, 8)));
  draw(s, 1e9, out);
  take(s.begin(into(again, 32)));
  draw(s, 1e9, again);
  EXPECT_EQ(out.text + again.text, wanted.text);
  if (on_gpu()) {
    EXPECT_LE(again.submits, 32u);
  }
}

TEST_P(Frames, StopTextsAndCallbacksEndThem) {
  const Model model = load();
  const Outcome all = whole(model, 16);
  Session s = prompted(model);
  Outcome out;
  GenerateOptions options = into(out, 16);
  int tokens = 0;
  options.on_token = [&](std::uint32_t id) {
    out.ids.push_back(id);
    return ++tokens < 5;
  };
  take(s.begin(options));
  draw(s, 1e9, out);
  EXPECT_EQ(out.stop, TESSERA_STOP_CALLBACK);
  EXPECT_EQ(out.ids, Ids(all.ids.begin(), all.ids.begin() + 5));
  // It goes on as if nothing had run ahead.
  Outcome rest;
  take(s.begin(into(rest, 11)));
  draw(s, 1e9, rest);
  EXPECT_EQ(rest.ids, Ids(all.ids.begin() + 5, all.ids.end()));
}

TEST_P(Frames, ACancelledGenerationLeavesASession) {
  const Model model = load();
  const Outcome wanted = whole(model, 6);
  Session s = prompted(model);
  Outcome out;
  take(s.begin(into(out, 50)));
  take(s.step(5000));
  take(s.step(5000));
  expect_failure(s.append(Ids{1}), TESSERA_INVALID_ARGUMENT, "while others");
  expect_failure(s.begin(into(out, 5)), TESSERA_INVALID_ARGUMENT, "under way");
  expect_failure(s.next(), TESSERA_INVALID_ARGUMENT, "already");
  take(s.cancel());
  EXPECT_EQ(take(s.poll()).state, TESSERA_STEP_DONE);
  EXPECT_EQ(take(s.step(100)).stop, TESSERA_STOP_CALLBACK);
  take(s.cancel());
  take(s.reset());
  take(s.append(take(model.tokenize(kPrompt))));
  Outcome fresh;
  take(s.begin(into(fresh, 6)));
  draw(s, 5000, fresh);
  EXPECT_EQ(fresh.ids, wanted.ids);
}

TEST_P(Frames, AreOfOneSessionAmongOthers) {
  const Model model = load();
  const Outcome wanted = whole(model, 8);
  Session a = prompted(model), b = prompted(model);
  Outcome of_a, of_b;
  take(a.begin(into(of_a, 8)));
  take(b.begin(into(of_b, 8)));
  for (int i = 0; i < 4; ++i) {
    take(a.step(4000));
    take(b.step(4000));
  }
  draw(a, 4000, of_a);
  draw(b, 4000, of_b);
  EXPECT_EQ(of_a.ids, wanted.ids);
  EXPECT_EQ(of_b.ids, wanted.ids);
}

TEST_P(Frames, WhatIsNotRightIsRefused) {
  const Model model = load();
  Session s = session_of(model);
  expect_failure(s.step(100), TESSERA_INVALID_ARGUMENT, "begin");
  Outcome out;
  expect_failure(s.begin(into(out, 5)), TESSERA_INVALID_ARGUMENT, "append a prompt");
  take(s.append(Ids{1, 2}));
  take(s.begin(into(out, 5)));
  expect_failure(s.step(-1), TESSERA_INVALID_ARGUMENT, "budget_us");
  expect_failure(s.step(100, 9), TESSERA_INVALID_ARGUMENT, "in_flight");
  draw(s, 4000, out);
  EXPECT_EQ(out.ids.size(), 5u);
}

// Without timestamps: what is measured may be recorded again at any time, which takes memory.
TEST_P(Frames, ATokenTakesNoMemoryAndOneSubmission) {
  if (!on_gpu()) return;  // the reference computes in vectors
  auto desc = gpu();
  std::vector<const char*> caps(desc.caps, desc.caps + desc.cap_count);
  caps.push_back("timestamp_ns=0");
  VulkanTable::count_allocations(allocations);
  desc.get_instance_proc_addr = VulkanTable::entry();
  desc.caps = caps.data();
  desc.cap_count = static_cast<std::uint32_t>(caps.size());
  const Context untimed = take(Context::create(desc));
  const Model model = take(untimed.load(kQwen2));
  for (const double budget_us : {0.0, 1e9}) {
    Session s = prompted(model);
    std::size_t bytes = 0;
    GenerateOptions options;
    options.max_tokens = 40;
    options.ignore_eos = true;
    options.on_text = [&](std::string_view text) {
      bytes += text.size();
      return true;
    };
    take(s.begin(options));
    std::size_t made = 0;
    std::uint32_t tokens = 0;
    for (bool done = false; !done;) {
      const std::size_t before = allocations() - VulkanTable::allocations_inside();
      auto result = s.step(budget_us, 1);
      const auto waited = s.wait(10'000'000'000);
      const std::size_t after = allocations() - VulkanTable::allocations_inside();
      ASSERT_TRUE(result) << result.failure().message;
      ASSERT_TRUE(waited) << waited.failure().message;
      done = result->state == TESSERA_STEP_DONE;
      tokens = result->tokens;
      // The first tokens size what is kept, the last one ends the text.
      if (tokens > 20 && tokens < 38) made += after - before;
    }
    EXPECT_EQ(made, 0u) << budget_us;
    EXPECT_GT(bytes, 0u);
    if (budget_us == 0) {
      EXPECT_EQ(s.stats().decode_submits, 39u);
    }
  }
}

TEST_P(Frames, WeightsComeInSteps) {
  const Model model = load();
  const Outcome wanted = whole(model, 10);
  constexpr std::uint64_t kStream = 60'000;
  Session s = prompted(model, kStream);
  std::uint64_t loaded = 0;
  int steps = 0;
  const auto step = [&] {
    const tessera_step_result r = take(s.step(4000));
    if (r.state != TESSERA_STEP_LOADING) return false;
    EXPECT_GT(r.loaded_bytes, loaded);
    EXPECT_LE(r.loaded_bytes, loaded + kStream + 2048);  // a row more
    EXPECT_EQ(r.timeline, 0u);
    EXPECT_GT(r.total_bytes, 400'000u);
    loaded = r.loaded_bytes;
    ++steps;
    return true;
  };
  for (int i = 0; on_gpu() && i < 3; ++i) EXPECT_TRUE(step());  // without a generation
  Outcome out;
  take(s.begin(into(out, 10)));
  while (on_gpu() && loaded < s.stats().weight_bytes) ASSERT_TRUE(step());
  EXPECT_GE(steps, on_gpu() ? 7 : 0);
  draw(s, 4000, out);
  EXPECT_EQ(out.text, wanted.text);

  Session at_once = prompted(model, kStream);
  Outcome blocking;
  take(at_once.generate(into(blocking, 10)));
  EXPECT_EQ(blocking.text, wanted.text);
}

TEST_P(Frames, ReleasedWeightsComeBack) {
  const Model model = load();
  const Outcome wanted = whole(model, 12);
  for (const std::uint64_t stream : {std::uint64_t{0}, std::uint64_t{100'000}}) {
    Session s = prompted(model, stream);
    Outcome out;
    take(s.begin(into(out, 12)));
    while (out.ids.size() < 4) {
      take(s.step(4000));
      take(s.wait(10'000'000'000));
    }
    for (int i = 0; i < 2; ++i) take(s.release_weights());
    int loading = 0;
    for (tessera_step_result r{}; r.state != TESSERA_STEP_DONE;) {
      r = take(s.step(4000));
      loading += r.state == TESSERA_STEP_LOADING;
      take(s.wait(10'000'000'000));
    }
    if (on_gpu()) {
      EXPECT_EQ(loading > 1, stream != 0);
      EXPECT_GE(loading, 1);
    }
    EXPECT_EQ(out.ids, wanted.ids);
    take(s.release_weights());
    take(s.next());  // and so does this
  }
}

// Between any two slices of a pass, which was recorded in finer ones than at first.
TEST_P(Frames, WeightsReleasedWithinAPassChangeNothing) {
  const Model model = take(context().load(TESSERA_SOURCE_DIR "/models/tessera-tiny.gguf"));
  constexpr double kBudget = 200;
  const Outcome wanted = whole(model, 6);
  for (int before = 0; before < 12; ++before) {
    Session s = prompted(model);
    Outcome warm, out;
    take(s.begin(into(warm, 2)));
    draw(s, kBudget, warm);
    take(s.begin(into(out, 4)));
    for (int i = 0; i < before; ++i) {
      take(s.step(kBudget));
      take(s.wait(10'000'000'000));
    }
    take(s.release_weights());
    draw(s, kBudget, out);
    Ids ids = warm.ids;
    ids.insert(ids.end(), out.ids.begin(), out.ids.end());
    EXPECT_EQ(ids, wanted.ids) << before;
  }
}

TEST_P(Frames, ReleasedWeightsComeBackWithoutAGeneration) {
  const Model model = load();
  Session s = prompted(model);
  Outcome out;
  take(s.begin(into(out, 2)));
  draw(s, 0, out);
  EXPECT_EQ(take(s.step(0)).state, TESSERA_STEP_DONE);
  take(s.release_weights());
  const tessera_step_result r = take(s.step(0));
  EXPECT_EQ(r.loaded_bytes, r.total_bytes);
  EXPECT_EQ(r.state, on_gpu() ? TESSERA_STEP_LOADING : TESSERA_STEP_DONE);
  EXPECT_EQ(take(s.step(0)).state, TESSERA_STEP_DONE);
}

TEST_P(Frames, ATinyBudgetDoesNotStay) {
  const Model model = load();
  const Outcome wanted = whole(model, 12);
  Session s = prompted(model);
  Outcome tiny, usual, again;
  take(s.begin(into(tiny, 4)));
  draw(s, 1e-3, tiny);
  take(s.begin(into(usual, 4)));
  draw(s, 1e6, usual);
  const std::uint64_t records = s.stats().records;
  take(s.begin(into(again, 4)));
  draw(s, 1e6, again);
  EXPECT_EQ(tiny.text + usual.text + again.text, wanted.text);
  EXPECT_EQ(s.stats().records, records);
  EXPECT_LE(again.submits, 4u);
  EXPECT_LE(records, 2000u);  // of three graphs, recorded a few times
}

TEST_P(Frames, WhatACancelDroppedIsWaitedFor) {
  const Model model = load();
  Session s = prompted(model);
  Outcome out;
  take(s.begin(into(out, 20)));
  take(s.step(0));
  take(s.cancel());
  const tessera_step_result r = take(s.wait(10'000'000'000));
  EXPECT_TRUE(r.idle);
  EXPECT_EQ(r.state, TESSERA_STEP_DONE);
  EXPECT_EQ(r.stop, TESSERA_STOP_CALLBACK);
}

TEST_P(Frames, WithoutAGenerationThereIsNothingToWaitFor) {
  const Model model = load();
  Session s = prompted(model);
  EXPECT_EQ(take(s.wait(10'000'000'000)).state, TESSERA_STEP_DONE);
  EXPECT_TRUE(take(s.poll()).idle);
}

TEST_P(Frames, ResultsWithoutASizeAreRefusedBeforeAnythingIsDone) {
  const Model model = load();
  Session s = prompted(model);
  Outcome out;
  take(s.begin(into(out, 2)));
  auto desc = init<tessera_step_desc>();
  tessera_step_result unsized{};
  tessera_error error;
  EXPECT_EQ(tessera_session_step(s.get(), &desc, &unsized, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(tessera_session_poll(s.get(), &unsized, &error), TESSERA_INVALID_ARGUMENT);
  EXPECT_EQ(s.stats().prefill_submits, 0u);
  draw(s, 0, out);
  EXPECT_EQ(out.ids.size(), 2u);
}

TEST_P(Frames, CallbacksMayNotCallTheirSession) {
  const Model model = load();
  Session s = prompted(model);
  Outcome out;
  GenerateOptions options = into(out, 2);
  int refused = 0;
  options.on_token = [&](std::uint32_t) {
    tessera_error error;
    refused += tessera_session_cancel(s.get(), &error) == TESSERA_INVALID_ARGUMENT;
    refused += tessera_session_reset(s.get(), &error) == TESSERA_INVALID_ARGUMENT;
    return true;
  };
  take(s.begin(std::move(options)));
  draw_quietly(s);
  EXPECT_EQ(refused, 4);
}

// What a full host did not take comes first in the next generation.
TEST_P(Frames, TextThatWasHeldBackIsNotLost) {
  const Model model = load();
  const Outcome all = whole(model, 16);
  Session s = prompted(model);
  Outcome first, rest;
  GenerateOptions options = into(first, 16);
  options.stop_texts = {all.text.substr(3, 4) + "no such text"};
  int calls = 0;
  options.on_text = [&](std::string_view text) {
    first.text += text;
    ++calls;
    return false;  // stop
  };
  take(s.begin(std::move(options)));
  draw(s, 0, first);
  EXPECT_EQ(calls, 1);
  take(s.begin(into(rest, static_cast<std::uint32_t>(16 - first.ids.size()))));
  draw(s, 0, rest);
  EXPECT_EQ(first.text + rest.text, all.text);
}

}  // namespace
}  // namespace tessera::test
