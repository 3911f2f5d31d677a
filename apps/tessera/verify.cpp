#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;

struct VerifyOptions {
  DeviceOptions device;
  std::string model;
  std::string text;
  uint32_t context = 0, chunk = 0;
  tessera_precision precision = TESSERA_PRECISION_F32;
  bool json = false;
};

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// `check` runs the verification that `desc` describes.
template <typename Check>
Json collect(const VerifyOptions& options, std::vector<uint32_t> ids, tessera::Failure& failure,
             const Check& check) {
  Json rows = Json::array();
  ProgressBar bar;
  tessera::ProgressFn progress = bar.callback();
  auto desc = tessera::init<tessera_verify_desc>();
  if (!ids.empty()) {
    desc.ids = ids.data();
    desc.id_count = ids.size();
  }
  desc.context = options.context;
  desc.chunk = options.chunk;
  desc.precision = options.precision;
  desc.user = &rows;
  desc.row = [](void* user, const tessera_verify_row* row) {
    static_cast<Json*>(user)->push_back({{"kind", row->kind},
                                         {"ops", row->ops},
                                         {"elements", row->elements},
                                         {"worst_error", number(row->worst_error)},
                                         {"bound", number(row->worst_bound)},
                                         {"ratio", number(row->worst_ratio)},
                                         {"ok", row->worst_ratio <= 1}});
    if (row->largest > 0) static_cast<Json*>(user)->back()["largest"] = number(row->largest);
  };
  desc.progress = tessera::detail::progress;
  desc.progress_user = &progress;
  if (tessera::Expected<tessera::Done> done = check(desc); !done) failure = done.failure();
  return rows;
}

Json verify_model(const tessera::Context& context, const VerifyOptions& options, tessera::Failure& failure) {
  auto model = load_model(context, options.model);
  if (!model) {
    failure = model.failure();
    return {};
  }
  std::vector<uint32_t> ids;
  if (!options.text.empty()) {
    auto tokens = model->tokenize(options.text);
    if (!tokens) {
      failure = tokens.failure();
      return {};
    }
    ids = *std::move(tokens);
  }
  return collect(options, std::move(ids), failure,
                 [&](const tessera_verify_desc& desc) { return model->verify(desc); });
}

// A folder: an encoder-decoder, with as many beams as `translate` is likely to follow.
Json verify_folder(const tessera::Context& context, const VerifyOptions& options, tessera::Failure& failure) {
  auto desc = tessera::init<tessera_translator_desc>();
  desc.path = options.model.c_str();
  desc.beams = 4;
  desc.precision = options.precision;
  auto translator = context.translator(desc);
  if (!translator) {
    failure = translator.failure();
    return {};
  }
  std::vector<uint32_t> ids;
  if (!options.text.empty()) {
    auto found = translator->translate(options.text);
    if (!found) {
      failure = found.failure();
      return {};
    }
    ids = found->source_ids;
  }
  return collect(options, std::move(ids), failure, [&](tessera_verify_desc d) {
    d.precision = TESSERA_PRECISION_F32;  // it has the translator's
    return translator->verify(d);
  });
}

void print_rows(const Json& rows) {
  std::printf("%-12s %8s %12s %12s %12s %8s\n", "op", "checked", "elements", "worst error", "its bound",
              "ratio");
  for (const Json& row : rows) {
    const auto text = [](const Json& v) {
      char out[32];
      if (v.is_null()) return std::string("inf");
      std::snprintf(out, sizeof(out), "%.3g", v.get<double>());
      return std::string(out);
    };
    std::printf("%-12s %8s %12s %12s %12s %8s%s\n", row["kind"].get<std::string>().c_str(),
                row["ops"].dump().c_str(), row["elements"].dump().c_str(), text(row["worst_error"]).c_str(),
                text(row["bound"]).c_str(), text(row["ratio"]).c_str(),
                row["ok"].get<bool>() ? "" : "  OVER");
  }
}

// Beside the tolerance of the whole stands what it is a tolerance of.
constexpr double kWideTolerance = 0.1;

void print_whole(const Json& rows) {
  for (const Json& row : rows) {
    if (!row.contains("largest") || row["largest"].is_null() || row["bound"].is_null()) continue;
    const double largest = row["largest"].get<double>(), part = row["bound"].get<double>() / largest;
    std::printf("the tolerance of the whole is %.2g of the largest logit, %.3g%s\n", part, largest,
                part > kWideTolerance ? ": too much to find small faults" : "");
  }
}

int run(const VerifyOptions& options) {
  auto context = CachedContext::create(options.device);
  if (!context) return fail(context.failure());
  tessera::Failure failure{TESSERA_OK, {}};
  std::error_code no_folder;
  const Json rows = std::filesystem::is_directory(options.model, no_folder)
                        ? verify_folder(**context, options, failure)
                        : verify_model(**context, options, failure);
  context->save();
  const bool mismatch = failure.status == TESSERA_MISMATCH;
  if (failure.status != TESSERA_OK && !mismatch) return fail(failure);
  const char* precision = name_of(options.precision);
  if (options.json) {
    print_json(Json{{"device", (*context)->device_name()},
                    {"precision", precision},
                    {"ok", !mismatch},
                    {"first_fault", mismatch ? Json(failure.message) : Json()},
                    {"ops", rows}});
  } else {
    std::printf("%s, precision %s\n", (*context)->device_name().c_str(), precision);
    print_rows(rows);
    print_whole(rows);
    if (!mismatch) std::puts("every op is within its bound; the whole agrees with the unfused reference");
  }
  return mismatch ? fail(failure) : 0;
}

}  // namespace

void add_verify(CLI::App& app, int& status) {
  auto* sub =
      app.add_subcommand("verify", "Check this device against the CPU reference, op by op and as a whole");
  auto options = std::make_shared<VerifyOptions>();
  add_device_options(*sub, options->device);
  add_model_option(*sub, options->model);
  sub->add_option("--text", options->text, "Run this text; without it ids spread over the vocabulary");
  sub->add_option("--context", options->context, "Tokens of KV cache (64)");
  sub->add_option("--chunk", options->chunk, "Rows of a prefill pass (16)");
  add_precision_option(*sub, options->precision);
  sub->add_flag("--json", options->json, "One JSON object");
  sub->footer(
      "Status 0: right. Status 1: an op is over its bound; the first one is named on standard error.\n"
      "docs/verification.md has every bound with its reason. Examples:\n"
      "  tessera verify\n"
      "  tessera verify -m model.gguf --device 1 --json\n"
      "  tessera verify -m folder                     an encoder-decoder (see translate)\n"
      "  tessera verify --cap max_group_invocations=128 --cap max_shared_bytes=16384");
  sub->callback([=, &status] { status = run(*options); });
}

}  // namespace tool
