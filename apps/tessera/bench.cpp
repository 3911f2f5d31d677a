#include "bench.h"

#include <cstdio>
#include <ctime>

namespace tool {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

using Json = nlohmann::ordered_json;

void BenchedDevice::begin(const char* driver_name, int gpu_clock, const std::string& peaks) {
  driver = driver_name;
  clock = gpu_clock != 0 ? "gpu" : "host";
  if (quiet) return;
  bar.clear();
  std::printf("%s\n%s\n%s", name.c_str(), driver_name, peaks.c_str());
  if (gpu_clock == 0)
    std::puts("No GPU timestamps here: times are the host's, from submission to completion.");
}

Json BenchedDevice::head() const {
  return {{"version", TESSERA_VERSION},
          {"date", utc_now()},
          {"device", name},
          {"driver", driver},
          {"clock", clock}};
}

Regex::~Regex() {
  if (compiled_) regfree(&regex_);
}

std::string Regex::compile(const std::string& text) {
  const int failed = regcomp(&regex_, text.c_str(), REG_EXTENDED | REG_NOSUB);
  if (failed == 0) {
    compiled_ = true;
    return {};
  }
  char why[128];
  regerror(failed, &regex_, why, sizeof(why));
  return why;
}

bool Regex::matches(const char* text) const { return regexec(&regex_, text, 0, nullptr, 0) == 0; }

void add_filter_options(CLI::App& sub, OpsOptions& options) {
  sub.add_option("--filter", options.filter, "Only ops whose name matches (POSIX extended)")
      ->type_name("REGEX");
  sub.add_option("--samples", options.samples, "Runs that are timed (10)")
      ->check(CLI::Range(1u, 100000u))
      ->type_name("N");
  add_precision_option(sub, options.precision);
  sub.add_flag("--json", options.json, "One JSON object");
}

namespace {

Json rate(double amount, double seconds) {
  return amount > 0 && seconds > 0 ? Json(amount / seconds * 1e-9) : Json();
}

}  // namespace

Json time_json(const tessera_bench_op& op) {
  const bool failed = op.failed[0] != '\0';
  const auto unless_failed = [&](const Json& value) { return failed ? Json() : value; };
  return {{"failed", failed ? Json(op.failed) : Json()},
          {"samples", op.samples},
          {"median_s", unless_failed(op.median_s)},
          {"min_s", unless_failed(op.min_s)},
          {"max_s", unless_failed(op.max_s)},
          {"gflop_per_s", unless_failed(rate(op.flops, op.median_s))}};
}

std::string number(const Json& value, const char* format, double factor) {
  if (value.is_null()) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), format, value.get<double>() * factor);
  return text;
}

