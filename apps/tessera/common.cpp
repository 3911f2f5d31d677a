#include "common.h"

#ifdef TESSERA_GLSL
#include "tessera/tessera_glsl.h"
#endif

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

namespace tool {
namespace {

namespace fs = std::filesystem;

// The library's jobs on as many threads as the machine has.
void run_jobs(void*, uint32_t count, void (*job)(void* arg, uint32_t index), void* arg) {
  std::atomic<uint32_t> next{0};
  const auto work = [&] {
    for (uint32_t i = next++; i < count; i = next++) job(arg, i);
  };
  std::vector<std::thread> threads;
  const unsigned most = std::min(count, std::max(1u, std::thread::hardware_concurrency()));
  for (unsigned t = 1; t < most; ++t) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

void log_to_stderr(void*, tessera_log_level level, const char* text) {
  if (level >= TESSERA_LOG_WARNING) std::fprintf(stderr, "tessera: %s\n", text);
}

fs::path cache_folder() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg == '/')
    return fs::path(xdg) / "tessera";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return fs::path(home) / ".cache/tessera";
  return {};
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

void add_device_options(CLI::App& app, DeviceOptions& options) {
  app.add_option("--device", options.device,
                 "An index or part of a name as `tessera devices` lists them, or 'reference'\n"
                 "(the CPU, no Vulkan); without it the best device found")
      ->check([](const std::string& text) { return text.empty() ? "needs an index or a name" : ""; })
      ->type_name("D");
  app.add_option("--cap", options.caps,
                 "Lower a limit or switch a capability off, to try what a smaller device\n"
                 "does; may be repeated (names: `tessera devices`)")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--no-pipeline-cache", options.no_cache,
               "Neither read nor write the pipeline-cache file, nor read measured rates");
}

const char* name_of(tessera_precision precision) {
  return precision == TESSERA_PRECISION_MIXED ? "mixed" : "f32";
}

void add_precision_option(CLI::App& app, tessera_precision& precision) {
  static const std::map<std::string, tessera_precision> names{{"f32", TESSERA_PRECISION_F32},
                                                              {"mixed", TESSERA_PRECISION_MIXED}};
  app.add_option_function<std::string>(
         "--precision", [&precision](const std::string& name) { precision = names.at(name); },
         "f32, or mixed: operands of products and attention may be rounded to 16 bits, or\n"
         "to blocks of 8-bit integers, where that is faster (f32)")
      ->check(CLI::IsMember({"f32", "mixed"}));
}

int fail(const std::string& message) {
  std::fprintf(stderr, "tessera: %s\n", message.c_str());
  return kFailed;
}

int fail(const tessera::Failure& failure) {
  if (failure.status == TESSERA_CANCELLED && interrupted()) return kInterrupted;
  return fail(std::string(tessera_status_text(failure.status)) + ": " + failure.message);
}

void print_json(const nlohmann::ordered_json& out) {
  std::printf("%s\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

tessera_context_desc context_desc(const DeviceOptions& options, std::vector<const char*>& cap_pointers) {
  for (const std::string& cap : options.caps) cap_pointers.push_back(cap.c_str());
  auto desc = tessera::init<tessera_context_desc>();
  desc.device = options.device.c_str();
  desc.caps = cap_pointers.data();
  desc.cap_count = static_cast<uint32_t>(cap_pointers.size());
  desc.log = log_to_stderr;
  desc.run_jobs = run_jobs;
  desc.debug_messages = 1;  // says nothing unless the user switched validation layers on
  return desc;
}

namespace {

constexpr char kRatesEnd[] = "end";  // the last line of a file of rates

// What the library asks for when it knows the device: the files' names come from that.
struct Files {
  fs::path folder;
  std::string blob;
  std::vector<std::string> rates;
  std::vector<const char*> rate_pointers;

  void load_blob(const char* key, const void** bytes, size_t* count) {
    blob = read_file(folder / (std::string(key) + ".bin"));
    *bytes = blob.data();
    *count = blob.size();
  }
  void load_rates(const char* key, const char* const** texts, uint32_t* count) {
    const fs::path path = folder / (std::string(key) + ".rates");
    std::ifstream in(path);
    if (!in) return;
    bool whole = false;
    for (std::string line; !whole && rates.size() < 100 && std::getline(in, line);) {
      whole = line == kRatesEnd;
      if (!whole) rates.push_back(line);
    }
    if (!whole) {
      std::fprintf(
          stderr,
          "tessera: '%s' is no whole file of rates: ignored (`tessera bench rates --save` writes one)\n",
          path.c_str());
      return;
    }
    for (const std::string& rate : rates) rate_pointers.push_back(rate.c_str());
    *texts = rate_pointers.data();
    *count = static_cast<uint32_t>(rate_pointers.size());
  }
};

// The old file, or the new one, but no part of it.
bool replace_file(const std::string& path, std::string_view content) {
  std::error_code failed;
  fs::create_directories(fs::path(path).parent_path(), failed);
  const std::string temporary = path + "." + std::to_string(getpid());
  {
    std::ofstream out(temporary, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!out.flush()) {
      fs::remove(temporary, failed);
      return false;
    }
  }
  fs::rename(temporary, path, failed);
  if (!failed) return true;
  fs::remove(temporary, failed);
  return false;
}

}  // namespace

tessera::Expected<CachedContext> CachedContext::create(const DeviceOptions& options) {
  std::vector<const char*> caps;
  tessera_context_desc desc = context_desc(options, caps);
  Files files{cache_folder(), {}, {}, {}};
  const bool caching = !options.no_cache && !files.folder.empty();
  if (caching) {
    desc.load_pipeline_cache = [](void* user, const char* key, const void** bytes, size_t* count) {
      static_cast<Files*>(user)->load_blob(key, bytes, count);
    };
    desc.load_rates = [](void* user, const char* key, const char* const** texts, uint32_t* count) {
      static_cast<Files*>(user)->load_rates(key, texts, count);
    };
    desc.load_pipeline_cache_user = desc.load_rates_user = &files;
  }
#ifdef TESSERA_GLSL
  desc.compile_glsl = tessera_glsl_compile;
#endif
  auto context = tessera::Context::create(desc);
  if (!context) return context.failure();
  CachedContext cached;
  cached.context_ = *std::move(context);
  cached.loaded_ = std::move(files.blob);
  const std::string key = cached.context_.cache_key();
  if (caching && !key.empty()) cached.cache_file_ = (files.folder / (key + ".bin")).string();
  return cached;
}

void CachedContext::save() const {
  if (cache_file_.empty()) return;
  auto blob = context_.pipeline_cache();
  if (blob && *blob != loaded_) replace_file(cache_file_, *blob);
}

tessera::Expected<std::string> CachedContext::save_rates(const std::vector<std::string>& settings) const {
  const fs::path folder = cache_folder();
  if (folder.empty())
    return tessera::Failure{TESSERA_IO,
                            "there is no folder for rates: neither XDG_CACHE_HOME nor HOME is a path"};
  const std::string path = (folder / (context_.rates_key() + ".rates")).string();
  std::string text;
  for (const std::string& setting : settings) text += setting + "\n";
  if (!replace_file(path, text + kRatesEnd + "\n"))
    return tessera::Failure{TESSERA_IO, "'" + path + "' cannot be written"};
  return path;
}

tessera::Expected<std::string> read_text(const std::string& path) {
  if (path == "-") {
    std::string text(std::istreambuf_iterator<char>(std::cin), {});
    if (std::ferror(stdin) != 0 && !interrupted())
      return tessera::Failure{TESSERA_IO, "standard input cannot be read (a directory?)"};
    return text;
  }
  std::error_code bad;
  if (fs::is_directory(path, bad)) return tessera::Failure{TESSERA_IO, "'" + path + "' is a directory"};
  std::ifstream in(path, std::ios::binary);
  if (!in) return tessera::Failure{TESSERA_IO, "'" + path + "' cannot be opened"};
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) return tessera::Failure{TESSERA_IO, "'" + path + "' cannot be read"};
  return text;
}

}  // namespace tool
