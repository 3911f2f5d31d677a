// What a caller can get wrong: sizes of structs, NULL, values out of range. Nothing is written on a failure.
#include <cmath>
#include <cstddef>
#include <cstring>

#include "api/api_fixture.h"
#include "api/consumer.h"
#include "tessera/tessera_tools.h"

namespace tessera::test {
namespace {

class Arguments : public OnBoth {};
TSR_ON_BOTH(Arguments);

#define EXPECT_INVALID(call)                                    \
  do {                                                          \
    tessera_error error{};                                      \
    EXPECT_EQ(call, TESSERA_INVALID_ARGUMENT) << #call;         \
    EXPECT_EQ(error.status, TESSERA_INVALID_ARGUMENT) << #call; \
    EXPECT_STRNE(error.message, "") << #call;                   \
  } while (0)

TEST_P(Arguments, AProgramInC) {
  char text[256] = "";
  const std::string device = env("TESSERA_TEST_DEVICE");
  EXPECT_EQ(
      consume(on_gpu() ? device.c_str() : "reference", kQwen2.c_str(), kPrompt.c_str(), text, sizeof text),
      0);
  const Model model = load();
  Session s = session_of(model);
  take(s.append(take(model.tokenize(kPrompt))));
  EXPECT_EQ(text, take(model.detokenize(next(s, 8))));
}

// A size that is not set, or no struct.
TEST_P(Arguments, EveryStructNeedsItsSize) {
  const Model model = load();
  Session s = session_of(model);
  tessera_context_desc context_desc{};
  tessera_model_desc model_desc{};
  model_desc.path = kQwen2.c_str();
  tessera_session_desc session_desc{};
  tessera_generate_desc generate_desc{};
  tessera_verify_desc verify_desc{};
  tessera_model_info info{};
  tessera_session_stats stats{};
  tessera_sampler sampler{};
  tessera_device_sink sink{};
  tessera_inspect_sink inspect{};
  tessera_rates_desc rates{};
  tessera_forms_desc forms{};
  for (const bool null : {false, true}) {
    const auto of = [null](auto* desc) { return null ? nullptr : desc; };
    auto* const other_context = reinterpret_cast<tessera_context*>(1);
    auto* const other_model = reinterpret_cast<tessera_model*>(1);
    auto* const other_session = reinterpret_cast<tessera_session*>(1);
    tessera_context* made_context = other_context;
    tessera_model* made_model = other_model;
    tessera_session* made_session = other_session;
    tessera_stop stop = TESSERA_STOP_CALLBACK;
    EXPECT_INVALID(tessera_context_create(of(&context_desc), &made_context, &error));
    EXPECT_INVALID(tessera_model_load(context().get(), of(&model_desc), &made_model, &error));
    EXPECT_INVALID(tessera_session_create(model.get(), of(&session_desc), &made_session, &error));
    EXPECT_INVALID(tessera_generate(s.get(), of(&generate_desc), &stop, &error));
    EXPECT_INVALID(tessera_verify(model.get(), of(&verify_desc), &error));
    EXPECT_INVALID(tessera_model_get_info(model.get(), of(&info), &error));
    EXPECT_INVALID(tessera_session_get_stats(s.get(), of(&stats), &error));
    EXPECT_INVALID(tessera_devices(of(&context_desc), of(&sink), &error));
    EXPECT_INVALID(tessera_inspect(kQwen2.c_str(), of(&inspect), &error));
    EXPECT_INVALID(tessera_session_set_sampler(s.get(), of(&sampler), &error));
    EXPECT_INVALID(tessera_measure_rates(context().get(), of(&rates), &error));
    EXPECT_INVALID(tessera_bench_forms(context().get(), of(&forms), &error));
    EXPECT_EQ(made_context, other_context);
    EXPECT_EQ(made_model, other_model);
    EXPECT_EQ(made_session, other_session);
    EXPECT_EQ(stop, TESSERA_STOP_CALLBACK);
  }
  sampler.size = 4;
  EXPECT_INVALID(tessera_session_set_sampler(s.get(), &sampler, &error));
}

TEST_P(Arguments, NoHandleMayBeNull) {
  const Model model = load();
  Session s = session_of(model);
  const auto context_desc = reference();
  auto model_desc = init<tessera_model_desc>();
  model_desc.path = kQwen2.c_str();
  const auto session_desc = init<tessera_session_desc>();
  const auto generate_desc = init<tessera_generate_desc>();
  const auto verify_desc = init<tessera_verify_desc>();
  const auto sampler = init<tessera_sampler>();
  auto info = init<tessera_model_info>();
  auto stats = init<tessera_session_stats>();
  tessera_model* made_model = nullptr;
  tessera_session* made_session = nullptr;
  std::uint32_t id = 77;
  std::size_t count = 77;
  const auto ignore = [](void*, const void*, std::size_t) {};
  EXPECT_INVALID(tessera_context_create(&context_desc, nullptr, &error));
  EXPECT_INVALID(tessera_context_pipeline_cache(nullptr, ignore, nullptr, &error));
  EXPECT_INVALID(tessera_model_load(nullptr, &model_desc, &made_model, &error));
  EXPECT_INVALID(tessera_model_load(context().get(), &model_desc, nullptr, &error));
  EXPECT_INVALID(tessera_model_get_info(nullptr, &info, &error));
  EXPECT_INVALID(tessera_tokenize(nullptr, "a", 1, 1, 0, &id, 1, &count, &error));
  EXPECT_INVALID(tessera_tokenize(model.get(), nullptr, 1, 1, 0, &id, 1, &count, &error));
  EXPECT_INVALID(tessera_tokenize(model.get(), "a", 1, 1, 0, nullptr, 1, &count, &error));
  EXPECT_INVALID(tessera_tokenize(model.get(), "a", 1, 1, 0, &id, 1, nullptr, &error));
  EXPECT_INVALID(tessera_detokenize(nullptr, &id, 1, ignore, nullptr, &error));
  EXPECT_INVALID(tessera_detokenize(model.get(), nullptr, 1, ignore, nullptr, &error));
  EXPECT_INVALID(tessera_session_create(nullptr, &session_desc, &made_session, &error));
  EXPECT_INVALID(tessera_session_create(model.get(), &session_desc, nullptr, &error));
  EXPECT_INVALID(tessera_session_set_sampler(nullptr, &sampler, &error));
  EXPECT_INVALID(tessera_session_reset(nullptr, &error));
  EXPECT_INVALID(tessera_session_append(nullptr, &id, 1, &error));
  EXPECT_INVALID(tessera_session_append(s.get(), nullptr, 1, &error));
  EXPECT_INVALID(tessera_session_next(nullptr, &id, &error));
  EXPECT_INVALID(tessera_session_next(s.get(), nullptr, &error));
  EXPECT_INVALID(tessera_generate(nullptr, &generate_desc, nullptr, &error));
  tessera_step_desc step_desc = init<tessera_step_desc>();
  EXPECT_INVALID(tessera_session_begin(nullptr, &generate_desc, &error));
  EXPECT_INVALID(tessera_session_begin(s.get(), nullptr, &error));
  EXPECT_INVALID(tessera_session_step(nullptr, &step_desc, nullptr, &error));
  EXPECT_INVALID(tessera_session_step(s.get(), nullptr, nullptr, &error));
  EXPECT_INVALID(tessera_session_poll(nullptr, nullptr, &error));
  EXPECT_INVALID(tessera_session_wait(nullptr, 0, nullptr, &error));
  EXPECT_INVALID(tessera_session_cancel(nullptr, &error));
  EXPECT_INVALID(tessera_session_release_weights(nullptr, &error));
  EXPECT_INVALID(tessera_session_save(nullptr, ignore, nullptr, &error));
  EXPECT_INVALID(tessera_session_save(s.get(), nullptr, nullptr, &error));
  EXPECT_INVALID(tessera_session_restore(nullptr, "x", 1, &error));
  EXPECT_INVALID(tessera_session_restore(s.get(), nullptr, 1, &error));
  EXPECT_INVALID(tessera_session_restore(s.get(), "x", 1, &error));
  EXPECT_INVALID(tessera_session_get_stats(nullptr, &stats, &error));
  EXPECT_INVALID(tessera_verify(nullptr, &verify_desc, &error));
  EXPECT_INVALID(tessera_session_print_schedule(nullptr, ignore, nullptr, &error));
  EXPECT_INVALID(tessera_session_print_schedule(s.get(), nullptr, nullptr, &error));
  EXPECT_EQ(made_model, nullptr);
  EXPECT_EQ(made_session, nullptr);
  EXPECT_EQ(id, 77u);
  EXPECT_EQ(count, 77u);

  EXPECT_EQ(tessera_session_append(s.get(), nullptr, 0, nullptr), TESSERA_OK);
  EXPECT_EQ(tessera_session_next(s.get(), &id, nullptr), TESSERA_INVALID_ARGUMENT);  // nothing is pending
  EXPECT_STREQ(tessera_context_device_name(nullptr), "");
  EXPECT_STREQ(tessera_context_cache_key(nullptr), "");
  EXPECT_STREQ(tessera_context_rates_key(nullptr), "");
  tessera_session_destroy(nullptr);
  tessera_model_destroy(nullptr);
  tessera_context_destroy(nullptr);
}

TEST_P(Arguments, PointersWithCounts) {
  auto desc = gpu();
  desc.caps = nullptr;
  desc.cap_count = 1;
  if (!on_gpu()) desc.device = "reference";
  expect_failure(Context::create(desc), TESSERA_INVALID_ARGUMENT, on_gpu() ? "caps is NULL" : "reference");
  const Model model = load();
  Session s = session_of(model);
  auto generate_desc = init<tessera_generate_desc>();
  generate_desc.stop_count = 1;
  EXPECT_INVALID(tessera_generate(s.get(), &generate_desc, nullptr, &error));
}

TEST_P(Arguments, MeasuredRates) {
  auto desc = on_gpu() ? gpu() : reference();
  const auto refused = [&](const char* rate, const std::string& words) {
    desc.rates = &rate;
    desc.rate_count = 1;
    expect_failure(Context::create(desc), TESSERA_INVALID_ARGUMENT, on_gpu() ? words : "reference");
  };
  refused("attention", "\"attention\": expected form=GFLOP/s");
  refused("attention=fast", "number of GFLOP/s");
  refused("attention_magic=3", "\"attention_magic\": the forms are attention_coopmat2, ");
  refused(nullptr, "expected form=GFLOP/s");
  const char* const twice[] = {"attention=3", "attention=4"};
  desc.rates = twice;
  desc.rate_count = 2;
  expect_failure(Context::create(desc), TESSERA_INVALID_ARGUMENT, on_gpu() ? "given twice" : "reference");
  desc.rates = nullptr;
  expect_failure(Context::create(desc), TESSERA_INVALID_ARGUMENT, on_gpu() ? "rates is NULL" : "reference");
}

// What a host kept is asked for by a key, and harms nobody when it is broken.
TEST_P(Arguments, KeptRates) {
  struct Kept {
    std::vector<const char*> rates;
    std::string key = {};
  };
  const auto create = [&](Kept& kept) {
    auto desc = on_gpu() ? gpu() : reference();
    desc.load_rates_user = &kept;
    desc.load_rates = [](void* user, const char* key, const char* const** rates, uint32_t* count) {
      auto& from = *static_cast<Kept*>(user);
      from.key = key;
      *rates = from.rates.data();
      *count = static_cast<uint32_t>(from.rates.size());
    };
    return take(Context::create(desc));
  };
  Kept good{{"attention=3", "attention_keys=4.5"}}, none{{}}, broken{{"attention=3", "\x01"}};
  for (Kept* kept : {&good, &none, &broken}) {
    const Context made = create(*kept);
    ASSERT_NE(made.get(), nullptr);
    EXPECT_EQ(kept->key, made.rates_key());
    EXPECT_EQ(kept->key.empty(), !on_gpu());
    const std::vector<std::string> lines = take_lines();
    if (kept != &broken || !on_gpu()) {
      EXPECT_THAT(lines, testing::IsEmpty());
    } else {
      ASSERT_EQ(lines.size(), 1u);
      EXPECT_THAT(lines[0], testing::HasSubstr("the measured rates are ignored"));
    }
  }
  if (!on_gpu()) return;
  auto lowered = gpu();
  const char* cap = "max_group_count_x=1000";
  lowered.caps = &cap;
  lowered.cap_count = 1;
  EXPECT_NE(take(Context::create(lowered)).rates_key(), good.key);
}

// A caller that was built with an older header: what it does not know keeps its default.
TEST_P(Arguments, OlderAndNewerStructs) {
  const Model model = load();
  tessera_session_desc desc = init<tessera_session_desc>();
  desc.context = 32;
  desc.chunk = 4;
  desc.logits = [](void*, std::uint32_t, const float*, std::uint32_t) { ADD_FAILURE() << "called"; };
  desc.size = offsetof(tessera_session_desc, logits);
  Session s = take(model.session(desc));
  EXPECT_EQ(s.stats().context, 32u);
  take(s.append(Ids{1, 2, 3}));
  take(s.next());

  // Nothing past the caller's size is written.
  tessera_session_stats stats;
  std::memset(&stats, 0x5a, sizeof stats);
  stats.size = offsetof(tessera_session_stats, load_seconds);
  ASSERT_EQ(tessera_session_get_stats(s.get(), &stats, nullptr), TESSERA_OK);
  EXPECT_EQ(stats.size, offsetof(tessera_session_stats, load_seconds));
  EXPECT_EQ(stats.position, 3u);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&stats);
  for (std::size_t i = stats.size; i < sizeof stats; ++i) ASSERT_EQ(bytes[i], 0x5a) << i;

