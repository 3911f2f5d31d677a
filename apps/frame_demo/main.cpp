#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "../shared/command_line.h"
#include "../shared/terminal.h"
#include "demo.h"
#include "summary.h"

namespace {

using Json = nlohmann::ordered_json;

int fail(const std::string& message) {
  std::fprintf(stderr, "frame_demo: %s\n", message.c_str());
  return tool::kFailed;
}

Json json_of(const std::vector<double>& times) {
  const demo::Summary s = demo::summarize(times);
  return {{"p50_ms", s.p50}, {"p95_ms", s.p95}, {"p99_ms", s.p99}, {"max_ms", s.most}};
}

std::size_t over(const std::vector<double>& times, double limit) {
  return static_cast<std::size_t>(
      std::count_if(times.begin(), times.end(), [&](double t) { return t > limit; }));
}

void print_json(const demo::Options& options, const demo::Report& report) {
  const double interval = 1000 / options.fps;
  Json without = json_of(report.without), with = json_of(report.with);
  without["late_frames"] = over(report.without, interval);
  with["late_frames"] = over(report.with, interval);
  Json speech = Json::array(), device = nullptr;
  for (const auto& line : report.spoken)
    speech.push_back({{"speaker", demo::Conversation::name(line.speaker)}, {"words", line.words}});
  if (!report.tessera.empty()) {
    device = json_of(report.tessera);
    device["frames_over_budget"] = over(report.tessera, options.budget_us * 1e-3);
  }
  const Json out{{"device", report.device},
                 {"width", options.width},
                 {"height", options.height},
                 {"fps", options.fps},
                 {"frames", options.frames},
                 {"budget_us", options.budget_us},
                 {"seed", options.seed},
                 {"without", without},
                 {"with", with},
                 {"tessera",
                  {{"device", device},
                   {"submits", report.submits},
                   {"tokens", report.tokens},
                   {"seconds", report.seconds},
                   {"tokens_per_second", static_cast<double>(report.tokens) / report.seconds}}},
                 {"speech", speech},
                 {"files", report.files}};
  std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void print_row(const char* name, const std::vector<double>& times) {
  const demo::Summary s = demo::summarize(times);
  std::printf("%-28s %8.2f %8.2f %8.2f %8.2f\n", name, s.p50, s.p95, s.p99, s.most);
}

void print_table(const demo::Options& options, const demo::Report& report) {
  std::printf("%s, %u x %u, %zu frames each at %g a second\n\n", report.device.c_str(), options.width,
              options.height, options.frames, options.fps);
  std::printf("%-28s %8s %8s %8s %8s\n", "milliseconds", "p50", "p95", "p99", "max");
  print_row("frame without Tessera", report.without);
  print_row("frame with Tessera", report.with);
  if (report.tessera.empty())
    std::puts("(this queue has no timestamps: Tessera's part is not known)");
  else
    print_row("of it, Tessera on the device", report.tessera);
  std::printf("\n%zu tokens, %.1f a second, within a budget of %g us a frame\n", report.tokens,
              static_cast<double>(report.tokens) / report.seconds, options.budget_us);
  for (const std::string& file : report.files) std::printf("%s\n", file.c_str());
}

// "640x360"
void parse_size(const std::string& text, demo::Options& options) {
  int end = 0;
  if (std::sscanf(text.c_str(), "%5ux%5u%n", &options.width, &options.height, &end) != 2 ||
      end != static_cast<int>(text.size()))
    throw CLI::ValidationError("--size", "'" + text + "' is no size: WIDTHxHEIGHT, for example 1280x720");
  if (options.height < 180 || options.width > 4096 || options.width * 9 < options.height * 15)
    throw CLI::ValidationError("--size",
                               text +
                                   " is no size for this scene: 180 pixels high or more, 4096 wide or "
                                   "less, and as wide as 5:3 or wider");
}

void add_options(CLI::App& app, demo::Options& options, bool& json) {
  tool::add_model_option(app, options.model);
  app.add_option("--frames", options.frames, "Frames of each phase (300)")->check(CLI::Range(2, 100000));
  app.add_option("--fps", options.fps, "Frames a second (30)")->check(CLI::Range(1.0, 1000.0));
  app.add_option_function<std::string>(
         "--size", [&options](const std::string& text) { parse_size(text, options); },
         "Pixels of a frame (640x360)")
      ->type_name("WxH");
  app.add_option("--budget", options.budget_us, "Microseconds of the device for Tessera in a frame (2000)")
      ->check(CLI::Range(1.0, 1e6))
      ->type_name("US");
  app.add_option("--seed", options.seed, "Same seed, device and build: same words (1)");
  app.add_option("--pictures", options.pictures, "How many frames become PNG files (4)")
      ->check(CLI::Range(0, 10000));
  app.add_option("-o,--out", options.out,
                 "Folder of the pictures and the plot; made when it is not there (frame_demo)")
      ->type_name("FOLDER");
  app.add_option("--font", options.font, "TrueType or OpenType font (" TESSERA_FONT ")")->type_name("FILE");
  app.add_option("--device", options.device, "An index or part of a name of a Vulkan device; else the best")
      ->type_name("D");
  app.add_option("--cap", options.caps,
                 "Lower a limit or switch a capability off for Tessera; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--json", json, "One JSON object instead of the table");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Three characters tell stories at a fire, in a renderer with its own Vulkan device that Tessera "
      "adopts:\n"
      "each frame gives it a budget of device time, and the words come when they come.\n\n"
      "The same frames are drawn twice at a fixed rate, with the model at work and without it, two in "
      "flight.\n"
      "A frame's time is the host's, from its first call (Tessera's step) until its fence is signalled.\n"
      "Pictures are drawn after that, and the plot of both phases."};
  app.name("frame_demo");
  app.formatter(std::make_shared<tool::HelpFormatter>());
  app.set_help_flag("-h,--help", "Print this help");
  app.footer(
      "Examples:\n"
      "  frame_demo                                    ten seconds with the bundled model\n"
      "  frame_demo --fps 60 --budget 1000             half the frame, half the budget\n"
      "  frame_demo --size 1280x720 --frames 900 --pictures 9 -o night\n"
      "  frame_demo --json | jq '.with.p99_ms - .without.p99_ms'");
  demo::Options options;
  options.font = TESSERA_FONT;
  bool json = false;
  add_options(app, options, json);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::fprintf(stderr, "frame_demo: %s (see --help)\n", e.what());
    return tool::kUsage;
  }
  tool::catch_interrupts();
  auto report = demo::run(options);
  if (!report) {
    const bool stopped = report.failure().status == TESSERA_CANCELLED && tool::interrupted();
    return stopped ? tool::kInterrupted : fail(report.failure().message);
  }
  if (json)
    print_json(options, *report);
  else
    print_table(options, *report);
  if (std::fflush(stdout) != 0) return fail("standard output cannot be written");
  return 0;
}
