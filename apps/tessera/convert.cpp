#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct ConvertCommand {
  std::string in, out, type;
  bool json = false;
};

struct Conversion {
  ProgressBar bar;
  Json tensors = Json::array();
};

void print(const ConvertCommand& command, const Json& tensors) {
  struct Sum {
    uint64_t count = 0, bytes = 0;
  };
  std::map<std::string, Sum> types;
  Sum in, out;
  for (const Json& t : tensors) {
    const auto bytes = t["bytes_out"].get<uint64_t>();
    Sum& sum = types[t["to"].get<std::string>()];
    ++sum.count;
    sum.bytes += bytes;
    in.bytes += t["bytes_in"].get<uint64_t>();
    out.bytes += bytes;
  }
  std::printf("%s: weights of %s, were %s\n", command.out.c_str(),
              human_bytes(static_cast<double>(out.bytes)).c_str(),
              human_bytes(static_cast<double>(in.bytes)).c_str());
  for (const auto& [type, sum] : types)
    std::printf("%-6s %llu tensors, %s\n", type.c_str(), static_cast<unsigned long long>(sum.count),
                human_bytes(static_cast<double>(sum.bytes)).c_str());
}

int run(const ConvertCommand& command) {
  Conversion conversion;
  auto sink = tessera::init<tessera_convert_sink>();
  sink.user = &conversion;
  sink.progress = [](void* user, const char* stage, uint64_t at, uint64_t total) {
    static_cast<Conversion*>(user)->bar.show(stage, at, total);
    return interrupted() ? 1 : 0;
  };
  sink.tensor = [](void* user, const char* name, const char* from, const char* to, uint64_t bytes_in,
                   uint64_t bytes_out) {
    static_cast<Conversion*>(user)->tensors.push_back(
        {{"name", name}, {"from", from}, {"to", to}, {"bytes_in", bytes_in}, {"bytes_out", bytes_out}});
  };
  tessera_error error;
  const tessera_status done =
      tessera_convert(command.in.c_str(), command.out.c_str(), command.type.c_str(), &sink, &error);
  conversion.bar.clear();
  if (done != TESSERA_OK) return fail({error.status, error.message});
  if (command.json) {
    const Json report{{"in", command.in}, {"out", command.out}, {"tensors", conversion.tensors}};
    std::printf("%s\n", report.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    print(command, conversion.tensors);
  }
  return 0;
}

}  // namespace

void add_convert(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("convert", "Write a GGUF file with its weights in another type");
  auto command = std::make_shared<ConvertCommand>();
  sub->add_option("in", command->in, "A GGUF file")->required()->type_name("IN");
  sub->add_option("out", command->out, "The file to write; replaced when it exists, and only by a whole one")
      ->required()
      ->type_name("OUT");
  sub->add_option("--type", command->type, "The type of the matrices, see below")->required()->type_name("T");
  sub->add_flag("--json", command->json,
                "One JSON object: every tensor with its types and bytes before and after");
  sub->footer(
      "Types, in bits a weight:\n"
      "  F32   32    as it is\n"
      "  BF16  16    8 bits of precision, up to 3.4e38\n"
      "  F16   16    11 bits of precision, up to 65504\n"
      "  Q8_0   8.5  256 steps; as all below, for 32 weights at a time\n"
      "  Q5_1   6    32 steps from a minimum up\n"
      "  Q5_0   5.5  32 steps around 0\n"
      "  Q4_1   5    16 steps from a minimum up\n"
      "  Q4_0   4.5  16 steps around 0\n"
      "\n"
      "Quantisation is bit-equal to that of the `gguf` Python package. Any of these can be the input's type, "
      "Q4_K,\n"
      "Q5_K and Q6_K too; they are not written. Quantise from F32 or F16: what one type has rounded off, a "
      "second\n"
      "cannot bring back.\n"
      "Norms, biases and other vectors become F32. Matrices whose rows are no multiple of 32 become F16 "
      "instead\n"
      "of a type of blocks. Weights that are not finite, or too large for the type, are refused by name.\n"
      "\n"
      "Examples:\n"
      "  tessera convert model.gguf model-q8_0.gguf --type Q8_0\n"
      "  tessera convert model.gguf model-q4_0.gguf --type Q4_0 --json | jq '.tensors[] | select(.to == "
      "\"F16\").name'\n"
      "  tessera verify -m model-q8_0.gguf");
  sub->callback([=, &status] { status = run(*command); });
}

}  // namespace tool
