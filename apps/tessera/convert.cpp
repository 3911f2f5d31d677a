#include <cstdio>

#include "common.h"
#include "terminal.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

struct Conversion {
  ProgressBar bar;
  std::vector<std::string> fallback;
};

int run(const std::string& in, const std::string& out, const std::string& type) {
  Conversion conversion;
  tessera_error error;
  const tessera_status done = tessera_convert(
      in.c_str(), out.c_str(), type.c_str(),
      [](void* user, const char* tensor) { static_cast<Conversion*>(user)->fallback.emplace_back(tensor); },
      [](void* user, const char* stage, uint64_t at, uint64_t total) {
        static_cast<Conversion*>(user)->bar.show(stage, at, total);
        return interrupted() ? 1 : 0;
      },
      &conversion, &error);
  conversion.bar.clear();
  if (done != TESSERA_OK) return fail({error.status, error.message});
  for (const std::string& tensor : conversion.fallback)
    std::printf("%s stays F16: its rows are no multiple of the %s block\n", tensor.c_str(), type.c_str());
  return 0;
}

}  // namespace

void add_convert(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("convert", "Write a GGUF file with its weights in another type");
  struct Paths {
    std::string in, out, type;
  };
  auto paths = std::make_shared<Paths>();
  sub->add_option("in", paths->in, "A GGUF file")->required()->type_name("IN");
  sub->add_option("out", paths->out, "The file to write; replaced when it exists")
      ->required()
      ->type_name("OUT");
  sub->add_option("--type", paths->type, "F32, F16, BF16, Q8_0 or Q4_0")->required()->type_name("T");
  sub->footer(
      "Matrices get the type; norms and biases are F32. Tensors whose rows are no multiple of the type's "
      "block\n"
      "are F16 and listed. Example:\n"
      "  tessera convert model.gguf model-q8_0.gguf --type Q8_0");
  sub->callback([=, &status] { status = run(paths->in, paths->out, paths->type); });
}

}  // namespace tool
