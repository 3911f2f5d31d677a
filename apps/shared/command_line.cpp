#include "command_line.h"

#include <filesystem>

namespace tool {
namespace {

namespace fs = std::filesystem;

// Beside the program: ../share/tessera of an installation, ../models of a build folder in the source tree.
std::string bundled_model() {
  std::error_code ignored;
  const fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const char* folder : {"../share/tessera", "../models"}) {
    const fs::path path = (here / folder / "tessera-tiny.gguf").lexically_normal();
    if (fs::exists(path, ignored)) return path.string();
  }
  return {};
}

}  // namespace

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_type_size() == 0) return {};
  const std::string type = option->get_type_name();
  const std::size_t choices = type.find('{');
  return " " + (choices == std::string::npos ? type.substr(0, type.find(':')) : type.substr(choices));
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string name) const {
  return "\n" + CLI::Formatter::make_usage(app, std::move(name));
}

void add_model_option(CLI::App& app, std::string& path) {
  app.add_option("-m,--model", path, "A GGUF file; the bundled model without it")->type_name("FILE");
}

tessera::Expected<tessera::Model> load_model(const tessera::Context& context, const std::string& path) {
  if (!path.empty()) return context.load(path);
  const std::string bundled = bundled_model();
  if (bundled.empty())
    return tessera::Failure{
        TESSERA_IO, "the bundled model tessera-tiny.gguf is not beside this program: give one with -m"};
  return context.load(bundled);
}

}  // namespace tool
