#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct ShadersOptions {
  DeviceOptions device;
  std::string filter;
  bool json = false, disassembly = false;
};

Json figure(double value) {
  if (value < 0) return {};
  if (value == static_cast<double>(static_cast<std::uint64_t>(value)))
    return static_cast<std::uint64_t>(value);
  return value;
}

struct Collected {
  Json device, driver, pipelines = Json::array();
  bool available = false;
  ProgressBar bar;
};

// With more than one executable, names carry its number.
std::string numbered(std::uint32_t executable, const char* name) {
  return executable == 0 ? name : std::string(name) + " #" + std::to_string(executable + 1);
}

void collect_pipeline(void* user, const tessera_shader_info* info) {
  auto& out = *static_cast<Collected*>(user);
  out.pipelines.push_back({{"kernel", info->kernel},
                           {"variant", info->variant},
                           {"failed", info->failed[0] == '\0' ? Json() : Json(info->failed)},
                           {"subgroup_size", info->subgroup_size == 0 ? Json() : Json(info->subgroup_size)},
                           {"registers", figure(info->registers)},
                           {"spills", figure(info->spills)},
                           {"scratch_bytes", figure(info->scratch_bytes)},
                           {"shared_bytes", figure(info->shared_bytes)},
                           {"instructions", figure(info->instructions)},
                           {"cycles", figure(info->cycles)},
                           {"driver", Json::object()}});
  out.bar.show("pipelines", out.pipelines.size() % 100, 100);  // how many there are is not known
}

tessera_status collect(const ShadersOptions& options, Collected& out, tessera_error& error) {
  std::vector<const char*> caps;
  const tessera_context_desc desc = context_desc(options.device, caps);
  auto sink = tessera::init<tessera_shader_sink>();
  sink.user = &out;
  sink.filter = options.filter.c_str();
  sink.texts = options.disassembly;
  sink.device = [](void* user, const char* name, const char* driver, int available) {
    auto& to = *static_cast<Collected*>(user);
    to.device = name;
    to.driver = driver;
    to.available = available != 0;
  };
  sink.pipeline = collect_pipeline;
  sink.statistic = [](void* user, uint32_t executable, const char* name, const char* json) {
    static_cast<Collected*>(user)->pipelines.back()["driver"][numbered(executable, name)] =
        Json::parse(json, nullptr, false);
  };
  sink.text = [](void* user, uint32_t executable, const char* name, const char* text) {
    static_cast<Collected*>(user)->pipelines.back()["texts"].push_back(
        {{"name", numbered(executable, name)}, {"text", text}});
  };
  const tessera_status status = tessera_shaders(&desc, &sink, &error);
  out.bar.clear();
  return status;
}

std::string cell(const Json& value) {
  if (value.is_null()) return "-";
  if (!value.is_number_float()) return value.dump();
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", value.get<double>());
  return text;
}

bool spills(const Json& p) {
  const auto some = [](const Json& v) { return v.is_number() && v.get<double>() > 0; };
  return some(p["spills"]) || some(p["scratch_bytes"]);
}

void print_texts(const Json& p) {
  if (!p.contains("texts")) return;
  for (const Json& t : p["texts"])
    std::printf("---- %s, %s: %s\n%s\n", p["kernel"].get<std::string>().c_str(),
                p["variant"].get<std::string>().c_str(), t["name"].get<std::string>().c_str(),
                t["text"].get<std::string>().c_str());
}

void print_table(const Json& pipelines) {
  std::size_t kernel = 6, variant = 7, spilling = 0;
  for (const Json& p : pipelines) {
    kernel = std::max(kernel, p["kernel"].get_ref<const std::string&>().size());
    variant = std::max(variant, p["variant"].get_ref<const std::string&>().size());
  }
  const bool color = is_terminal(STDOUT_FILENO);
  std::printf("%-*s  %-*s %6s %6s %6s %7s %7s %7s %9s\n", static_cast<int>(kernel), "kernel",
              static_cast<int>(variant), "variant", "lanes", "regs", "spills", "scratch", "shared", "instr",
              "cycles");
  for (const Json& p : pipelines) {
    const bool bad = spills(p);
    spilling += bad;
    std::printf("%s%-*s  %-*s", bad && color ? "\033[1;31m" : "", static_cast<int>(kernel),
                p["kernel"].get<std::string>().c_str(), static_cast<int>(variant),
                p["variant"].get<std::string>().c_str());
    if (p["failed"].is_null())
      std::printf(" %6s %6s %6s %7s %7s %7s %9s%s", cell(p["subgroup_size"]).c_str(),
                  cell(p["registers"]).c_str(), cell(p["spills"]).c_str(), cell(p["scratch_bytes"]).c_str(),
                  cell(p["shared_bytes"]).c_str(), cell(p["instructions"]).c_str(), cell(p["cycles"]).c_str(),
                  bad ? "  SPILLS" : "");
    else
      std::printf("  no pipeline: %s", p["failed"].get<std::string>().c_str());
    std::printf("%s\n", bad && color ? "\033[0m" : "");
  }
  std::printf("%zu pipelines, %zu with spills or scratch memory\n", pipelines.size(), spilling);
}

int run(const ShadersOptions& options) {
  Collected found;
  tessera_error error;
  if (collect(options, found, error) != TESSERA_OK) return fail({error.status, error.message});
  if (options.json) {
    Json out{{"version", TESSERA_VERSION},
             {"device", found.device},
             {"driver", found.driver},
             {"available", found.available},
             {"pipelines", found.pipelines}};
    print_json(out);
    return 0;
  }
  std::printf("%s\n%s\n", found.device.get<std::string>().c_str(), found.driver.get<std::string>().c_str());
  if (!found.available) {
    std::puts("not available: the device lacks VK_KHR_pipeline_executable_properties");
    return 0;
  }
  print_table(found.pipelines);
  for (const Json& p : found.pipelines) print_texts(p);
  return 0;
}

}  // namespace

void add_shaders(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("shaders", "What the driver made of every kernel: registers, spills, code");
  auto options = std::make_shared<ShadersOptions>();
  add_device_options(*sub, options->device);
  sub->add_option("--filter", options->filter, "Only pipelines with this in kernel or variant (any case)")
      ->type_name("TEXT");
  sub->add_flag("--disassembly", options->disassembly, "Also the driver's own text of each pipeline");
  sub->add_flag("--json", options->json, "One JSON object");
  sub->footer(
      "The figures are the driver's, through VK_KHR_pipeline_executable_properties; '-' is not\n"
      "reported. It only compiles: no memory, no queue, so a driver without its GPU will do:\n"
      "  RADV_FORCE_FAMILY=navi21 tessera shaders --device radv\n"
      "Examples:\n"
      "  tessera shaders --filter attention\n"
      "  tessera shaders --json --device 1\n"
      "  tessera shaders --filter \"matvec q8_0\" --disassembly");
  sub->callback([=, &status] { status = run(*options); });
}

}  // namespace tool