  struct Newer {
    tessera_model_info info;
    std::uint64_t more;
  } newer{};
  newer.info.size = sizeof newer;
  newer.more = 9;
  ASSERT_EQ(tessera_model_get_info(model.get(), &newer.info, nullptr), TESSERA_OK);
  EXPECT_EQ(newer.info.size, sizeof newer);
  EXPECT_EQ(newer.more, 9u);
  EXPECT_EQ(newer.info.vocab, 320u);
}

TEST_P(Arguments, AModelComesFromOnePlace) {
  tessera_model_desc desc = init<tessera_model_desc>();
  expect_failure(context().load(desc), TESSERA_INVALID_ARGUMENT, "0 were given");
  desc.path = kQwen2.c_str();
  desc.memory = "x";
  desc.memory_bytes = 1;
  expect_failure(context().load(desc), TESSERA_INVALID_ARGUMENT, "2 were given");
  expect_failure(context().load(std::string("/no/such/file")), TESSERA_IO, "/no/such/file");
  expect_failure(context().load(std::string(TESSERA_SOURCE_DIR)), TESSERA_IO, TESSERA_SOURCE_DIR);
  desc.path = nullptr;
  desc.memory = "GGUF";
  desc.memory_bytes = 4;
  expect_failure(context().load(desc), TESSERA_BAD_MODEL, "");
  const std::string safetensors = TESSERA_SOURCE_DIR "/tests/data/package.safetensors";
  expect_failure(context().load(safetensors), TESSERA_UNSUPPORTED, "safetensors");
}

TEST(Context, LongMessagesAreCutBetweenCharacters) {
  std::string cap = "x";
  for (int i = 0; i < 700; ++i) cap += "\u20ac";
  for (int i = 0; i < 3; ++i) {
    const char* const caps[] = {cap.c_str()};
    auto desc = init<tessera_context_desc>();
    desc.caps = caps;
    desc.cap_count = 1;
    tessera_context* made = nullptr;
    tessera_error error;
    EXPECT_EQ(tessera_context_create(&desc, &made, &error), TESSERA_INVALID_ARGUMENT);
    const std::string_view message = error.message;
    EXPECT_GT(message.size(), 1000u);
    EXPECT_LT(message.size(), sizeof error.message);
    EXPECT_TRUE(message.ends_with("\u20ac")) << message;
    cap.insert(1, "x");  // another place in a character
  }
}

TEST_P(Arguments, SamplersAreChecked) {
  const Model model = load();
  Session s = session_of(model);
  const auto expect_refused = [&](const char* name, auto change) {
    tessera_sampler sampler = init<tessera_sampler>();
    change(sampler);
    expect_failure(s.set_sampler(sampler), TESSERA_INVALID_ARGUMENT, name);
    tessera_session_desc desc = init<tessera_session_desc>();
    desc.context = 32;
    desc.sampler = &sampler;
    expect_failure(model.session(desc), TESSERA_INVALID_ARGUMENT, name);
  };
  expect_refused("temperature", [](auto& x) { x.temperature = -1; });
  expect_refused("temperature", [](auto& x) { x.temperature = std::nanf(""); });
  expect_refused("penalty", [](auto& x) { x.penalty = INFINITY; });
  expect_refused("top_p", [](auto& x) { x.top_p = 1.5f; });
  expect_refused("min_p", [](auto& x) { x.min_p = -0.5f; });
}

TEST_P(Arguments, SessionsAreChecked) {
  const Model model = load();
  tessera_session_desc desc = init<tessera_session_desc>();
  desc.context = 513;
  expect_failure(model.session(desc), TESSERA_INVALID_ARGUMENT, "513");
  desc.context = 32;
  desc.kv_type = static_cast<tessera_kv_type>(3);
  expect_failure(model.session(desc), TESSERA_INVALID_ARGUMENT, "kv_type");
  desc.kv_type = TESSERA_KV_DEFAULT;
  desc.precision = static_cast<tessera_precision>(2);
  expect_failure(model.session(desc), TESSERA_INVALID_ARGUMENT, "precision 2");
  Session s = session_of(model, 32);
  expect_failure(s.append(Ids{320}), TESSERA_INVALID_ARGUMENT, "vocabulary of 320");
  expect_failure(s.append(Ids(33, 1)), TESSERA_INVALID_ARGUMENT, "context of 32");
  expect_failure(model.detokenize(Ids{1, 320}), TESSERA_INVALID_ARGUMENT, "320");
}

TEST_P(Arguments, TokensAndTexts) {
  const Model model = load();
  const Ids ids = take(model.tokenize(kPrompt));
  EXPECT_EQ(take(model.detokenize(ids)), kPrompt);
  std::uint32_t few[2] = {};
  std::size_t count = 0;
  ASSERT_EQ(tessera_tokenize(model.get(), kPrompt.data(), kPrompt.size(), 1, 0, few, 2, &count, nullptr),
            TESSERA_OK);
  EXPECT_EQ(count, ids.size());
  EXPECT_EQ(few[1], ids[1]);
  ASSERT_EQ(tessera_tokenize(model.get(), nullptr, 0, 0, 0, nullptr, 0, &count, nullptr), TESSERA_OK);
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(take(model.detokenize({})), "");
}

TEST_P(Arguments, StatusTexts) {
  for (int s = TESSERA_OK; s <= TESSERA_INTERNAL; ++s)
    EXPECT_STRNE(tessera_status_text(static_cast<tessera_status>(s)), "unknown status");
  EXPECT_STREQ(tessera_status_text(static_cast<tessera_status>(15)), "unknown status");
}

TEST_P(Arguments, TheCppHeaderWrapsWhatNeedsNoHandle) {
  EXPECT_EQ(status_text(TESSERA_IO), tessera_status_text(TESSERA_IO));
  EXPECT_EQ(version(), tessera_version());
  std::size_t count = 0;
  auto list = init<tessera_op_list_sink>();
  list.user = &count;
  list.op = [](void* user, const char*, const char*, const char*) { ++*static_cast<std::size_t*>(user); };
  take(ops(list));
  EXPECT_GT(count, 10u);
  expect_failure(ops({}), TESSERA_INVALID_ARGUMENT, "tessera_op_list_sink");
  expect_failure(devices({}), TESSERA_INVALID_ARGUMENT, "tessera_device_sink");
  if (!on_gpu()) return;
  auto sink = init<tessera_device_sink>();
  count = 0;
  sink.user = &count;
  sink.device = [](void* user, const tessera_device_info*) { ++*static_cast<std::size_t*>(user); };
  take(devices(sink, gpu()));
  EXPECT_GT(count, 0u);
}

// Every byte but those of the size.
TEST(Init, GivesTheSizeAndZeros) {
  const tessera_session_desc macro = TESSERA_INIT(tessera_session_desc),
                             function = init<tessera_session_desc>();
  EXPECT_EQ(macro.size, sizeof macro);
  EXPECT_EQ(std::memcmp(&macro, &function, sizeof macro), 0);
}

// The reference needs no loader; nothing else works without one, and says so.
class Loader : public ApiTest {};
TEST_F(Loader, AnUnusableOne) {
  const auto nothing = reinterpret_cast<void*>(+[](void*, const char*) -> void (*)() { return nullptr; });
  auto desc = reference();
  desc.get_instance_proc_addr = nothing;
  Context context = take(Context::create(desc));
  EXPECT_EQ(context.device_name(), "reference");
  EXPECT_EQ(context.cache_key(), "");
  EXPECT_EQ(take(context.pipeline_cache()), "");
  Model model = take(context.load(kQwen2));
  tessera_session_desc session_desc = init<tessera_session_desc>();
  session_desc.context = 32;
  Session s = take(model.session(session_desc));
  take(s.append(Ids{1, 2}));
  take(s.next());
  desc.device = "";
  expect_failure(Context::create(desc), TESSERA_NO_DEVICE, "Vulkan");
  tessera_device_sink sink = init<tessera_device_sink>();
  tessera_error error;
  EXPECT_EQ(tessera_devices(&desc, &sink, &error), TESSERA_NO_DEVICE);
}

TEST_F(Loader, TheReferenceHasNoCaps) {
  auto desc = reference();
  const char* cap = "fp16=0";
  desc.caps = &cap;
  desc.cap_count = 1;
  expect_failure(Context::create(desc), TESSERA_INVALID_ARGUMENT, "reference");
}

}  // namespace
}  // namespace tessera::test
