// Making a walker: progress, cancelling, the host's threads, readers that fail.
#include <atomic>
#include <map>
#include <thread>

#include "graph/fuse.h"
#include "schedule/gpu_walker.h"
#include "support/gpu_fixture.h"
#include "support/random_decoder.h"
#include "support/refusal.h"
#include "support/run_decoder.h"

namespace tessera::test {
namespace {

class LoadWalker : public GpuTest {
 protected:
  Result<std::unique_ptr<GpuWalker>> load(GpuWalkerOptions options) {
    return GpuWalker::create(*device_, program_, std::move(options));
  }
  void expect_it_works(Result<std::unique_ptr<GpuWalker>> made) {
    const auto walker = take(std::move(made));
    ASSERT_TRUE(walker);
    EXPECT_EQ(take(DecoderRunner(model_, *walker).prefill(spread_ids(5, 96), 64)).size(), 96u);
  }
  DecoderProgram model_ = RandomDecoder{}.build();
  std::shared_ptr<const Program> program_ = std::make_shared<const Program>(fuse(*model_.program));
};

TEST_F(LoadWalker, ProgressCountsUpToTheTotal) {
  std::map<std::string, std::vector<std::pair<std::uint64_t, std::uint64_t>>, std::less<>> seen;
  GpuWalkerOptions options;
  options.progress = [&](std::string_view stage, std::uint64_t done, std::uint64_t total) {
    seen[std::string(stage)].emplace_back(done, total);
    return true;
  };
  const auto walker = take(load(options));
  ASSERT_TRUE(walker);
  ASSERT_EQ(seen.size(), 2u);
  for (const auto& [stage, calls] : seen) {
    EXPECT_TRUE(stage == "pipelines" || stage == "weights") << stage;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      EXPECT_EQ(calls[i].second, calls[0].second);
      EXPECT_GE(calls[i].first, calls[i == 0 ? 0 : i - 1].first);
    }
    EXPECT_EQ(calls.back().first, calls.back().second) << stage;
  }
  EXPECT_EQ(seen["pipelines"].back().second, walker->stats().pipelines);
  EXPECT_EQ(seen["weights"].back().second, walker->stats().weight_bytes);
}

TEST_F(LoadWalker, CancelsInEachStage) {
  for (const std::string wanted : {"pipelines", "weights"})
    for (int after : {0, 2}) {
      int calls = 0;
      GpuWalkerOptions options;
      options.progress = [&](std::string_view stage, std::uint64_t, std::uint64_t) {
        return stage != wanted || calls++ < after;
      };
      expect_refused(load(options), Code::cancelled, {"cancelled", wanted});
      EXPECT_EQ(calls, after + 1) << wanted;  // it stops there
    }
  expect_it_works(load({}));
}

TEST_F(LoadWalker, PipelinesAreMadeOnTheHostsThreads) {
  std::atomic<std::uint32_t> jobs = 0;
  std::uint32_t total = 0;
  GpuWalkerOptions options;
  options.run_jobs = [&](std::uint32_t count, const std::function<void(std::uint32_t)>& job) {
    std::atomic<std::uint32_t> next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (std::uint32_t i; (i = next++) < count; ++jobs) job(i);
      });
    for (std::thread& thread : threads) thread.join();
    total = count;
  };
  expect_it_works(load(options));
  EXPECT_EQ(jobs, total);
  EXPECT_GT(total, 5u);
}

TEST_F(LoadWalker, CancelOnTheHostsThreads) {
  GpuWalkerOptions options;
  options.progress = [](std::string_view, std::uint64_t done, std::uint64_t) { return done < 2; };
  options.run_jobs = [](std::uint32_t count, const std::function<void(std::uint32_t)>& job) {
    std::thread other([&] {
      for (std::uint32_t i = 1; i < count; i += 2) job(i);
    });
    for (std::uint32_t i = 0; i < count; i += 2) job(i);
    other.join();
  };
  expect_refused(load(options), Code::cancelled, {"pipelines"});
}

