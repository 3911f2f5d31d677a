#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

Json collect(const std::string& path, uint32_t array_limit, tessera::Failure& failure) {
  Json file{{"metadata", Json::object()}, {"tensors", Json::array()}};
  auto sink = tessera::init<tessera_inspect_sink>();
  sink.user = &file;
  sink.array_limit = array_limit;
  sink.file = [](void* user, const char* kind, uint32_t version, uint64_t bytes) {
    auto& out = *static_cast<Json*>(user);
    out["kind"] = kind;
    out["version"] = version;
    out["bytes"] = bytes;
  };
  sink.metadata = [](void* user, const char* key, const char* json) {
    (*static_cast<Json*>(user))["metadata"][key] = Json::parse(json, nullptr, false);
  };
  sink.tensor = [](void* user, const char* name, const char* type, const uint64_t* shape, uint32_t dims,
                   uint64_t offset, uint64_t bytes) {
    (*static_cast<Json*>(user))["tensors"].push_back({{"name", name},
                                                      {"type", type},
                                                      {"shape", std::vector<uint64_t>(shape, shape + dims)},
                                                      {"offset", offset},
                                                      {"bytes", bytes}});
  };
  tessera_error error;
  if (tessera_inspect(path.c_str(), &sink, &error) != TESSERA_OK) failure = {error.status, error.message};
  return file;
}

std::string dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// Names come from the file: nothing in them may reach the terminal as a control sequence.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    char escaped[8];
    std::snprintf(escaped, sizeof(escaped), "\\x%02X", byte);
    out += byte < 0x20 || byte == 0x7f ? std::string(escaped) : std::string(1, c);
  }
  return out;
}

void print_file(const Json& file) {
  std::printf("%s", file["kind"].get<std::string>().c_str());
  if (file["version"] != 0) std::printf(" version %s", file["version"].dump().c_str());
  std::printf(", %s\n\n", human_bytes(file["bytes"].get<double>()).c_str());
  for (const auto& [key, value] : file["metadata"].items()) {
    std::string text = dump(value);
    if (text.size() > 100) {
      std::size_t cut = 97;
      while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;  // whole characters
      text = text.substr(0, cut) + "...";
    }
    std::printf("%-42s %s\n", printable(key).c_str(), printable(text).c_str());
  }
  struct Sum {
    uint64_t count = 0, elems = 0, bytes = 0;
  };
  std::map<std::string, Sum> types;
  std::puts("");
  for (const Json& t : file["tensors"]) {
    std::string shape;
    uint64_t elems = 1;
    for (const Json& d : t["shape"]) {
      shape += (shape.empty() ? "" : " x ") + d.dump();
      elems *= d.get<uint64_t>();
    }
    Sum& sum = types[t["type"].get<std::string>()];
    ++sum.count;
    sum.elems += elems;
    sum.bytes += t["bytes"].get<uint64_t>();
    std::printf("%-42s %-6s %-16s %s\n", printable(t["name"].get<std::string>()).c_str(),
                t["type"].get<std::string>().c_str(), shape.c_str(),
                human_bytes(t["bytes"].get<double>()).c_str());
  }
  std::puts("");
  for (const auto& [type, sum] : types)
    std::printf("%-6s %llu tensors, %.2f M elements, %s\n", type.c_str(),
                static_cast<unsigned long long>(sum.count), static_cast<double>(sum.elems) / 1e6,
                human_bytes(static_cast<double>(sum.bytes)).c_str());
}

// A folder is shown as its one safetensors file, with config.json as metadata.
tessera::Expected<std::string> file_of(const std::string& folder, Json& config) {
  auto text = read_text(folder + "/config.json");
  if (!text) return text.failure();
  config = Json::parse(*text, nullptr, false);
  std::vector<std::string> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator at(folder, failed); !failed && at != end(at); at.increment(failed))
    if (at->path().extension() == ".safetensors") found.push_back(at->path().string());
  if (found.size() == 1) return found[0];
  return tessera::Failure{TESSERA_BAD_MODEL, "'" + folder + "' has " + std::to_string(found.size()) +
                                                 " files *.safetensors, not one"};
}

int run(std::string path, bool json, bool full) {
  tessera::Failure failure{TESSERA_OK, {}};
  Json config;
  if (std::error_code failed; std::filesystem::is_directory(path, failed)) {
    auto file = file_of(path, config);
    if (!file) return fail(file.failure());
    path = *std::move(file);
  }
  Json file = collect(path, full ? 0 : 8, failure);
  if (failure.status != TESSERA_OK) return fail(failure);
  if (config.is_object()) file["metadata"].update(config);
  if (json)
    std::printf("%s\n", dump(file, 2).c_str());
  else
    print_file(file);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, int& status) {
  auto* sub =
      app.add_subcommand("inspect", "Show what a GGUF or safetensors file, or a model's folder, contains");
  auto path = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  auto full = std::make_shared<bool>(false);
  sub->add_option("file", *path, "The file or folder")->required()->type_name("FILE");
  sub->add_flag("--json", *json, "One JSON object");
  sub->add_flag("--full", *full, "Whole arrays, not their first 8 elements");
  sub->footer(
      "Metadata first, then tensors: name, type, shape (outermost dimension first), size. Example:\n"
      "  tessera inspect model.gguf");
  sub->callback([=, &status] { status = run(*path, *json, *full); });
}

}  // namespace tool
