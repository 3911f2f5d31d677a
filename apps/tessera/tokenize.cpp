#include <cstdio>
#include <nlohmann/json.hpp>

#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct TokenizeOptions {
  std::string model, text, file;
  bool json = false, no_special = false, parse_special = false;
};

std::string dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

int run(const TokenizeOptions& options, bool has_text) {
  std::string text = options.text;
  if (!has_text) {
    auto read = read_text(options.file.empty() ? "-" : options.file);
    if (!read) return fail(read.failure());
    text = *std::move(read);
  }
  // Tokenizing needs no device.
  auto desc = tessera::init<tessera_context_desc>();
  desc.device = "reference";
  auto context = tessera::Context::create(desc);
  if (!context) return fail(context.failure());
  auto model = load_model(*context, options.model);
  if (!model) return fail(model.failure());
  auto ids = model->tokenize(text, !options.no_special, options.parse_special);
  if (!ids) return fail(ids.failure());
  auto back = model->detokenize(*ids);
  if (!back) return fail(back.failure());
  if (options.json) {
    Json pieces = Json::array();
    for (uint32_t id : *ids) {
      std::string piece;
      tessera_token_piece(model->get(), id, tessera::detail::to_string, &piece, nullptr);
      pieces.push_back(piece);
    }
    std::printf("%s\n", dump(Json{{"ids", *ids}, {"pieces", pieces}, {"text", *back}}, 2).c_str());
    return 0;
  }
  for (std::size_t i = 0; i < ids->size(); ++i) std::printf("%s%u", i == 0 ? "" : " ", (*ids)[i]);
  std::printf("\n%s\n", back->c_str());
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("tokenize", "Show the token ids of a text, and the text of those ids");
  auto options = std::make_shared<TokenizeOptions>();
  add_model_option(*sub, options->model);
  auto* text = sub->add_option("text", options->text, "The text; standard input without it");
  sub->add_option("--file", options->file, "Read the text from a file")->excludes(text)->type_name("FILE");
  sub->add_flag("--no-special", options->no_special, "Without BOS and the like");
  sub->add_flag("--parse-special", options->parse_special,
                "Control tokens written in the text become their ids");
  sub->add_flag("--json", options->json, "One JSON object: ids, pieces, text");
  sub->footer(
      "The first line has the ids, the second the text that they give back. Examples:\n"
      "  tessera tokenize \"Once upon a time\"\n"
      "  tessera tokenize -m vocab.gguf --json < book.txt");
  sub->callback([=, &status] { status = run(*options, text->count() > 0); });
}

}  // namespace tool
