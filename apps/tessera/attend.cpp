#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "attention_view.h"
#include "common.h"

namespace tool {
namespace {

struct AttendCommand {
  DeviceOptions device;
  std::string model, text, kind, out, font, target, scale;
  bool has_text = false, has_target = false, has_layer = false, has_head = false;
  bool json = false, mean = false;
  uint32_t layer = 0, head = 0, beams = 1;
  tessera_precision precision = TESSERA_PRECISION_F32;
};

using Writer = tessera::Expected<tessera::Done> (*)(const AttendCommand&, const AttentionView&);

// By the end of a file's name; none: no picture of that kind.
const std::map<std::string, Writer>& writers() {
  static const std::map<std::string, Writer> all{
      {".html",
       [](const AttendCommand& c, const AttentionView& v) { return write_attention_html(c.out, v); }},
#ifdef TESSERA_PICTURES
      {".png",
       [](const AttendCommand& c, const AttentionView& v) { return write_attention_png(c.out, v, c.font); }},
#endif
      {".svg", [](const AttendCommand& c, const AttentionView& v) { return write_attention_svg(c.out, v); }}};
  return all;
}

std::string check_output(const std::string& path) {
  const std::string end = std::filesystem::path(path).extension().string();
  if (writers().contains(end)) return {};
#ifndef TESSERA_PICTURES
  if (end == ".png")
    return "PNG needs libpng and FreeType, which were not there when this program was built; .svg and .html "
           "need neither";
#endif
  return "'" + path + "' ends in none of .png, .svg, .html";
}

// One attention command, from arguments to what it shows.
class Attending {
 public:
  explicit Attending(const AttendCommand& command) : command_(command) {}

  int run() {
    if (!command_.has_text) {
      auto read = read_text("-");
      if (!read) return fail(read.failure());
      text_ = *std::move(read);
    } else {
      text_ = command_.text;
    }
    auto context = CachedContext::create(command_.device);
    if (!context) return fail(context.failure());
    context_ = *std::move(context);
    std::error_code ignored;
    const bool folder = std::filesystem::is_directory(command_.model, ignored);
    const std::string path = command_.model.empty() ? "tessera-tiny.gguf" : command_.model;
    const std::filesystem::path name = std::filesystem::path(path).lexically_normal();
    view_.model = name.has_stem() ? name.stem().string() : name.parent_path().filename().string();
    auto attention = folder ? of_translator() : of_model();
    bar_.clear();
    if (!attention) return fail(attention.failure());
    context_->save();
    view_.attention = *std::move(attention);
    if (command_.mean) {
      view_.attention = mean_of_heads(view_.attention);
      view_.mean = true;
    }
    view_.top = top_weight(view_.attention);
    view_.root = command_.scale == "sqrt";
    for (const tessera::AttentionToken& token : view_.attention.rows)
      view_.row_labels.push_back(token_label(token));
    for (const tessera::AttentionToken& token : view_.attention.keys)
      view_.key_labels.push_back(token_label(token));
    return show();
  }

 private:
  tessera_attention_desc desc() const {
    auto d = tessera::init<tessera_attention_desc>();
    // A terminal has room for one head.
    const bool one = command_.out.empty() && !command_.json;
    d.layer = command_.layer;
    d.layers = one || command_.has_layer ? 1 : 0;
    d.head = command_.head;
    d.heads = (one || command_.has_head) && !command_.mean ? 1 : 0;
    return d;
  }

  tessera::Expected<tessera::Attention> of_model() {
    if (command_.kind == "encoder" || command_.kind == "cross" || command_.has_target)
      return tessera::Failure{
          TESSERA_INVALID_ARGUMENT,
          "a GGUF model is a decoder: its attention is of kind self, and it has no target"};
    auto model = load_model(**context_, command_.model);
    if (!model) return model.failure();
    auto ids = model->tokenize(text_);
    if (!ids) return ids.failure();
    tessera_attention_desc d = desc();
    d.precision = command_.precision;
    view_.kind = "self-attention";
    view_.row_name = "query";
    view_.key_name = "key";
    return tessera::attention(*model, *ids, d, bar_.callback());
  }

