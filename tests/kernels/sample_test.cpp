#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/data.h"
#include "kernels/sample_reference.h"
#include "support/gpu_fixture.h"

namespace tessera::test {
namespace {

constexpr std::uint32_t kContext = 100;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One sampler, recorded once and run on other inputs again and again.
class Sampler {
 public:
  static std::unique_ptr<Sampler> create(Device& device, std::uint32_t vocab) {
    auto s = std::unique_ptr<Sampler>(new Sampler(device, vocab));
    return s->record() ? std::move(s) : nullptr;
  }

  std::vector<std::uint32_t> state() { return words(*buffers_[2], 8); }
  std::vector<std::uint32_t> tokens() { return words(*buffers_[1], kContext); }
  void set_tokens(const std::vector<std::uint32_t>& tokens) { put(*buffers_[1], tokens); }

  // Runs and gives the status; state() and tokens() then hold what it wrote.
  std::uint32_t run(const std::vector<float>& logits, const Params& params, std::uint32_t position,
                    std::uint32_t rows, std::uint32_t status = 0) {
    put(*buffers_[0], logits);
    put(*buffers_[2], std::vector<std::uint32_t>{position, rows, status, 0xffffffff, 1, 2, 3, 4});
    put(*buffers_[3], std::vector<Params>{params});
    const CommandList* list = commands_.get();
    const auto value = device_.submit({&list, 1});
    EXPECT_TRUE(value) << value.error().message;
    if (!value) return 99;
    const auto done = device_.wait(*value, 60'000'000'000ull);
    EXPECT_TRUE(done && *done);
    return state()[2];
  }

 private:
  Sampler(Device& device, std::uint32_t vocab) : device_(device), vocab_(vocab) {}

  bool record() {
    auto dispatch = choose_sample(vocab_, kContext, target_of(device_));
    if (!dispatch) return false;
    auto pipeline = device_.create_pipeline(pipeline_desc(*dispatch));
    if (!pipeline) return false;
    pipeline_ = *pipeline;
    std::vector<BindingRange> ranges;
    for (std::uint64_t bytes : {vocab_ * 4u, kContext * 4, 32u, 32u, vocab_ * 4u}) {
      auto buffer = device_.create_buffer(bytes, Memory::shared, "sampler test");
      if (!buffer) return false;
      buffers_.push_back(*std::move(buffer));
      ranges.push_back({buffers_.back().get(), 0, bytes});
    }
    auto set = device_.create_binding_set(*pipeline_, ranges);
    auto commands = device_.create_command_list(0);
    if (!set || !commands) return false;
    set_ = *std::move(set);
    commands_ = *std::move(commands);
    commands_->barrier();  // after the run before
    commands_->dispatch(*pipeline_, *set_, dispatch->push, {0, 0, 0}, dispatch->grid);
    commands_->barrier_to_host();
    return commands_->finish().ok();
  }

  template <typename T>
  static void put(Buffer& buffer, const std::vector<T>& values) {
    std::memcpy(buffer.mapped().data(), values.data(), values.size() * sizeof(T));
  }
  static std::vector<std::uint32_t> words(Buffer& buffer, std::size_t count) {
    std::vector<std::uint32_t> out(count);
    std::memcpy(out.data(), buffer.mapped().data(), count * 4);
    return out;
  }

  Device& device_;
  std::uint32_t vocab_;
  std::shared_ptr<Pipeline> pipeline_;
  std::vector<std::unique_ptr<Buffer>> buffers_;  // in the order of the bindings
  std::unique_ptr<BindingSet> set_;
  std::unique_ptr<CommandList> commands_;
};

class SampleGpu : public GpuTest {
 protected:
  void use(std::uint32_t vocab) {
    vocab_ = vocab;
    sampler_ = Sampler::create(*device_, vocab);
    ASSERT_TRUE(sampler_);
  }
  void TearDown() override {
    sampler_.reset();
    GpuTest::TearDown();
  }

  std::vector<std::uint32_t> random_tokens() {
    std::vector<std::uint32_t> tokens(kContext);
    for (auto& t : tokens) t = next() % (vocab_ + vocab_ / 8 + 1);  // some are no ids at all
    return tokens;
  }

