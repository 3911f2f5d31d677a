// What the benches share.
#pragma once

#include <regex.h>

#include <nlohmann/json.hpp>
#include <string>

#include "../shared/terminal.h"
#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {

std::string utc_now();  // "2026-01-31T12:00:00Z"

// What the benches of single kernels say of the device they run on.
struct BenchedDevice {
  bool quiet = false;  // prints nothing
  ProgressBar bar = {};
  std::string name = {};
  nlohmann::ordered_json driver = {}, clock = {};

  // Before the first time; `peaks` is a line or empty.
  void begin(const char* driver_name, int gpu_clock, const std::string& peaks);
  nlohmann::ordered_json head() const;  // the first members of the JSON
};
// "failed", "samples", times and GFLOP/s: null where it failed or counts no arithmetic.
nlohmann::ordered_json time_json(const tessera_bench_op& op);

// A number of such JSON times `factor`; "-" for null.
std::string number(const nlohmann::ordered_json& value, const char* format, double factor = 1);

// tessera_bench_ops, tessera_bench_forms or tessera_measure_rates with a progress bar.
template <typename Desc>
tessera_status measure(CachedContext& context, BenchedDevice& device, Desc desc,
                       tessera_status (*bench)(tessera_context*, const Desc*, tessera_error*),
                       tessera_error& error) {
  tessera::ProgressFn progress = device.bar.callback();
  desc.progress = tessera::detail::progress;
  desc.progress_user = &progress;
  const tessera_status status = bench(context->get(), &desc, &error);
  device.bar.clear();
  context.save();
  return status;
}

// Of the benches of single ops.
struct OpsOptions {
  DeviceOptions device = {};
  std::string filter = {}, form = {};
  std::uint32_t samples = 10;
  tessera_precision precision = TESSERA_PRECISION_F32;
  bool json = false;
};
void add_filter_options(CLI::App& sub, OpsOptions& options);  // --filter, --samples, --precision, --json

// POSIX extended syntax.
class Regex {
 public:
  Regex() = default;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex();
  std::string compile(const std::string& text);  // what is wrong with it, or nothing
  bool matches(const char* text) const;

 private:
  regex_t regex_{};
  bool compiled_ = false;
};

struct BenchModelOptions {
  DeviceOptions device;
  std::string model;
  std::uint32_t prompt = 512, generate = 64, chunk = 512;
  tessera_precision precision = TESSERA_PRECISION_F32;
  bool json = false;
};
void add_bench_forms(CLI::App& bench, int& status);
void add_bench_model(CLI::App& bench, int& status);
void add_bench_rates(CLI::App& bench, int& status);

}  // namespace tool
