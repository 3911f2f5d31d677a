#include <cstdio>

#include "bench.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct RatesOptions {
  DeviceOptions device;
  std::uint32_t samples = 10;
  bool json = false, save = false;
};

struct Run {
  const RatesOptions& options;
  BenchedDevice device = {};
  Json forms = Json::array();
  std::vector<std::string> settings = {};
};

Json form_json(const tessera_form_rate& rate) {
  Json out{{"form", rate.form}, {"shape", rate.time->name}};
  out.update(time_json(*rate.time));
  out["checked"] = rate.time->checked;
  out["error_of_bound"] = rate.time->worst_ratio;
  return out;
}

void print_form(const Json& form) {
  std::printf("%-26s ", form["form"].get<std::string>().c_str());
  if (!form["failed"].is_null()) {
    std::printf("%s\n", form["failed"].get<std::string>().c_str());
    return;
  }
  const auto ms = [&](const char* name) { return form[name].get<double>() * 1e3; };
  std::printf("%-36s %10.4f %10.4f %10.4f %9.2f\n", form["shape"].get<std::string>().c_str(), ms("median_s"),
              ms("min_s"), ms("max_s"), form["gflop_per_s"].get<double>());
  std::fflush(stdout);
}

tessera_rates_desc make_desc(Run& run) {
  auto desc = tessera::init<tessera_rates_desc>();
  desc.samples = run.options.samples;
  desc.user = &run;
  desc.device = [](void* user, const char* driver, int gpu_clock) {
    auto& to = *static_cast<Run*>(user);
    to.device.begin(driver, gpu_clock, "");
    if (to.options.json) return;
    std::printf("%-26s %-36s %10s %10s %10s %9s\n", "form", "shape", "median ms", "min", "max", "GFLOP/s");
  };
  desc.rate = [](void* user, const tessera_form_rate* rate) {
    auto& to = *static_cast<Run*>(user);
    to.forms.push_back(form_json(*rate));
    if (rate->setting[0] != '\0') to.settings.emplace_back(rate->setting);
    if (to.options.json) return;
    to.device.bar.clear();
    print_form(to.forms.back());
  };
  return desc;
}

int run_rates(const RatesOptions& options) {
  Run run{.options = options, .device = {.quiet = options.json}};
  auto context = CachedContext::create(options.device);
  if (!context) return fail(context.failure());
  run.device.name = (*context)->device_name();
  tessera_error error;
  const tessera_status status = measure(*context, run.device, make_desc(run), &tessera_measure_rates, error);
  if (status != TESSERA_OK && status != TESSERA_MISMATCH) return fail({error.status, error.message});
  Json saved;
  int result = status == TESSERA_OK ? 0 : fail({error.status, error.message});
  if (options.save && status == TESSERA_OK) {
    auto file = context->save_rates(run.settings);
    if (file)
      saved = *file;
    else
      result = fail(file.failure());
  }
  if (options.json) {
    Json out = run.device.head();
    out["forms"] = std::move(run.forms);
    out["saved"] = saved;
    print_json(out);
  } else if (!saved.is_null()) {
    std::printf("saved in %s\n", saved.get<std::string>().c_str());
  }
  return result;
}

}  // namespace

void add_bench_rates(CLI::App& bench, int& status) {
  auto* sub = bench.add_subcommand("rates", "The forms of kernels that this device can choose between");
  auto options = std::make_shared<RatesOptions>();
  add_device_options(*sub, options->device);
  sub->add_option("--samples", options->samples, "Runs that are timed (10)")
      ->check(CLI::Range(1u, 100000u))
      ->type_name("N");
  sub->add_flag("--save", options->save, "Keep the rates: from now on they choose the form, on this device");
  sub->add_flag("--json", options->json, "One JSON object");
  sub->footer(
      "Each form of attention that the device can run, checked against the reference and then timed on\n"
      "the same shape. With --save, all commands take the fastest one; `tessera op attention --plan` says\n"
      "which, and what the others reached. The file is in $XDG_CACHE_HOME/tessera (or ~/.cache/tessera),\n"
      "its name made of device, driver, version and --cap; delete it to forget them.\n"
      "docs/benchmarks.md has the shapes.");
  sub->callback([=, &status] { status = run_rates(*options); });
}

}  // namespace tool