  // Runs, checks everything that is written, and gives the id.
  std::uint32_t draw(const std::vector<float>& logits, const Params& params, std::uint32_t position = 5,
                     std::uint32_t rows = 1) {
    std::vector<std::uint32_t> tokens = random_tokens();
    return draw(logits, params, position, rows, tokens);
  }
  std::uint32_t draw(const std::vector<float>& logits, const Params& params, std::uint32_t position,
                     std::uint32_t rows, std::vector<std::uint32_t>& tokens) {
    sampler_->set_tokens(tokens);
    EXPECT_EQ(sampler_->run(logits, params, position, rows), 0u);
    const auto state = sampler_->state();
    const std::uint32_t id = state[3], after = position + rows;
    EXPECT_LT(id, vocab_);
    EXPECT_EQ(state, (std::vector<std::uint32_t>{after, 1, 0, id, 1, 2, 3, 4}));
    std::vector<std::uint32_t> expected = tokens;
    if (after < kContext) expected[after] = id;
    EXPECT_EQ(sampler_->tokens(), expected);
    return id;
  }

  void check(const std::vector<float>& logits, const Params& params, std::uint32_t position,
             std::uint32_t rows) {
    std::vector<std::uint32_t> tokens = random_tokens();
    const std::uint32_t id = draw(logits, params, position, rows, tokens);
    const std::uint32_t length = std::min(position + rows, kContext);
    const std::uint32_t recent = std::min(params.penalty_last, length);
    const auto good =
        acceptable_ids(logits, std::span(tokens).subspan(length - recent, recent), position + rows, params);
    lenient_ += good.size() > 1;
    ASSERT_TRUE(good.contains(id)) << "id " << id << " of " << vocab_ << ", not " << *good.begin()
                                   << ": temperature " << params.temperature << " top_k " << params.top_k
                                   << " top_p " << params.top_p << " min_p " << params.min_p << " penalty "
                                   << params.penalty;
  }

  float pick(std::initializer_list<float> of) { return of.begin()[next() % of.size()]; }

  std::vector<float> random_logits() {
    std::vector<float> logits = random_floats(vocab_, next(), pick({0.01f, 1, 5, 30, 1000}));
    if (next() % 3 == 0)  // many ties
      for (float& x : logits) x = std::round(x);
    if (next() % 4 == 0)
      for (std::uint32_t i = 1; i < vocab_; i += 1 + next() % 5) logits[i] = -kInfinity;
    return logits;
  }

  void random_cases(std::uint32_t vocab, int count) {
    ASSERT_NO_FATAL_FAILURE(use(vocab));
    for (int i = 0; i < count; ++i) {
      Params p;
      p.temperature = pick({0, 0.1f, 0.7f, 1, 1.5f, 10});
      p.top_k = static_cast<std::uint32_t>(pick({0, 1, 2, 5, 40, 300}));
      p.top_p = pick({0, 0.001f, 0.3f, 0.5f, 0.9f, 0.99f, 1, 1, 2});
      p.min_p = pick({0, 0, 0.01f, 0.1f, 0.9f, 1, 3});
      p.penalty = pick({1, 1, 1.1f, 2, 0.5f});
      p.penalty_last = static_cast<std::uint32_t>(pick({0, 1, 16, 64, 1000}));
      p.seed_low = next();
      p.seed_high = next();
      const std::uint32_t rows = 1 + next() % 9;
      ASSERT_NO_FATAL_FAILURE(check(random_logits(), p, next() % kContext, rows));
    }
    EXPECT_LE(lenient_ * 8, count) << "too many cases had more than one answer to tell anything";
    lenient_ = 0;
  }

  std::uint32_t next() { return static_cast<std::uint32_t>(engine_()); }

