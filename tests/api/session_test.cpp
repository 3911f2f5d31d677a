// Where models come from, what sessions report, callbacks that cancel, threads, the pipeline cache.
#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "api/api_fixture.h"
#include "tessera/tessera_tools.h"

namespace tessera::test {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Sessions : public OnBoth {
 protected:
  Ids greedy(const Model& model) {
    Session s = session_of(model);
    take(s.append(take(model.tokenize(kPrompt))));
    return next(s, 6);
  }
};
TSR_ON_BOTH(Sessions);

TEST_P(Sessions, PathMemoryAndReaderAreTheSame) {
  const Ids wanted = greedy(load());
  const std::string file = read_file(kQwen2);
  tessera_model_desc memory = init<tessera_model_desc>();
  memory.memory = file.data();
  memory.memory_bytes = file.size();
  EXPECT_EQ(greedy(take(context().load(memory))), wanted);

  struct Reader {
    const std::string* file;
    std::atomic<int> left;  // calls until it fails
  } reader{&file, 1 << 30};
  tessera_model_desc desc = init<tessera_model_desc>();
  desc.read = [](void* user, std::uint64_t offset, void* out, std::size_t count) {
    auto& r = *static_cast<Reader*>(user);
    if (r.left-- <= 0 || offset > r.file->size() || count > r.file->size() - offset) return 1;
    std::memcpy(out, r.file->data() + offset, count);
    return 0;
  };
  desc.read_user = &reader;
  desc.read_bytes = file.size();
  Model model = take(context().load(desc));
  EXPECT_EQ(greedy(model), wanted);

  reader.left = 3;  // while weights are read
  tessera_session_desc session_desc = init<tessera_session_desc>();
  session_desc.context = 32;
  if (on_gpu()) expect_failure(model.session(session_desc), TESSERA_IO, "");
  reader.left = 0;
  expect_failure(context().load(desc), TESSERA_IO, "");
}

TEST_P(Sessions, AReaderThatFailsLater) {
  if (on_gpu()) return;  // has its weights by then
  static std::string file;
  static std::atomic<bool> fails;
  file = read_file(kQwen2);
  fails = false;
  tessera_model_desc desc = init<tessera_model_desc>();
  desc.read = [](void*, std::uint64_t offset, void* out, std::size_t count) {
    if (fails) return 1;
    std::memcpy(out, file.data() + offset, count);
    return 0;
  };
  desc.read_bytes = file.size();
  const Model model = take(context().load(desc));
  Session s = session_of(model);
  take(s.append(Ids{1, 2, 3}));
  fails = true;
  expect_failure(s.next(), TESSERA_IO, "");
}

TEST_P(Sessions, InfoAndStats) {
  const Model model = load();
  const tessera_model_info info = model.info();
  EXPECT_STREQ(info.architecture, "qwen2");
  EXPECT_EQ(info.vocab, 320u);
  EXPECT_EQ(info.context, 512u);
  EXPECT_EQ(info.layers, 3u);
  EXPECT_EQ(info.dim, 64u);
  EXPECT_GT(info.parameters, 100'000u);
  Session s = session_of(model);
  take(s.append(Ids{1, 2, 3, 4, 5}));
  next(s, 6);
  const tessera_session_stats stats = s.stats();
  EXPECT_EQ(stats.position, 10u);
  EXPECT_EQ(stats.context, 64u);
  EXPECT_EQ(stats.prefill_tokens, 5u);
  EXPECT_EQ(stats.decode_tokens, 5u);
  EXPECT_GT(stats.weight_bytes, 400'000u);
  EXPECT_GT(stats.cache_bytes, 0u);
  if (!on_gpu()) return;
  EXPECT_EQ(stats.prefill_submits, 2u);
  EXPECT_EQ(stats.decode_submits, 5u);
  EXPECT_GT(stats.pipelines, 5u);
  next(s, 8);
  const tessera_session_stats later = s.stats();
  EXPECT_EQ(later.decode_submits, stats.decode_submits + 8);
  EXPECT_EQ(later.records, stats.records);
  EXPECT_EQ(later.decode_records, stats.decode_records);
}

TEST_P(Sessions, LogitsComeInOrderAndTheSameFromPromptsAndSteps) {
  const Model model = load();
  const Ids prompt = take(model.tokenize(kPrompt));
  using Rows = std::vector<std::vector<float>>;
  const auto collect = [&](std::uint32_t chunk, const Ids& ids, int steps, Ids& generated) {
    Rows rows;
    tessera_session_desc desc = init<tessera_session_desc>();
    desc.context = 64;
    desc.chunk = chunk;
    desc.logits = [](void* user, std::uint32_t position, const float* logits, std::uint32_t vocab) {
      auto& to = *static_cast<Rows*>(user);
      EXPECT_EQ(position, to.size());
      to.emplace_back(logits, logits + vocab);
    };
    desc.logits_user = &rows;
    Session s = take(model.session(desc));
    take(s.append(ids));
    generated = next(s, steps);
    return rows;
  };
  Ids generated, last;
  const Rows steps = collect(64, prompt, 5, generated);  // a prompt, then four steps
  ASSERT_EQ(steps.size(), prompt.size() + 4);
  Ids all = prompt;
  all.insert(all.end(), generated.begin(), generated.end() - 1);
  const Rows whole = collect(5, all, 1, last);  // the same tokens as a prompt
  ASSERT_EQ(whole.size(), steps.size());
  EXPECT_EQ(last[0], generated.back());
  for (std::size_t p = 0; p < whole.size(); ++p) {
    ASSERT_EQ(whole[p].size(), 320u);
    // Both are within the golden test's bound of the same numbers.
    for (std::size_t i = 0; i < whole[p].size(); ++i)
      ASSERT_NEAR(whole[p][i], steps[p][i], 2e-4) << p << " " << i;
  }
}

TEST_P(Sessions, ProgressCancels) {
  const Model model = load();
  tessera_session_desc desc = init<tessera_session_desc>();
  desc.context = 64;
  desc.chunk = 4;
  std::map<std::string, int> stages;
  std::string cancel;
  const ProgressFn progress = [&](std::string_view stage, std::uint64_t done, std::uint64_t total) {
    EXPECT_LE(done, total);
    return stage != cancel || ++stages[cancel] < 3;
  };
  if (on_gpu())
    for (const std::string stage : {"pipelines", "weights"}) {
      cancel = stage;
      expect_failure(model.session(desc, progress), TESSERA_CANCELLED, stage);
    }
  cancel = "prefill";
  Session s = take(model.session(desc, progress));
  const Ids prompt = take(model.tokenize(kPrompt));
  take(s.append(prompt));
  expect_failure(s.next(), TESSERA_CANCELLED, "prompt");
  EXPECT_EQ(s.stats().position, 8u);
  cancel.clear();
  const std::uint32_t id = take(s.next());  // goes on
  Session other = session_of(model);
  take(other.append(prompt));
  EXPECT_EQ(id, take(other.next()));
}

TEST_P(Sessions, ResetAndSamplers) {
  const Model model = load();
  Session s = session_of(model);
  const Ids prompt = take(model.tokenize(kPrompt));
  const auto run = [&](const tessera_sampler& sampler) {
    take(s.reset());
    take(s.set_sampler(sampler));
    take(s.append(prompt));
    return next(s, 12);
  };
  tessera_sampler hot = init<tessera_sampler>();
  hot.temperature = 1.5f;
  hot.seed = 1;
  tessera_sampler other = hot;
  other.seed = 2;
  const Ids greedy = run(init<tessera_sampler>());
  const Ids first = run(hot), second = run(other);
  EXPECT_NE(first, second);
  EXPECT_NE(first, greedy);
  EXPECT_EQ(run(hot), first);
  EXPECT_EQ(run(init<tessera_sampler>()), greedy);
  other.seed = std::uint64_t{1} << 32 | 1;  // the high half counts too
  EXPECT_NE(run(other), first);
  tessera_sampler one = hot;
  one.top_k = 1;
  EXPECT_EQ(run(one), greedy);
  // A new session from the same seed.
  tessera_session_desc desc = init<tessera_session_desc>();
  desc.context = 64;
  desc.sampler = &hot;
  Session fresh = take(model.session(desc));
  take(fresh.append(prompt));
  EXPECT_EQ(next(fresh, 12), first);
}

TEST_P(Sessions, TwoSessionsInTwoThreads) {
  const Model model = load();
  const Ids wanted = greedy(model);
  Ids found[2];
  std::vector<std::thread> threads;
  for (Ids& ids : found) threads.emplace_back([&] { ids = greedy(model); });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(found[0], wanted);
  EXPECT_EQ(found[1], wanted);
}

TEST_P(Sessions, PipelinesOnTheHostsThreads) {
  if (!on_gpu()) return;
  auto desc = gpu();
  std::atomic<std::uint32_t> jobs = 0;
  desc.run_jobs_user = &jobs;
  desc.run_jobs = [](void* user, std::uint32_t count, void (*job)(void*, std::uint32_t), void* arg) {
    auto& all = *static_cast<std::atomic<std::uint32_t>*>(user);
    std::vector<std::thread> threads;
    for (std::uint32_t t = 0; t < 3; ++t)
      threads.emplace_back([=, &all] {
        for (std::uint32_t i = t; i < count; i += 3, ++all) job(arg, i);
      });
    for (std::thread& t : threads) t.join();
  };
  const Ids wanted = greedy(load());
  const Context other = take(Context::create(desc));
  const Model model = take(other.load(kQwen2));
  EXPECT_EQ(greedy(model), wanted);
  EXPECT_GT(jobs, 5u);
}

TEST_P(Sessions, ThePipelineCacheComesBack) {
  if (!on_gpu()) {
    EXPECT_EQ(take(context().pipeline_cache()), "");
    return;
  }
  const Ids wanted = greedy(load());
  struct Cache {
    std::string blob, key;
  } cache{take(context().pipeline_cache()), ""};
  EXPECT_FALSE(cache.blob.empty());
  auto desc = gpu();
  desc.load_pipeline_cache_user = &cache;
  desc.load_pipeline_cache = [](void* user, const char* key, const void** bytes, std::size_t* count) {
    auto& c = *static_cast<Cache*>(user);
    c.key = key;
    *bytes = c.blob.data();
    *count = c.blob.size();
  };
  for (const bool damaged : {false, true}) {
    if (damaged) cache.blob[cache.blob.size() / 2] ^= 1;
    const Context other = take(Context::create(desc));
    EXPECT_EQ(cache.key, other.cache_key());
    EXPECT_EQ(other.cache_key(), context().cache_key());
    EXPECT_EQ(take_lines().size(), damaged ? 1u : 0u);  // a warning
    const Model model = take(other.load(kQwen2));
    EXPECT_EQ(greedy(model), wanted);
  }
}

TEST_P(Sessions, TheScheduleAsText) {
  const Model model = load();
  Session s = session_of(model, 32);
  std::string text;
  const auto sink = [](void* user, const void* bytes, std::size_t count) {
    static_cast<std::string*>(user)->assign(static_cast<const char*>(bytes), count);
  };
  tessera_error error;
  const tessera_status status = tessera_session_print_schedule(s.get(), sink, &text, &error);
  EXPECT_EQ(status, on_gpu() ? TESSERA_OK : TESSERA_UNSUPPORTED) << error.message;
  EXPECT_EQ(text.find("graph decode") != std::string::npos, on_gpu());
}

TEST_P(Sessions, DevicesAreListed) {
  if (!on_gpu()) return;
  struct Seen {
    int devices = 0, chosen = 0, values = 0, kernels = 0;
    std::string name;
  } seen;
  tessera_device_sink sink = init<tessera_device_sink>();
  sink.user = &seen;
  sink.device = [](void* user, const tessera_device_info* info) {
    auto& s = *static_cast<Seen*>(user);
    ++s.devices;
    if (info->chosen) s.name = info->name;
    s.chosen += info->chosen != 0;
    EXPECT_TRUE(std::strlen(info->refused) == 0 || !info->chosen);
    EXPECT_STRNE(info->type, "");
  };
  sink.value = [](void* user, const char*, double value, int) {
    ++static_cast<Seen*>(user)->values;
    EXPECT_GE(value, 0);
  };
  sink.kernel = [](void* user, const char*, const char* origin, const char*) {
    ++static_cast<Seen*>(user)->kernels;
    EXPECT_TRUE(std::string(origin) == "built" || std::string(origin) == "prebuilt") << origin;
  };
  const auto desc = gpu();
  tessera_error error;
  ASSERT_EQ(tessera_devices(&desc, &sink, &error), TESSERA_OK) << error.message;
  EXPECT_GE(seen.devices, 1);
  EXPECT_EQ(seen.chosen, 1);
  EXPECT_EQ(seen.name, context().device_name());
  EXPECT_GT(seen.values, 20 * seen.devices);
  EXPECT_GT(seen.kernels, 5 * seen.devices);
  sink = init<tessera_device_sink>();  // every callback may be missing
  EXPECT_EQ(tessera_devices(&desc, &sink, &error), TESSERA_OK);
}

TEST_P(Sessions, ADeviceThatIsNotThere) {
  if (!on_gpu()) return;
  auto desc = gpu();
  desc.device = "no such device";
  expect_failure(Context::create(desc), TESSERA_NO_DEVICE, "no such device");
  desc = gpu();
  const char* cap = "no_such_limit=1";
  desc.caps = &cap;
  desc.cap_count = 1;
  expect_failure(Context::create(desc), TESSERA_INVALID_ARGUMENT, "no_such_limit");
}

}  // namespace
}  // namespace tessera::test
