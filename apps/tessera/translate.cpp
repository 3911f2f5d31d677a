#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct TranslateCommand {
  DeviceOptions device;
  std::string model, text;
  bool has_text = false, json = false;
  uint32_t beams = 1;
  tessera_precision precision = TESSERA_PRECISION_F32;
  tessera::TranslateOptions options;
};

class Translation {
 public:
  explicit Translation(const TranslateCommand& command) : command_(command) {}

  int run() {
    auto context = CachedContext::create(command_.device);
    if (!context) return fail(context.failure());
    context_ = *std::move(context);
    auto desc = tessera::init<tessera_translator_desc>();
    desc.path = command_.model.c_str();
    desc.beams = command_.beams;
    desc.max_target = command_.options.max_tokens;
    desc.precision = command_.precision;
    auto translator = (*context_)->translator(desc, bar_.callback());
    bar_.clear();
    if (!translator) return fail(translator.failure());
    translator_ = *std::move(translator);
    context_->save();
    return command_.has_text ? translate(command_.text, 2) : lines();
  }

 private:
  int lines() {
    std::string line;
    for (number_ = 1; std::getline(std::cin, line); ++number_) {
      if (line.ends_with('\r')) line.pop_back();
      if (const int status = translate(line, -1); status != 0) return status;
      if (interrupted()) return kInterrupted;
    }
    if (std::cin.bad()) return fail("standard input cannot be read");
    return 0;
  }

  int translate(const std::string& text, int indent) {
    tessera::Translation found;
    const bool blank = text.find_first_not_of(" \t") == std::string::npos;
    if (number_ == 0 || !blank) {  // an empty line stays one
      auto translation = translator_->translate(text, command_.options);
      bar_.clear();
      if (!translation) {
        tessera::Failure failure = translation.failure();
        if (number_ != 0) failure.message = "line " + std::to_string(number_) + ": " + failure.message;
        return fail(failure);
      }
      found = *std::move(translation);
    }
    const std::string out = command_.json
                                ? json(found).dump(indent, ' ', false, Json::error_handler_t::replace)
                            : found.hypotheses.empty() ? ""
                                                       : found.hypotheses[0].text;
    std::printf("%s\n", out.c_str());
    std::fflush(stdout);
    return 0;
  }

  Json json(const tessera::Translation& found) const {
    Json hypotheses = Json::array();
    for (const tessera::Hypothesis& h : found.hypotheses)
      hypotheses.push_back({{"text", h.text}, {"ids", h.ids}, {"score", h.score}, {"finished", h.finished}});
    const tessera::Hypothesis best = found.hypotheses.empty() ? tessera::Hypothesis{} : found.hypotheses[0];
    return {{"device", (*context_)->device_name()},
            {"source_ids", found.source_ids},
            {"ids", best.ids},
            {"text", best.text},
            {"score", best.score},
            {"hypotheses", hypotheses}};
  }

  const TranslateCommand& command_;
  ProgressBar bar_;
  std::optional<CachedContext> context_;  // these two end in the opposite order
  std::optional<tessera::Translator> translator_;
  uint64_t number_ = 0;  // of the line; 0: the text is an argument
};

}  // namespace

void add_translate(CLI::App& app, int& status) {
  auto* sub =
      app.add_subcommand("translate", "Translate with an encoder-decoder, greedy or with beam search");
  auto command = std::make_shared<TranslateCommand>();
  sub->add_option("-m,--model", command->model,
                  "A folder with config.json, weights in safetensors, and vocabularies")
      ->required()
      ->type_name("FOLDER");
  auto* text = sub->add_option("text", command->text,
                               "The text to translate; without it each line of standard input is one");
  sub->add_option("--beam", command->beams, "Hypotheses followed at once (1: greedy)")
      ->check(CLI::Range(1u, 64u));
  sub->add_option("--prefix", command->options.prefix, "Every translation begins with this text");
  sub->add_option("-n,--tokens", command->options.max_tokens, "At most this many tokens a translation (256)")
      ->check(CLI::Range(1u, 65536u));
  add_precision_option(*sub, command->precision);
  sub->add_flag("--json", command->json,
                "A JSON object: device, source_ids, ids, text, score, hypotheses; one a line for\n"
                "standard input");
  add_device_options(*sub, command->device);
  sub->footer(
      "Standard output has a line for each text. A score is the sum of natural log-probabilities.\n"
      "docs/translate.md describes the folder. Examples:\n"
      "  tessera translate -m folder \"text\" --beam 4\n"
      "  tessera translate -m folder --prefix \"a t s\" < lines.txt");
  sub->callback([=, &status] {
    command->has_text = text->count() > 0;
    status = Translation(*command).run();
  });
}

}  // namespace tool
