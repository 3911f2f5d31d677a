#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "../shared/terminal.h"
#include "common.h"
#include "tessera/tessera_tools.h"

namespace tool {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct GenerateCommand {
  DeviceOptions device;
  std::string model, prompt, prompt_file, logits_file;
  bool has_prompt = false, interactive = false, echo = false, json = false, parse_special = false;
  tessera::GenerateOptions generate;
  tessera_session_desc session = tessera::init<tessera_session_desc>();
  tessera_sampler sampler = tessera::init<tessera_sampler>();
  std::string kv_type;
  bool print_schedule = false;
};

class LogitsFile {
 public:
  LogitsFile() = default;
  LogitsFile(const LogitsFile&) = delete;
  LogitsFile& operator=(const LogitsFile&) = delete;
  ~LogitsFile() {
    if (writer_ != nullptr) tessera_tensor_writer_close(writer_, 0, nullptr);
  }
  tessera::Expected<tessera::Done> open(const std::string& path, uint32_t vocab) {
    return tessera::detail::done(
        tessera_tensor_writer_create(path.c_str(), "logits", vocab, &writer_, &error_), error_);
  }
  static void row(void* user, uint32_t, const float* logits, uint32_t) {
    auto& file = *static_cast<LogitsFile*>(user);
    if (file.error_.status == TESSERA_OK) tessera_tensor_writer_row(file.writer_, logits, &file.error_);
  }
  tessera::Expected<tessera::Done> close() {
    if (writer_ == nullptr) return tessera::Done{};
    tessera_error closed;
    const tessera_status status =
        tessera_tensor_writer_close(std::exchange(writer_, nullptr), error_.status == TESSERA_OK, &closed);
    if (error_.status != TESSERA_OK) return tessera::detail::failure(error_);
    return tessera::detail::done(status, closed);
  }