  std::mt19937 engine_{123};
  std::uint32_t vocab_ = 0;
  int lenient_ = 0;  // cases with more than one acceptable id
  std::unique_ptr<Sampler> sampler_;
};

TEST_F(SampleGpu, RandomCasesOfSmallVocabularies) {
  for (std::uint32_t vocab : {1u, 2u, 3u, 127u, 500u}) random_cases(vocab, 700);
}

TEST_F(SampleGpu, RandomCasesOfLargeVocabularies) {
  random_cases(4099, 100);
  random_cases(32000, 60);
  random_cases(131072, 15);
}

TEST_F(SampleGpu, GreedyTakesTheLowestOfTheLargest) {
  for (std::uint32_t vocab : {1u, 2u, 127u, 32000u, 131072u}) {
    ASSERT_NO_FATAL_FAILURE(use(vocab));
    for (std::uint32_t first : {0u, vocab / 2, vocab - 1}) {
      std::vector<float> logits(vocab, -3.5f);
      logits[first] = 0.0f;
      logits[vocab - 1] = first == vocab - 1 ? 0.0f : -0.0f;
      EXPECT_EQ(draw(logits, Params{}), first);
    }
    EXPECT_EQ(draw(std::vector<float>(vocab, -1e30f), Params{}), 0u);
  }
}

TEST_F(SampleGpu, StrictSettingsAreGreedy) {
  ASSERT_NO_FATAL_FAILURE(use(1000));
  for (int i = 0; i < 20; ++i) {
    const std::vector<float> logits = random_floats(vocab_, next(), 4);
    const std::uint32_t greedy = draw(logits, Params{});
    Params p;
    p.temperature = 1;
    p.seed_low = next();
    Params top_k = p, top_p = p, min_p = p, cold = p;
    top_k.top_k = 1;
    top_p.top_p = 1e-6f;
    min_p.min_p = 1;
    cold.temperature = 1e-30f;
    for (const Params& strict : {top_k, top_p, min_p, cold}) EXPECT_EQ(draw(logits, strict), greedy);
  }
}

TEST_F(SampleGpu, TiesGoToTheLowestIds) {
  ASSERT_NO_FATAL_FAILURE(use(3000));
  const std::vector<float> equal(vocab_, 2.0f);
  Params p;
  p.temperature = 1;
  Params both = p, half = p;
  p.top_k = 700;
  half.top_p = 0.25f;  // reached exactly by 750
  both.top_k = 1000;
  both.top_p = 0.5f;
  std::uint32_t most = 0, most_half = 0, most_both = 0;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    p.seed_low = half.seed_low = both.seed_low = seed;
    most = std::max(most, draw(equal, p));
    most_half = std::max(most_half, draw(equal, half));
    most_both = std::max(most_both, draw(equal, both));
  }
  EXPECT_LT(most, 700u);
  EXPECT_GT(most, 600u);
  EXPECT_LT(most_half, 750u);
  EXPECT_GT(most_half, 650u);
  EXPECT_LT(most_both, 500u);
  EXPECT_GT(most_both, 430u);
}

TEST_F(SampleGpu, NothingChangesAfterBadLogits) {
  ASSERT_NO_FATAL_FAILURE(use(300));
  const std::vector<std::uint32_t> tokens = random_tokens();
  sampler_->set_tokens(tokens);
  EXPECT_EQ(sampler_->run(random_floats(vocab_, 5), {}, 5, 2, 1), 1u);
  EXPECT_EQ(sampler_->state(), (std::vector<std::uint32_t>{5, 2, 1, 0xffffffff, 1, 2, 3, 4}));
  EXPECT_EQ(sampler_->tokens(), tokens);
}

TEST_F(SampleGpu, BadLogitsChangeNothingButTheStatus) {
  ASSERT_NO_FATAL_FAILURE(use(300));
  const std::vector<std::uint32_t> tokens = random_tokens();
  sampler_->set_tokens(tokens);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float temperature : {0.0f, 1.0f})
    for (float bad : {nan, -nan, kInfinity, -kInfinity})
      for (std::uint32_t at : {0u, 77u, 299u}) {
        std::vector<float> logits = random_floats(vocab_, 5);
        logits[at] = bad;
        if (bad == -kInfinity) logits.assign(vocab_, bad);
        Params p;
        p.temperature = temperature;
        EXPECT_EQ(sampler_->run(logits, p, 5, 2), 1u);
        EXPECT_EQ(sampler_->state(), (std::vector<std::uint32_t>{5, 2, 1, 0xffffffff, 1, 2, 3, 4}));
        EXPECT_EQ(sampler_->tokens(), tokens);
      }
}

TEST_F(SampleGpu, MinusInfinityIsNeverChosen) {
  ASSERT_NO_FATAL_FAILURE(use(64));
  std::vector<float> logits(64, -kInfinity);
  logits[9] = -5;
  logits[40] = -6;
  Params p;
  p.temperature = 100;
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    p.seed_low = seed;
    p.top_k = seed % 2 * 30;
    EXPECT_THAT(draw(logits, p), ::testing::AnyOf(9u, 40u));
  }
}

TEST_F(SampleGpu, PenaltyOncePerDistinctId) {
  ASSERT_NO_FATAL_FAILURE(use(50000));  // more than one tile of marks
  std::vector<float> logits(vocab_, -10.0f);
  logits[3] = 4.0f;
  logits[49999] = 3.0f;
  logits[20000] = 2.9f;
  std::vector<std::uint32_t> tokens(kContext, 3);
  Params p;
  p.penalty = 1.35f;  // once: 2.96, twice: 2.19
  EXPECT_EQ(draw(logits, p, 10, 1, tokens), 49999u);
  logits[49999] = 2.95f;
  EXPECT_EQ(draw(logits, p, 10, 1, tokens), 3u);
  logits[49999] = 3.0f;
  tokens.assign(kContext, 1);
  tokens[5] = 3;
  p.penalty_last = 5;  // of 11 tokens 6..10
  EXPECT_EQ(draw(logits, p, 10, 1, tokens), 3u);
  p.penalty_last = 6;
  EXPECT_EQ(draw(logits, p, 10, 1, tokens), 49999u);
}