namespace {

struct Run {
  const OpsOptions& options;
  Regex filter;
  BenchedDevice device;
  Json ops = Json::array();
  double copy = 0, flops = 0;
};

Json part(const Json& value, double of) {
  return value.is_null() || of <= 0 ? Json() : Json(value.get<double>() / of);
}

Json op_json(const Run& run, const tessera_bench_op& op) {
  Json out{{"name", op.name}};
  out.update(time_json(op));
  const Json gbytes = rate(op.failed[0] != '\0' ? 0 : op.bytes, op.median_s);
  out["gbyte_per_s"] = gbytes;
  out["of_flop_peak"] = part(out["gflop_per_s"], run.flops * 1e-9);
  out["of_copy"] = part(gbytes, run.copy * 1e-9);
  out["checked"] = op.checked;
  out["error_of_bound"] = op.worst_ratio;
  const bool timed = op.failed[0] == '\0' && op.tiles > 0;
  out["tiles"] = op.all_tiles > 0 ? Json(op.tiles) : Json();
  out["all_tiles"] = op.all_tiles > 0 ? Json(op.all_tiles) : Json();
  out["s_per_tile"] = timed ? Json(op.median_s / op.tiles) : Json();
  return out;
}

void print_op(const Json& op) {
  std::printf("%-47s ", op["name"].get<std::string>().c_str());
  if (!op["failed"].is_null()) {
    std::printf("  %s\n", op["failed"].get<std::string>().c_str());
    return;
  }
  std::printf("%10s %10s %10s %9s %6s %8s %6s %10s %8s\n", number(op["median_s"], "%.4f", 1e3).c_str(),
              number(op["min_s"], "%.4f", 1e3).c_str(), number(op["max_s"], "%.4f", 1e3).c_str(),
              number(op["gflop_per_s"], "%.2f").c_str(), number(op["of_flop_peak"], "%.0f%%", 100).c_str(),
              number(op["gbyte_per_s"], "%.2f").c_str(), number(op["of_copy"], "%.0f%%", 100).c_str(),
              number(op["tiles"], "%.0f").c_str(), number(op["s_per_tile"], "%.1f", 1e9).c_str());
  std::fflush(stdout);
}

tessera_bench_desc make_desc(Run& run) {
  auto desc = tessera::init<tessera_bench_desc>();
  desc.samples = run.options.samples;
  desc.form = run.options.form.c_str();
  desc.precision = run.options.precision;
  desc.user = &run;
  desc.wanted = [](void* user, const char* name) -> int {
    return static_cast<Run*>(user)->filter.matches(name);
  };
  desc.device = [](void* user, const char* driver, int gpu_clock, double copy, double flops) {
    auto& to = *static_cast<Run*>(user);
    to.copy = copy;
    to.flops = flops;
    char peaks[128];
    std::snprintf(peaks, sizeof(peaks),
                  "copies %.1f GB/s, multiplies and adds %.0f GFLOP/s (f32, from registers)\n", copy * 1e-9,
                  flops * 1e-9);
    to.device.begin(driver, gpu_clock, peaks);
    if (to.options.json) return;
    std::printf("%-47s %10s %10s %10s %9s %6s %8s %6s %10s %8s\n", "op", "median ms", "min", "max", "GFLOP/s",
                "peak", "GB/s", "copy", "tiles", "ns/tile");
  };
  desc.op = [](void* user, const tessera_bench_op* op) {
    auto& to = *static_cast<Run*>(user);
    to.ops.push_back(op_json(to, *op));
    if (to.options.json) return;
    to.device.bar.clear();
    print_op(to.ops.back());
  };
  return desc;
}

int run_ops(const OpsOptions& options) {
  Run run{.options = options, .filter = {}, .device = {.quiet = options.json}};
  if (const std::string why = run.filter.compile(options.filter); !why.empty()) {
    fail("--filter '" + options.filter + "': " + why);
    return kUsage;
  }
  auto context = CachedContext::create(options.device);
  if (!context) return fail(context.failure());
  run.device.name = (*context)->device_name();
  tessera_error error;
  const tessera_status status = measure(*context, run.device, make_desc(run), &tessera_bench_ops, error);
  if (status != TESSERA_OK && status != TESSERA_MISMATCH) return fail({error.status, error.message});
  if (options.json) {
    Json out = run.device.head();
    out["precision"] = name_of(options.precision);
    out["form"] = options.form.empty() ? Json() : Json(options.form);
    out["copy_gbyte_per_s"] = run.copy * 1e-9;
    out["peak_gflop_per_s"] = run.flops * 1e-9;
    out["ops"] = std::move(run.ops);
    print_json(out);
  }
  return status == TESSERA_OK ? 0 : fail({error.status, error.message});
}

void add_bench_ops(CLI::App& bench, int& status) {
  auto* sub =
      bench.add_subcommand("ops", "Single ops by GPU timestamps, each checked against the reference first");
  auto options = std::make_shared<OpsOptions>();
  add_device_options(*sub, options->device);
  add_filter_options(*sub, *options);
  sub->add_option("--form", options->form, "Ops that have this form take it, whatever is faster")
      ->type_name("NAME");
  sub->footer(
      "Median, least and most GPU time (the host's where the device has no timestamps). 'peak' and\n"
      "'copy' hold GFLOP/s and GB/s against what the device reaches in multiply-adds and in copying.\n"
      "docs/benchmarks.md explains and lists the shapes. Names are like these:\n"
      "  matmul/q8_0/4096x4096/n1              4096 x 4096 weight, one row of activations\n"
      "  attention/d64/h32kv8/512x512/causal   head_dim 64, 32 heads on 8, 512 queries, 512 keys\n"
      "  feed_forward/gated/f32/256x1024/n64   256 columns, 1024 hidden units, 64 rows (forms:\n"
      "                                        feed_forward_fused, feed_forward_products)\n"
      "  norm/rms_residual/512x4096  rope/d128/h32/1x4096  glu/silu/1x11008  sample/greedy/32000\n"
      "Examples:\n"
      "  tessera bench ops --filter '^matmul/q.*n1$'\n"
      "  tessera bench ops --filter 'attention.*causal' --samples 30 --json");
  sub->callback([=, &status] { status = run_ops(*options); });
}

}  // namespace

void add_bench(CLI::App& app, int& status) {
  auto* bench =
      app.add_subcommand("bench", "How fast: single ops, a model end to end, or the forms of kernels");
  bench->require_subcommand(1);
  add_bench_ops(*bench, status);
  add_bench_forms(*bench, status);
  add_bench_model(*bench, status);
  add_bench_rates(*bench, status);
}

}  // namespace tool