 private:
  tessera_tensor_writer* writer_ = nullptr;
  tessera_error error_{};
};

double peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

double rate(uint64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

Json timings(const tessera_session_stats& s, double first_token_seconds) {
  return {{"load_seconds", s.load_seconds},
          {"pipeline_seconds", s.pipeline_seconds},
          {"pipelines", s.pipelines},
          {"first_token_seconds", first_token_seconds},
          {"prefill_tokens", s.prefill_tokens},
          {"prefill_seconds", s.prefill_seconds},
          {"prefill_tokens_per_second", rate(s.prefill_tokens, s.prefill_seconds)},
          {"decode_tokens", s.decode_tokens},
          {"decode_seconds", s.decode_seconds},
          {"decode_tokens_per_second", rate(s.decode_tokens, s.decode_seconds)},
          {"decode_submits", s.decode_submits},
          {"submits_per_token", rate(s.decode_submits, static_cast<double>(s.decode_tokens))},
          {"records", s.records},
          {"decode_records", s.decode_records},
          {"weight_bytes", s.weight_bytes},
          {"cache_bytes", s.cache_bytes},
          {"arena_bytes", s.arena_bytes},
          {"device_peak_bytes", s.device_peak_bytes},
          {"peak_memory_bytes", peak_memory_bytes()}};
}

void print_summary(const std::string& device, const tessera_session_stats& s, double first_token_seconds) {
  std::fprintf(stderr, "\n%s\n", device.c_str());
  std::fprintf(stderr, "load %s, %u pipelines %s, first token after %s\n",
               human_seconds(s.load_seconds).c_str(), s.pipelines, human_seconds(s.pipeline_seconds).c_str(),
               human_seconds(first_token_seconds).c_str());
  std::fprintf(stderr, "prefill %llu tokens, %.1f tokens/s; decode %llu tokens, %.1f tokens/s\n",
               static_cast<unsigned long long>(s.prefill_tokens), rate(s.prefill_tokens, s.prefill_seconds),
               static_cast<unsigned long long>(s.decode_tokens), rate(s.decode_tokens, s.decode_seconds));
  std::fprintf(stderr, "%.2f submits a decoded token, %llu command lists recorded (%llu during decode)\n",
               rate(s.decode_submits, static_cast<double>(s.decode_tokens)),
               static_cast<unsigned long long>(s.records), static_cast<unsigned long long>(s.decode_records));
  std::fprintf(stderr, "memory: weights %s, KV cache %s, arena %s; peak: device %s, process %s\n",
               human_bytes(static_cast<double>(s.weight_bytes)).c_str(),
               human_bytes(static_cast<double>(s.cache_bytes)).c_str(),
               human_bytes(static_cast<double>(s.arena_bytes)).c_str(),
               human_bytes(static_cast<double>(s.device_peak_bytes)).c_str(),
               human_bytes(peak_memory_bytes()).c_str());
}

class Generation {
 public:
  explicit Generation(const GenerateCommand& command) : command_(command) {}

  int run() {
    auto context = CachedContext::create(command_.device);
    if (!context) return fail(context.failure());
    context_ = *std::move(context);
    auto model = load_model(**context_, command_.model);
    if (!model) return fail(model.failure());
    model_ = *std::move(model);
    if (auto made = make_session(); !made) return fail(made.failure());
    context_->save();
    const int status = command_.interactive ? converse() : once();
    bar_.clear();
    if (auto closed = logits_.close(); !closed && status == 0) return fail(closed.failure());
    return status;
  }

 private:
  tessera::Expected<tessera::Done> make_session() {
    tessera_session_desc desc = command_.session;
    desc.sampler = &command_.sampler;
    if (!command_.logits_file.empty()) {
      if (auto opened = logits_.open(command_.logits_file, model_->info().vocab); !opened) return opened;
      desc.logits = LogitsFile::row;
      desc.logits_user = &logits_;
    }
    auto session = model_->session(desc, bar_.callback());
    bar_.clear();
    if (!session) return session.failure();
    session_ = *std::move(session);
    if (command_.print_schedule) {
      std::string text;
      tessera_error error;
      if (tessera_session_print_schedule(session_->get(), tessera::detail::to_string, &text, &error) !=
          TESSERA_OK)
        return tessera::detail::failure(error);
      std::fputs(text.c_str(), stderr);
    }
    return tessera::Done{};
  }

  int once() {
    std::string prompt = command_.prompt;
    if (!command_.has_prompt) {
      auto read = read_text(command_.prompt_file.empty() ? "-" : command_.prompt_file);
      if (interrupted()) return kInterrupted;
      if (!read) return fail(read.failure());
      prompt = *std::move(read);
    }
    if (const int status = turn(prompt, true); status != 0) return status;
    const tessera_session_stats stats = session_->stats();
    if (command_.json) {
      const Json out{{"device", (*context_)->device_name()},
                     {"prompt_ids", prompt_ids_},
                     {"ids", ids_},
                     {"text", text_},
                     {"stop", stop_name()},
                     {"timings", timings(stats, first_token_seconds_)}};
      print_json(out);
    } else {
      if (is_terminal(STDOUT_FILENO)) std::fputs("\n", stdout);
      std::fflush(stdout);
      print_summary((*context_)->device_name(), stats, first_token_seconds_);
    }
    return interrupted() ? kInterrupted : 0;
  }

  // A line in, a text out; the KV cache keeps everything said.
  int converse() {
    const bool prompt_sign = is_terminal(STDIN_FILENO) && is_terminal(STDERR_FILENO);
    bool first = true;
    std::string line;
    for (;;) {
      if (prompt_sign) std::fputs("> ", stderr);
      if (!std::getline(std::cin, line)) break;
      if (const int status = turn(first ? line : "\n" + line, first); status != 0) return status;
      std::fputs("\n", stdout);
      std::fflush(stdout);
      if (interrupted()) break;
      first = false;
    }
    if (prompt_sign) std::fputs("\n", stderr);
    if (!first) print_summary((*context_)->device_name(), session_->stats(), first_token_seconds_);
    return interrupted() ? kInterrupted : 0;
  }

  int turn(const std::string& prompt, bool special) {
    auto ids = model_->tokenize(prompt, special, command_.parse_special);
    if (!ids) return fail(ids.failure());
    if (ids->empty() && special)
      return fail("the prompt has no tokens and this vocabulary has no BOS to start from");
    prompt_ids_ = *ids;
    if (auto added = session_->append(*ids); !added) return fail(added.failure());
    if (command_.echo && !command_.json) print(prompt);
    tessera::GenerateOptions options = command_.generate;
    options.on_text = [this](std::string_view text) {
      text_ += text;
      if (!command_.json) print(text);
      return !interrupted();
    };
    options.on_token = [this](uint32_t id) {
      if (ids_.empty()) first_token_seconds_ = std::chrono::duration<double>(Clock::now() - start_).count();
      bar_.clear();
      ids_.push_back(id);
      return !interrupted();
    };
    auto stop = session_->generate(options);
    bar_.clear();
    if (!stop) return fail(stop.failure());
    stop_ = *stop;
    return 0;
  }

  static void print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const char* stop_name() const {
    switch (stop_) {
      case TESSERA_STOP_LENGTH: return "length";
      case TESSERA_STOP_EOS: return "eos";
      case TESSERA_STOP_TEXT: return "text";
      case TESSERA_STOP_CONTEXT: return "context";
      case TESSERA_STOP_CALLBACK: return "interrupted";
    }
    return "";
  }

  const GenerateCommand& command_;
  Clock::time_point start_ = Clock::now();
  ProgressBar bar_;
  LogitsFile logits_;
  std::optional<CachedContext> context_;  // these three end in the opposite order
  std::optional<tessera::Model> model_;
  std::optional<tessera::Session> session_;
  std::vector<uint32_t> prompt_ids_, ids_;
  std::string text_;
  tessera_stop stop_ = TESSERA_STOP_LENGTH;
  double first_token_seconds_ = 0;
};

void add_sampling_options(CLI::App& app, GenerateCommand& command) {
  const std::string group = "Sampling, applied in this order";
  const auto add = [&](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->group(group);
  };
  add("--penalty", command.sampler.penalty, "Repetition penalty of ids among the last 64 (1: off)");
  add("--temp,--temperature", command.sampler.temperature, "0: greedy, the default");
  add("--top-k", command.sampler.top_k, "The k most probable (0: all)");
  add("--top-p", command.sampler.top_p, "The most probable that together reach p (1: all)");
  add("--min-p", command.sampler.min_p, "What has at least this part of the best one's probability");
  add("--seed", command.sampler.seed, "Same seed, device and build: same text (0)");
}

void add_run_options(CLI::App& app, GenerateCommand& command) {
  const CLI::Range at_least_one(1u, std::numeric_limits<uint32_t>::max());
  app.add_option("-n,--tokens", command.generate.max_tokens, "At most this many tokens (256)")
      ->check(at_least_one);
  app.add_flag("--ignore-eos", command.generate.ignore_eos, "Go on after the end-of-text token");
  app.add_option("--stop", command.generate.stop_texts, "End before this text; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--context", command.session.context,
                 "Tokens the KV cache holds (the model's, at most 4096)")
      ->check(at_least_one);
  app.add_option("--chunk", command.session.chunk, "Prompt tokens of one pass (64)")->check(at_least_one);
  app.add_option("--kv-type", command.kv_type, "KV cache in f32 or f16 (f32 for a model in F32, else f16)")
      ->check(CLI::IsMember({"f32", "f16"}));
  add_precision_option(app, command.session.precision);
  app.add_flag("--parse-special", command.parse_special,
               "Control tokens written in the prompt become their ids");
}

}  // namespace

void add_generate(CLI::App& app, int& status) {
  auto* sub = app.add_subcommand("generate", "Continue a text with a language model");
  auto command = std::make_shared<GenerateCommand>();
  add_model_option(*sub, command->model);
  auto* prompt = sub->add_option("prompt", command->prompt,
                                 "The text to continue (\"\": the model begins by itself); without it, and\n"
                                 "without --prompt-file, standard input is");
  auto* file = sub->add_option("--prompt-file", command->prompt_file, "Read the prompt from a file")
                   ->excludes(prompt)
                   ->type_name("FILE");
  auto* interactive = sub->add_flag("--interactive", command->interactive,
                                    "A turn for each line of input; the session keeps what was said")
                          ->excludes(prompt)
                          ->excludes(file);
  sub->add_flag("--echo", command->echo, "Print the prompt before what is generated");
  sub->add_flag("--json", command->json, "One JSON object: device, prompt_ids, ids, text, timings")
      ->excludes(interactive);
  sub->add_option("--logits", command->logits_file,
                  "Write the logits of every position to a safetensors file:\n"
                  "one tensor 'logits' (positions, vocab) in f32")
      ->type_name("FILE");
  sub->add_flag("--print-schedule", command->print_schedule,
                "Print kernels, buffers and barriers to standard error");
  add_run_options(*sub, *command);
  add_sampling_options(*sub, *command);
  add_device_options(*sub, command->device);
  sub->footer(
      "Standard output has the generated text and nothing else; the timing summary goes to standard error.\n"
      "Examples:\n"
      "  tessera generate \"Once upon a time\" -n 100\n"
      "  tessera generate --temp 0.8 --top-p 0.95 --seed 7 \"The sea\"\n"
      "  tessera generate -m model.gguf --prompt-file question.txt --stop \"###\" --json\n"
      "  tessera generate --interactive --device reference");
  sub->callback([=, &status] {
    command->has_prompt = prompt->count() > 0;
    if (command->kv_type == "f32") command->session.kv_type = TESSERA_KV_F32;
    if (command->kv_type == "f16") command->session.kv_type = TESSERA_KV_F16;
    status = Generation(*command).run();
  });
}

}  // namespace tool
