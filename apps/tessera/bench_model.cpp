#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

#include "../shared/terminal.h"
#include "bench.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 3;

struct Speeds {
  std::vector<double> prompt, generation;  // tokens a second, one a round
};

tessera::Failure cancelled() { return {TESSERA_CANCELLED, "interrupted"}; }

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One prompt and as many tokens after it; the time of the prompt holds the choice of the first one.
tessera::Expected<tessera::Done> one_round(tessera::Session& session, const BenchModelOptions& options,
                                           std::uint32_t vocab, Speeds* out) {
  std::vector<std::uint32_t> ids(std::max(options.prompt, 1u));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint32_t>(i * 2654435761u % vocab);
  if (auto reset = session.reset(); !reset) return reset.failure();
  if (auto added = session.append(ids); !added) return added.failure();
  const auto start = Clock::now();
  if (auto id = session.next(); !id) return id.failure();
  const double prompt = seconds_since(start);
  const auto middle = Clock::now();
  for (std::uint32_t i = 0; i < options.generate; ++i) {
    if (interrupted()) return cancelled();
    if (auto id = session.next(); !id) return id.failure();
  }
  const double generation = seconds_since(middle);
  if (out == nullptr) return tessera::Done{};
  if (options.prompt != 0) out->prompt.push_back(options.prompt / prompt);
  if (options.generate != 0) out->generation.push_back(options.generate / generation);
  return tessera::Done{};
}

Json speed(std::uint32_t tokens, const std::vector<double>& values) {
  if (values.empty()) return {};
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  return {{"tokens", tokens},
          {"tokens_per_s",
           std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size())},
          {"min", sorted.front()},
          {"max", sorted.back()},
          {"rounds", values}};
}

void print_speed(const char* what, const Json& speed) {
  if (!speed.is_null())
    std::printf("%-12s %6s tokens  %10.2f tokens/s  (%.2f to %.2f)\n", what, speed["tokens"].dump().c_str(),
                speed["tokens_per_s"].get<double>(), speed["min"].get<double>(), speed["max"].get<double>());
}

tessera::Expected<Speeds> measure(const tessera::Model& model, const BenchModelOptions& options,
                                  ProgressBar& bar) {
  auto desc = tessera::init<tessera_session_desc>();
  desc.context = std::max(options.prompt, 1u) + options.generate + 1;
  desc.precision = options.precision;
  desc.chunk = std::min(options.chunk, std::max(options.prompt, 1u));
  auto session = model.session(desc, bar.callback());
  if (!session) return session.failure();
  Speeds speeds;
  // The first round warms up: caches, clocks, the calibration of slices (two runs of each graph).
  for (int round = -1; round < kRounds; ++round) {
    auto done = one_round(*session, options, model.info().vocab, round < 0 ? nullptr : &speeds);
    if (!done) return done.failure();
  }
  return speeds;
}

int run(const BenchModelOptions& options) {
  auto context = CachedContext::create(options.device);
  if (!context) return fail(context.failure());
  auto model = load_model(**context, options.model);
  if (!model) return fail(model.failure());
  const tessera_model_info info = model->info();
  if (info.vocab == 0) return fail("the file has no graph to run: only a vocabulary?");
  ProgressBar bar;
  auto speeds = measure(*model, options, bar);
  bar.clear();
  context->save();
  if (!speeds) return fail(speeds.failure());
  const Json prompt = speed(options.prompt, speeds->prompt);
  const Json generation = speed(options.generate, speeds->generation);
  if (options.json) {
    print_json(Json{{"version", TESSERA_VERSION},
                    {"date", utc_now()},
                    {"device", (*context)->device_name()},
                    {"model",
                     {{"architecture", info.architecture},
                      {"parameters", info.parameters},
                      {"layers", info.layers},
                      {"dim", info.dim}}},
                    {"chunk", options.chunk},
                    {"precision", name_of(options.precision)},
                    {"prompt", prompt},
                    {"generation", generation}});
    return 0;
  }
  std::printf("%s\n%s, %.1f million parameters\n", (*context)->device_name().c_str(), info.architecture,
              static_cast<double>(info.parameters) * 1e-6);
  print_speed("prompt", prompt);
  print_speed("generation", generation);
  return 0;
}

}  // namespace

void add_bench_model(CLI::App& bench, int& status) {
  auto* sub = bench.add_subcommand(
      "model", "Tokens a second of a prompt and of generation, mean and spread of three rounds");
  auto options = std::make_shared<BenchModelOptions>();
  add_device_options(*sub, options->device);
  add_model_option(*sub, options->model);
  sub->add_option("-p,--prompt", options->prompt, "Tokens of the prompt (512)")
      ->check(CLI::Range(0u, 1u << 20))
      ->type_name("N");
  sub->add_option("-n,--generate", options->generate, "Tokens that are generated (64)")
      ->check(CLI::Range(0u, 1u << 20))
      ->type_name("N");
  sub->add_option("--chunk", options->chunk, "Prompt tokens of one pass (512)")
      ->check(CLI::Range(1u, 1u << 20))
      ->type_name("N");
  add_precision_option(*sub, options->precision);
  sub->add_flag("--json", options->json, "One JSON object");
  sub->footer(
      "Ids spread over the vocabulary, chosen greedily, end tokens ignored. Examples:\n"
      "  tessera bench model\n"
      "  tessera bench model -m model.gguf -p 512 -n 64 --json");
  sub->callback([=, &status] { status = run(*options); });
}

}  // namespace tool
