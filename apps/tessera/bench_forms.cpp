#include <algorithm>
#include <cstdio>

#include "bench.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kNoise = 1.05;  // of the least times: nearer ones are called equal

struct Run {
  const OpsOptions& options;
  Regex filter = {};
  BenchedDevice device = {};
  Json ops = Json::array();
};

Json form_json(const tessera_bench_form& form) {
  Json out{{"form", form.form},
           {"chosen", form.chosen != 0},
           {"bytes_per_row", form.time->failed[0] == '\0' ? Json(form.moved / form.rows) : Json()}};
  out.update(time_json(*form.time));
  out["checked"] = form.time->checked;
  out["error_of_bound"] = form.time->worst_ratio;
  return out;
}

// The least time of the chosen form over that of the fastest; null where one is missing.
Json chosen_over_best(const Json& forms) {
  Json chosen, best;
  for (const Json& form : forms) {
    const Json& time = form["min_s"];
    if (form["chosen"].get<bool>()) chosen = time;
    if (!time.is_null() && (best.is_null() || time < best)) best = time;
  }
  return chosen.is_null() || best.get<double>() <= 0 ? Json()
                                                     : Json(chosen.get<double>() / best.get<double>());
}

void print_form(const std::string& op, const Json& form) {
  std::printf("%-38s %-22s %-6s ", op.c_str(), form["form"].get<std::string>().c_str(),
              form["chosen"].get<bool>() ? "chosen" : "");
  if (!form["failed"].is_null()) {
    std::printf("%s\n", form["failed"].get<std::string>().c_str());
    return;
  }
  const auto ms = [&](const char* name) { return number(form[name], "%.4f", 1e3); };
  std::printf("%10s %10s %10s %9s %12s\n", ms("median_s").c_str(), ms("min_s").c_str(), ms("max_s").c_str(),
              number(form["gflop_per_s"], "%.2f").c_str(),
              number(form["bytes_per_row"], "%.3f", 1.0 / 1024).c_str());
  std::fflush(stdout);
}

void take(Run& run, const tessera_bench_form& form) {
  if (run.ops.empty() || run.ops.back()["name"].get<std::string>() != form.time->name)
    run.ops.push_back({{"name", form.time->name}, {"forms", Json::array()}, {"chosen_over_best", Json()}});
  Json& op = run.ops.back();
  op["forms"].push_back(form_json(form));
  op["chosen_over_best"] = chosen_over_best(op["forms"]);
  if (run.options.json) return;
  run.device.bar.clear();
  print_form(op["name"].get<std::string>(), op["forms"].back());
}

tessera_forms_desc make_desc(Run& run) {
  auto desc = tessera::init<tessera_forms_desc>();
  desc.samples = run.options.samples;
  desc.precision = run.options.precision;
  desc.user = &run;
  desc.wanted = [](void* user, const char* name) -> int {
    return static_cast<Run*>(user)->filter.matches(name);
  };
  desc.device = [](void* user, const char* driver, int gpu_clock) {
    auto& to = *static_cast<Run*>(user);
    to.device.begin(driver, gpu_clock, "");
    if (to.options.json) return;
    std::printf("%-38s %-22s %-6s %10s %10s %10s %9s %12s\n", "op", "form", "", "median ms", "min", "max",
                "GFLOP/s", "KiB a token");
  };
  desc.form = [](void* user, const tessera_bench_form* form) { take(*static_cast<Run*>(user), *form); };
  return desc;
}

void print_summary(const Json& ops) {
  std::size_t timed = 0, best = 0;
  double worst = 1;
  for (const Json& op : ops) {
    const Json& ratio = op["chosen_over_best"];
    const auto failed = [](const Json& form) { return !form["failed"].is_null(); };
    if (ratio.is_null() || std::ranges::any_of(op["forms"], failed)) continue;
    ++timed;
    best += ratio.get<double>() <= kNoise;
    worst = std::max(worst, ratio.get<double>());
  }
  std::printf(
      "the chosen form is the fastest, or within %.0f %% of it, for %zu of %zu ops (by the least times; "
      "at worst %.2f times as long)\n",
      (kNoise - 1) * 100, best, timed, worst);
  if (timed != ops.size())
    std::printf("not counted: %zu ops of which not every form was timed\n", ops.size() - timed);
}

int run_forms(const OpsOptions& options) {
  Run run{.options = options, .device = {.quiet = options.json}};
  if (const std::string why = run.filter.compile(options.filter); !why.empty()) {
    fail("--filter '" + options.filter + "': " + why);
    return kUsage;
  }
  auto context = CachedContext::create(options.device);
  if (!context) return fail(context.failure());
  run.device.name = (*context)->device_name();
  tessera_error error;
  const tessera_status status = measure(*context, run.device, make_desc(run), &tessera_bench_forms, error);
  if (status != TESSERA_OK && status != TESSERA_MISMATCH) return fail({error.status, error.message});
  if (options.json) {
    Json out = run.device.head();
    out["precision"] = name_of(options.precision);
    out["ops"] = std::move(run.ops);
    print_json(out);
  } else {
    print_summary(run.ops);
  }
  return status == TESSERA_OK ? 0 : fail({error.status, error.message});
}

}  // namespace

void add_bench_forms(CLI::App& bench, int& status) {
  auto* sub = bench.add_subcommand("forms", "Ops that can be one kernel or several, in every form in turn");
  auto options = std::make_shared<OpsOptions>();
  add_device_options(*sub, options->device);
  add_filter_options(*sub, *options);
  sub->footer(
      "Feed-forward blocks and small networks, fused and as products: each form checked against the\n"
      "reference, then timed, one run of each a round. 'chosen' is what the device gets by itself. 'KiB a\n"
      "token' is what the kernels read and write for a row: operands once, and what lies between kernels.\n"
      "Status 0: every form that there is here is right. Status 1: one was wrong, the first one is named on\n"
      "standard error; or the device was lost.\n"
      "Example:\n"
      "  tessera bench forms --filter '^feed_forward/plain/q4_0'");
  sub->callback([=, &status] { status = run_forms(*options); });
}

}  // namespace tool
