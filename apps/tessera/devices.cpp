#include <cstdio>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

Json collect(const tessera_context_desc& desc, tessera::Failure& failure) {
  Json devices = Json::array();
  auto sink = tessera::init<tessera_device_sink>();
  sink.user = &devices;
  sink.device = [](void* user, const tessera_device_info* info) {
    char version[32];
    std::snprintf(version, sizeof(version), "%u.%u.%u", info->api_version >> 22 & 0x7f,
                  info->api_version >> 12 & 0x3ff, info->api_version & 0xfff);
    static_cast<Json*>(user)->push_back({{"index", info->index},
                                         {"name", info->name},
                                         {"type", info->type},
                                         {"driver", info->driver},
                                         {"vulkan", version},
                                         {"vendor_id", info->vendor_id},
                                         {"device_id", info->device_id},
                                         {"memory_bytes", info->memory_bytes},
                                         {"chosen", info->chosen != 0},
                                         {"refused", info->refused[0] == '\0' ? Json() : Json(info->refused)},
                                         {"limits", Json::object()},
                                         {"capabilities", Json::object()},
                                         {"kernels", Json::array()},
                                         {"matrices", Json::array()}});
  };
  sink.value = [](void* user, const char* name, double value, int is_capability) {
    Json& device = static_cast<Json*>(user)->back();
    if (is_capability)
      device["capabilities"][name] = value != 0;
    else if (value == static_cast<double>(static_cast<std::uint64_t>(value)))
      device["limits"][name] = static_cast<std::uint64_t>(value);
    else
      device["limits"][name] = value;
  };
  sink.kernel = [](void* user, const char* name, const char* origin, const char* missing) {
    static_cast<Json*>(user)->back()["kernels"].push_back(
        {{"name", name}, {"origin", origin}, {"missing", missing[0] == '\0' ? Json() : Json(missing)}});
  };
  sink.matrix = [](void* user, const tessera_matrix_shape* s) {
    static_cast<Json*>(user)->back()["matrices"].push_back(
        {{"m", s->m},
         {"n", s->n},
         {"k", s->k},
         {"a", s->a},
         {"c", s->c},
         {"flexible", s->flexible != 0},
         {"scope", s->group != 0 ? "workgroup" : "subgroup"},
         {"group", s->group},
         {"emulated", s->emulated[0] == '\0' ? Json() : Json(s->emulated)}});
  };
  tessera_error error;
  if (tessera_devices(&desc, &sink, &error) != TESSERA_OK) failure = {error.status, error.message};
  return devices;
}

// "     label: words", wrapped.
void print_words(const char* label, const std::vector<std::string>& words) {
  constexpr std::size_t kIndent = 13, kWidth = 110;
  std::printf("     %-8s", label);
  std::size_t column = kIndent;
  for (const std::string& word : words) {
    if (column + 1 + word.size() > kWidth) {
      std::printf("\n%*s", static_cast<int>(kIndent), "");
      column = kIndent;
    }
    std::printf(" %s", word.c_str());
    column += 1 + word.size();
  }
  std::printf("\n");
}

void print_matrices(const Json& matrices) {
  if (matrices.empty()) return;
  std::vector<std::string> shapes;
  for (const Json& s : matrices) {
    std::string text = s["m"].dump() + "x" + s["n"].dump() + "x" + s["k"].dump() + " " +
                       s["a"].get<std::string>() + "->" + s["c"].get<std::string>();
    if (s["flexible"].get<bool>()) text += " flexible";
    if (s["group"].get<unsigned>() != 0) text += " workgroup of " + s["group"].dump();
    shapes.push_back(text + (&s == &matrices.back() ? "" : ","));
  }
  print_words("matrix:", shapes);
  if (!matrices[0]["emulated"].is_null())
    std::printf("              not used: %s\n", matrices[0]["emulated"].get<std::string>().c_str());
}

void print_device(const Json& d) {
  std::printf("%c %s  %s\n", d["chosen"].get<bool>() ? '*' : ' ', d["index"].dump().c_str(),
              d["name"].get<std::string>().c_str());
  std::printf("     %s, Vulkan %s, %s, %s\n", d["type"].get<std::string>().c_str(),
              d["vulkan"].get<std::string>().c_str(), d["driver"].get<std::string>().c_str(),
              human_bytes(d["memory_bytes"].get<double>()).c_str());
  if (!d["refused"].is_null()) std::printf("     refused: %s\n", d["refused"].get<std::string>().c_str());
  std::vector<std::string> has, lacks;
  for (const auto& [name, on] : d["capabilities"].items()) (on.get<bool>() ? has : lacks).push_back(name);
  print_words("has:", has.empty() ? std::vector<std::string>{"nothing optional"} : has);
  print_words("lacks:", lacks);
  std::vector<std::string> limits;
  for (const auto& [name, value] : d["limits"].items()) limits.push_back(name + "=" + value.dump());
  print_words("limits:", limits);
  print_matrices(d["matrices"]);
  std::size_t usable = 0, prebuilt = 0;
  std::vector<std::string> missing;
  for (const Json& k : d["kernels"]) {
    usable += k["missing"].is_null();
    prebuilt += k["origin"] == "prebuilt";
    if (!k["missing"].is_null())
      missing.push_back(k["name"].get<std::string>() + " (needs " + k["missing"].get<std::string>() + ")");
  }
  std::printf("     kernels: %zu of %zu usable, %zu built here, %zu prebuilt\n", usable, d["kernels"].size(),
              d["kernels"].size() - prebuilt, prebuilt);
  if (!missing.empty()) print_words("not:", missing);
}

int run(const DeviceOptions& options, bool json) {
  std::vector<const char*> caps;
  tessera::Failure failure{TESSERA_OK, {}};
  const Json devices = collect(context_desc(options, caps), failure);
  if (failure.status != TESSERA_OK) return fail(failure);
  if (json) {
    print_json(Json{{"version", TESSERA_VERSION}, {"devices", devices}});
    return 0;
  }
  for (const Json& device : devices) print_device(device);
  if (devices.empty()) std::puts("the Vulkan loader knows no device; --device reference runs on the CPU");
  return 0;
}

}  // namespace

void add_devices(CLI::App& app, int& status) {
  auto* sub =
      app.add_subcommand("devices", "List the Vulkan devices, what each can do, and why one is refused");
  auto options = std::make_shared<DeviceOptions>();
  auto json = std::make_shared<bool>(false);
  add_device_options(*sub, *options);
  sub->add_flag("--json", *json, "One JSON object");
  sub->footer(
      "The device marked * is taken without --device. Examples:\n"
      "  tessera devices --json\n"
      "  tessera devices --cap max_group_invocations=128 --cap subgroup_arithmetic=0\n"
      "  tessera generate --device llvmpipe \"Once upon a time\"");
  sub->callback([=, &status] { status = run(*options, *json); });
}

}  // namespace tool