TEST_F(SampleGpu, AtTheEndOfTheContextNoTokenIsWritten) {
  ASSERT_NO_FATAL_FAILURE(use(10));
  for (std::uint32_t position : {kContext - 1, kContext, kContext + 50})
    draw(random_floats(10, 1), Params{}, position);
}

TEST_F(SampleGpu, StaysWithinItsBindings) {
  for (std::uint32_t vocab : {1u, 67u, 5000u}) {
    const auto dispatch = choose_sample(vocab, 20, target_of(*device_));
    ASSERT_TRUE(dispatch) << dispatch.error().message;
    for (std::uint32_t position : {3u, 19u, 30u}) {
      const Params p{0.8f, 40, 0.9f, 0.01f, 1.2f, 64, 1, 2};
      Bytes logits = to_bytes(random_floats(vocab, 3)), tokens = to_bytes(std::vector<std::uint32_t>(20, 1));
      Bytes state = state_bytes(position, 1), params = to_bytes(std::vector<Params>{p}),
            scratch = poisoned(vocab);
      ASSERT_TRUE(run_dispatch(*device_, *dispatch, {&logits, &tokens, &state, &params, &scratch}));
      EXPECT_EQ(from_bytes<std::uint32_t>(state)[2], 0u);
    }
  }
}

// The known answers that Random123 publishes for philox4x32-10.
TEST(Philox, KnownAnswers) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t f = 0xffffffff;
  EXPECT_EQ(philox4x32({f, f, f, f}, {f, f}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// With 2^14 equal logits the id is the first 14 bits of the random word.
TEST_F(SampleGpu, DrawsArePhilox) {
  ASSERT_NO_FATAL_FAILURE(use(1u << 14));
  const std::vector<float> equal(vocab_, -1.0f);
  Params p;
  p.temperature = 0.5f;
  EXPECT_EQ(draw(equal, p, 0xffffffffu, 1), 0x6627e8d5u >> 18);  // position 0
  for (int i = 0; i < 100; ++i) {
    p.seed_low = next();
    p.seed_high = next();
    const std::uint32_t position = next();
    EXPECT_EQ(draw(equal, p, position, 1),
              philox4x32({position + 1, 0, 0, 0}, {p.seed_low, p.seed_high})[0] >> 18);
  }
}

TEST_F(SampleGpu, Distribution) {
  ASSERT_NO_FATAL_FAILURE(use(12));
  const std::vector<float> logits = random_floats(12, 77, 1.5f);
  Params p;
  p.temperature = 0.9f;
  p.seed_low = 42;
  std::vector<double> probability(12);
  double total = 0;
  for (std::size_t i = 0; i < 12; ++i) total += probability[i] = std::exp(logits[i] / 0.9);
  std::vector<int> seen(12);
  const int draws = 3000;
  for (int i = 0; i < draws; ++i) ++seen[draw(logits, p, static_cast<std::uint32_t>(i) + 200)];
  double chi = 0;
  for (std::size_t i = 0; i < 12; ++i) {
    const double expected = draws * probability[i] / total;
    chi += (seen[i] - expected) * (seen[i] - expected) / expected;
  }
  EXPECT_LT(chi, 31.3);  // 11 degrees of freedom: one seed in a thousand is above, and this one is fixed
}

TEST_F(SampleGpu, TheSameEveryTime) {
  ASSERT_NO_FATAL_FAILURE(use(20000));
  const std::vector<float> logits = random_floats(vocab_, 3, 2);
  Params p{1, 5000, 0.9f, 0, 1.1f, 64, 9, 9};
  std::vector<std::uint32_t> tokens = random_tokens();
  std::vector<std::uint32_t> first;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::uint32_t> ids;
    for (std::uint32_t i = 0; i < 10; ++i) ids.push_back(draw(logits, p, 10 + i, 1, tokens));
    if (round == 0) first = ids;
    EXPECT_EQ(ids, first);
  }
}

TEST(ChooseSample, Refusals) {
  Target target;
  EXPECT_FALSE(choose_sample(0, 10, target).ok());
  EXPECT_TRUE(choose_sample(1u << 18, 10, target).ok());
  EXPECT_FALSE(choose_sample((1u << 18) + 1, 10, target).ok());
  target.limits.max_storage_range = 65536;
  EXPECT_FALSE(choose_sample(16385, 10, target).ok());
}

}  // namespace
}  // namespace tessera::test