TEST_F(LoadWalker, SaysThatAJobWasSkipped) {
  GpuWalkerOptions options;
  options.run_jobs = [](std::uint32_t count, const std::function<void(std::uint32_t)>& job) {
    for (std::uint32_t i = 0; i + 1 < count; ++i) job(i);
  };
  expect_refused(load(options), Code::internal, {"run_jobs skipped it"});
}

// Gives the real weights until `left` reads were made.
class BrokenReader final : public WeightReader {
 public:
  BrokenReader(std::shared_ptr<const WeightReader> real, int left) : real_(std::move(real)), left_(left) {}
  Result<void> read(const Value& weight, std::uint64_t first_row, std::span<std::byte> out) const override {
    if (left_-- <= 0) return Error{Code::io, "reading '" + weight.name + "': the disk is gone"};
    return real_->read(weight, first_row, out);
  }

 private:
  std::shared_ptr<const WeightReader> real_;
  mutable int left_;
};

TEST_F(LoadWalker, AReaderThatFailsGivesItsError) {
  for (int left : {0, 7}) {
    auto broken = std::make_shared<Program>(*program_);
    broken->weights = std::make_shared<BrokenReader>(program_->weights, left);
    expect_refused(GpuWalker::create(*device_, broken, {}), Code::io, {"the disk is gone"});
  }
}

TEST_F(LoadWalker, AProgramThatLiesIsRefused) {
  auto wrong = std::make_shared<Program>(*program_);
  wrong->values[wrong->graphs[0].ops[1].out[0]].shape.back() += 4;
  const auto made = GpuWalker::create(*device_, wrong, {});
  ASSERT_FALSE(made);
  EXPECT_TRUE(made.error().code == Code::internal || made.error().code == Code::bad_model);
}

TEST_F(LoadWalker, WeightsComeLaterAndMayGo) {
  GpuWalkerOptions options;
  options.stream = true;
  const auto walker = take(load(options));
  ASSERT_TRUE(walker);
  const std::uint64_t total = walker->loading().total;
  EXPECT_EQ(total, walker->stats().weight_bytes);
  const auto whole = take(GpuWalker::create(*device_, program_, {}));
  ASSERT_TRUE(whole);
  EXPECT_TRUE(whole->loading().ready());
  const auto wanted = take(DecoderRunner(model_, *whole).prefill(spread_ids(5, 96), 64));
  for (const std::uint64_t bytes : {std::uint64_t{10'000}, std::uint64_t{1}, std::uint64_t{0}}) {
    EXPECT_EQ(walker->loading().done, 0u);
    expect_refused(walker->run(0), Code::internal, {"weights"});
    for (std::uint64_t done = 0; !walker->loading().ready(); done = walker->loading().done) {
      expect_ok(walker->load(bytes));
      if (bytes > 1) {
        EXPECT_LE(walker->loading().done, done + bytes + 2048);  // a row more
      }
    }
    EXPECT_EQ(walker->loading().done, total);
    EXPECT_EQ(take(DecoderRunner(model_, *walker).prefill(spread_ids(5, 96), 64)), wanted);
    const std::uint64_t bytes_before = device_->memory_use().bytes;
    expect_ok(walker->release_weights());
    EXPECT_LE(device_->memory_use().bytes + total, bytes_before);
  }
}

// A hook that binds nothing new changes nothing; the schedules are those of the graphs in order.
TEST_F(LoadWalker, TheHookSeesEveryGraph) {
  std::vector<std::string> graphs;
  GpuWalkerOptions options;
  options.edit_schedule = [&](const Graph& graph, ScheduledGraph& scheduled) {
    EXPECT_FALSE(scheduled.steps.empty());
    graphs.push_back(graph.name);
  };
  expect_it_works(load(options));
  EXPECT_EQ(graphs, (std::vector<std::string>{"prefill", "head", "decode"}));
}

}  // namespace
}  // namespace tessera::test
