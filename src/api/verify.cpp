#include "verify/verify.h"

#include <algorithm>
#include <cstring>

#include "api/handles.h"
#include "graph/fuse.h"
#include "graph/state.h"

using namespace tessera;
using namespace tessera::api;

namespace {

// With a session's own chunk and context, so that the pipelines are the ones that generate uses: a full
// chunk, a partial one, and decode steps whose keys are split.
constexpr std::uint32_t kPromptTokens = 73;
constexpr std::uint32_t kDecodes = 3;

template <typename T>
std::vector<std::byte> bytes_of(std::span<const T> items) {
  const auto bytes = std::as_bytes(items);
  return {bytes.begin(), bytes.end()};
}

class ScriptBuilder {
 public:
  ScriptBuilder(const DecoderProgram& decoder, std::span<const std::uint32_t> ids)
      : decoder_(decoder), ids_(ids) {}

  // The prompt in chunks, its head, then decode steps that are told the next token, so that a device and the
  // reference which choose differently between equals stay together. Sampling is on in the last step.
  std::vector<ScriptPass> build() {
    const auto prompt = static_cast<std::uint32_t>(ids_.size()) - kDecodes;
    for (std::uint32_t begin = 0; begin < prompt; begin += decoder_.chunk)
      add(decoder_.prefill, begin, std::min(decoder_.chunk, prompt - begin), {decoder_.last_hidden});
    add(decoder_.head, prompt, 0, {decoder_.logits});
    for (std::uint32_t i = 0; i < kDecodes; ++i) add(decoder_.decode, prompt + i, 1, {decoder_.logits});
    const SamplerParams sampler{
        .temperature = 0.8f, .top_k = 40, .top_p = 0.9f, .min_p = 0.02f, .penalty = 1.1f, .seed_low = 7};
    script_.back().writes.push_back({decoder_.sampler, bytes_of(std::span(&sampler, 1))});
    return std::move(script_);
  }

 private:
  void add(std::uint32_t graph, std::uint32_t position, std::uint32_t rows, std::vector<ValueId> compare) {
    const StepState state{.position = position, .rows = rows};
    ScriptPass pass;
    pass.writes.push_back({decoder_.tokens, bytes_of(ids_)});
    pass.writes.push_back({decoder_.state, bytes_of(std::span(&state, 1))});
    pass.graph = graph;
    pass.compare = std::move(compare);
    script_.push_back(std::move(pass));
  }

  const DecoderProgram& decoder_;
  std::span<const std::uint32_t> ids_;
  std::vector<ScriptPass> script_;
};

// Ids spread over the vocabulary, or the caller's.
Result<std::vector<std::uint32_t>> choose_ids(const tessera_verify_desc& desc, std::uint32_t vocab,
                                              std::uint32_t context) {
  std::vector<std::uint32_t> ids;
  if (desc.ids != nullptr)
    ids.assign(desc.ids, desc.ids + desc.id_count);
  else
    for (std::uint32_t i = 0; i < std::min(kPromptTokens + kDecodes, context); ++i)
      ids.push_back(static_cast<std::uint32_t>(std::uint64_t{i} * 2654435761u % vocab));
  if (ids.size() <= kDecodes || ids.size() > context)
    return Error{Code::invalid_argument, "verification needs more than " + std::to_string(kDecodes) +
                                             " tokens and at most the context of " + std::to_string(context) +
                                             ", not " + std::to_string(ids.size())};
  for (std::uint32_t id : ids)
    if (id >= vocab)
      return Error{Code::invalid_argument, "token id " + std::to_string(id) +
                                               " is outside the vocabulary of " + std::to_string(vocab)};
  return ids;
}

Error no_device() {
  return {Code::invalid_argument, "verification compares a device with the reference: choose a device"};
}

void hand_out(const VerifyReport& report, const tessera_verify_desc& desc) {
  if (desc.row == nullptr) return;
  for (const VerifyRow& row : report.rows) {
    tessera_verify_row out{};
    out.size = sizeof(out);
    out.kind = row.kind.c_str();
    out.ops = row.ops;
    out.elements = row.elements;
    out.worst_error = row.worst_error;
    out.worst_bound = row.worst_bound;
    out.worst_ratio = row.worst_ratio;
    out.largest = row.largest;
    desc.row(desc.user, &out);
  }
}

}  // namespace

namespace tessera::api {

Result<void> run_verify(tessera_context& context, std::shared_ptr<const Program> unfused,
                        std::vector<ScriptPass> script, const tessera_verify_desc& desc) {
  if (context.device == nullptr) return no_device();
  VerifyDesc verify_desc;
  verify_desc.fused = std::make_shared<const Program>(fuse(*unfused));
  verify_desc.unfused = std::move(unfused);
  verify_desc.script = std::move(script);
  verify_desc.walker.run_jobs = context.run_jobs;
  verify_desc.progress = make_progress(desc.progress, desc.progress_user);
  TSR_TRY(const VerifyReport report, verify(*context.device, verify_desc));
  hand_out(report, desc);
  if (!report.first_fault.empty()) return Error{Code::mismatch, report.first_fault};
  return {};
}

}  // namespace tessera::api

extern "C" tessera_status tessera_verify(tessera_model* model, const tessera_verify_desc* desc,
                                         tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(model, "model"));
    TSR_TRY(const tessera_verify_desc d, sized(desc, "tessera_verify_desc"));
    if (model->context->device == nullptr) return no_device();
    TSR_TRY(const DecoderOptions options, make_options(d.context, d.chunk, d.kv_type, d.precision));
    if (!model->config.ok()) return model->config.error();
    TSR_TRY(const DecoderProgram decoder, build_decoder(model->file, options));
    TSR_TRY(const std::vector<std::uint32_t> ids, choose_ids(d, decoder.config.vocab, decoder.context));
    return run_verify(*model->context, decoder.program, ScriptBuilder(decoder, ids).build(), d);
  });
}