  tessera::Expected<tessera::Attention> of_translator() {
    auto t = tessera::init<tessera_translator_desc>();
    t.path = command_.model.c_str();
    t.beams = command_.beams;
    t.precision = command_.precision;
    auto translator = (*context_)->translator(t, bar_.callback());
    if (!translator) return translator.failure();
    tessera_attention_desc d = desc();
    if (command_.has_target) d.target = command_.target.c_str();
    const bool encoder = command_.kind == "encoder",
               cross = command_.kind.empty() || command_.kind == "cross";
    d.kind = encoder ? TESSERA_ATTENTION_ENCODER
             : cross ? TESSERA_ATTENTION_CROSS
                     : TESSERA_ATTENTION_DECODER;
    view_.kind = encoder ? "encoder self-attention" : cross ? "cross-attention" : "decoder self-attention";
    view_.row_name = cross ? "target" : "query";
    view_.key_name = cross ? "source" : "key";
    return tessera::attention(*translator, text_, d, bar_.callback());
  }

  int show() {
    if (command_.json) print_json(attention_json(view_, (*context_)->device_name()));
    if (command_.out.empty()) {
      if (!command_.json) std::fputs(attention_text(view_).c_str(), stdout);
      return 0;
    }
    const std::string end = std::filesystem::path(command_.out).extension().string();
    if (auto written = writers().at(end)(command_, view_); !written) return fail(written.failure());
    return 0;
  }

  const AttendCommand& command_;
  ProgressBar bar_;
  std::optional<CachedContext> context_;
  std::string text_;
  AttentionView view_;
};

void add_what_options(CLI::App& app, AttendCommand& command) {
  const CLI::Range index(0u, 65535u);
  app.add_option("--kind", command.kind,
                 "self, of a GGUF model or a translator's decoder (decoder is the same);\n"
                 "encoder or cross, of a translator (self; of a translator cross)")
      ->check(CLI::IsMember({"self", "encoder", "decoder", "cross"}));
  app.add_option("--target", command.target,
                 "Of a translator: what the text is translated to; without it what it finds");
  app.add_option("--beam", command.beams, "Hypotheses followed at once to find that (1: greedy)")
      ->check(CLI::Range(1u, 64u));
  app.add_option("--layer", command.layer, "From 0 (all; in a terminal 0)")->check(index);
  auto* head = app.add_option("--head", command.head, "From 0 (all; in a terminal 0)")->check(index);
  app.add_flag("--mean", command.mean, "The mean of a layer's heads instead of each")->excludes(head);
}

}  // namespace

void add_attend(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("attend", "Show where each head of a model attends to, as a picture");
  auto command = std::make_shared<AttendCommand>();
  sub->add_option("-m,--model", command->model,
                  "A GGUF file, or a folder of an encoder-decoder; the bundled model without it")
      ->type_name("FILE");
  auto* text = sub->add_option("text", command->text, "The text; without it, standard input is");
  sub->add_option("-o,--output", command->out,
                  "A picture: .png, .svg, or .html, a page of its own with every weight")
      ->check([](const std::string& path) { return check_output(path); })
      ->type_name("FILE");
  sub->add_option("--scale", command->scale,
                  "Colours by the weight or, so that small ones are seen, its square root (linear)")
      ->check(CLI::IsMember({"linear", "sqrt"}));
  add_what_options(*sub, *command);
  add_precision_option(*sub, command->precision);
  sub->add_option("--font", command->font, "TrueType or OpenType font of a PNG (DejaVu Sans)")
      ->type_name("FILE");
  sub->add_flag("--json", command->json,
                "A JSON object: device, model, kind, rows, keys, heads with weights");
  add_device_options(*sub, command->device);
  sub->footer(
      "Without -o and --json, one head in shades. Weights are those that the device's kernels compute.\n"
      "docs/attend.md shows pictures. Examples:\n"
      "  tessera attend \"Once upon a time there was a house\" -o heads.svg\n"
      "  tessera attend -m folder \"text\" --layer 5 --mean -o alignment.png\n"
      "  tessera attend -m model.gguf --layer 2 --head 1 \"The sea\"");
  sub->callback([=, &status] {
    command->has_text = text->count() > 0;
    command->has_target = sub->count("--target") > 0;
    command->has_layer = sub->count("--layer") > 0;
    command->has_head = sub->count("--head") > 0;
    status = Attending(*command).run();
  });
}

}  // namespace tool
