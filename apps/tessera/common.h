// What every subcommand shares: options that choose device and model, errors, the pipeline-cache file.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "../shared/command_line.h"
#include "../shared/terminal.h"
#include "tessera/tessera.hpp"

namespace tool {

struct DeviceOptions {
  std::string device;
  std::vector<std::string> caps;
  bool no_cache = false;
};
// --device, --cap, --no-pipeline-cache.
void add_device_options(CLI::App& app, DeviceOptions& options);
void add_precision_option(CLI::App& app, tessera_precision& precision);
const char* name_of(tessera_precision precision);  // "f32", "mixed"

// One line on standard error; returns the exit status for it.
int fail(const tessera::Failure& failure);
int fail(const std::string& message);

// What --json asks for, on standard output. Text that is not UTF-8 has its faults replaced.
void print_json(const nlohmann::ordered_json& out);

// A context whose pipeline cache is read from and saved to a file under $XDG_CACHE_HOME/tessera (or
// ~/.cache/tessera), named after device, driver and build. Measured rates are read from a file beside it.
class CachedContext {
 public:
  static tessera::Expected<CachedContext> create(const DeviceOptions& options);
  const tessera::Context& operator*() const { return context_; }
  const tessera::Context* operator->() const { return &context_; }
  void save() const;  // when it changed; a file that cannot be written is only a slower next start
  // Where contexts like this one look for rates; the name of the file.
  tessera::Expected<std::string> save_rates(const std::vector<std::string>& settings) const;

 private:
  tessera::Context context_;
  std::string cache_file_;  // empty: no caching
  std::string loaded_;
};

tessera_context_desc context_desc(const DeviceOptions& options, std::vector<const char*>& cap_pointers);

// The whole of a file, or of standard input for "-".
tessera::Expected<std::string> read_text(const std::string& path);

// Each subcommand adds itself; the callback leaves the exit status in `status`.
void add_generate(CLI::App& app, int& status);
void add_attend(CLI::App& app, int& status);
void add_devices(CLI::App& app, int& status);
void add_bench(CLI::App& app, int& status);
void add_shaders(CLI::App& app, int& status);
void add_verify(CLI::App& app, int& status);
void add_inspect(CLI::App& app, int& status);
void add_tokenize(CLI::App& app, int& status);
void add_translate(CLI::App& app, int& status);
void add_convert(CLI::App& app, int& status);
void add_op(CLI::App& app, int& status);

}  // namespace tool
