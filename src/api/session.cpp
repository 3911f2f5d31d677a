#include <chrono>
#include <cmath>

#include "api/handles.h"
#include "graph/fuse.h"
#include "reference/reference.h"
#include "session/generate.h"
#include "tessera/tessera_tools.h"

namespace tessera::api {

static_assert(static_cast<int>(Stop::context) == TESSERA_STOP_CONTEXT &&
              static_cast<int>(Stop::callback) == TESSERA_STOP_CALLBACK);

Result<std::unique_ptr<Walker>> make_walker(tessera_context& context, std::shared_ptr<const Program> unfused,
                                            Progress progress, bool stream) {
  if (context.device == nullptr) {
    TSR_TRY(auto walker, ReferenceWalker::create(std::move(unfused)));
    return std::unique_ptr<Walker>(std::move(walker));
  }
  GpuWalkerOptions options;
  options.run_jobs = context.run_jobs;
  options.progress = std::move(progress);
  options.stream = stream;
  TSR_TRY(auto walker,
          GpuWalker::create(*context.device, std::make_shared<const Program>(fuse(*unfused)), options));
  return std::unique_ptr<Walker>(std::move(walker));
}

Result<SamplerParams> make_sampler(const tessera_sampler& sampler) {
  const auto check = [](const char* name, float value, float most) -> Result<void> {
    if (std::isfinite(value) && value >= 0 && value <= most) return {};
    return Error{Code::invalid_argument, std::string(name) + " must be a number from 0 to " +
                                             std::to_string(most) + ", not " + std::to_string(value)};
  };
  TSR_CHECK(check("temperature", sampler.temperature, 1000));
  TSR_CHECK(check("penalty", sampler.penalty, 1000));
  TSR_CHECK(check("top_p", sampler.top_p, 1));
  TSR_CHECK(check("min_p", sampler.min_p, 1));
  SamplerParams out;
  out.temperature = sampler.temperature;
  out.top_k = sampler.top_k;
  out.top_p = sampler.top_p == 0 ? 1 : sampler.top_p;
  out.min_p = sampler.min_p;
  out.penalty = sampler.penalty == 0 ? 1 : sampler.penalty;
  out.seed_low = static_cast<std::uint32_t>(sampler.seed);
  out.seed_high = static_cast<std::uint32_t>(sampler.seed >> 32);
  return out;
}

Result<Precision> make_precision(tessera_precision precision) {
  if (precision == TESSERA_PRECISION_F32) return Precision::f32;
  if (precision == TESSERA_PRECISION_MIXED) return Precision::mixed;
  return Error{Code::invalid_argument,
               "precision " + std::to_string(static_cast<int>(precision)) + " is not a tessera_precision"};
}

Result<DecoderOptions> make_options(uint32_t context, uint32_t chunk, tessera_kv_type kv_type,
                                    tessera_precision precision) {
  if (kv_type != TESSERA_KV_DEFAULT && kv_type != TESSERA_KV_F32 && kv_type != TESSERA_KV_F16)
    return Error{Code::invalid_argument,
                 "kv_type " + std::to_string(static_cast<int>(kv_type)) + " is not a tessera_kv_type"};
  DecoderOptions options;
  options.context = context;
  if (chunk != 0) options.chunk = chunk;
  if (kv_type == TESSERA_KV_F32) options.kv_type = DType::f32;
  if (kv_type == TESSERA_KV_F16) options.kv_type = DType::f16;
  TSR_TRY(options.precision, make_precision(precision));
  return options;
}

namespace {

Result<void> set_sampler(DecoderSession& session, const tessera_sampler* sampler) {
  tessera_sampler s{};
  if (sampler != nullptr) {
    TSR_TRY(s, sized(sampler, "tessera_sampler"));
  }
  TSR_TRY(const SamplerParams params, make_sampler(s));
  return session.set_sampler(params);
}

DecoderSession::LogitsSink make_logits(const tessera_session_desc& desc) {
  if (desc.logits == nullptr) return {};
  return
      [sink = desc.logits, user = desc.logits_user](std::uint32_t position, std::span<const float> logits) {
        sink(user, position, logits.data(), static_cast<uint32_t>(logits.size()));
      };
}

Result<GenerateOptions> make_generate(const tessera_generate_desc* from) {
  TSR_TRY(const tessera_generate_desc desc, sized(from, "tessera_generate_desc"));
  if (desc.stop_count != 0) TSR_CHECK(require(desc.stop_texts, "stop_texts"));
  GenerateOptions options;
  if (desc.max_tokens != 0) options.max_tokens = desc.max_tokens;
  options.ignore_eos = desc.ignore_eos != 0;
  for (uint32_t i = 0; i < desc.stop_count; ++i)
    if (desc.stop_texts[i] != nullptr) options.stop_texts.emplace_back(desc.stop_texts[i]);
  if (desc.on_text != nullptr)
    options.on_text = [on_text = desc.on_text, user = desc.user](std::string_view text) {
      return on_text(user, text.data(), text.size()) != 0;
    };
  if (desc.on_token != nullptr)
    options.on_token = [on_token = desc.on_token, user = desc.user](TokenId id) {
      return on_token(user, id) != 0;
    };
  return options;
}

Result<Generator*> generator_of(tessera_session* session) {
  if (!session->generator) return session->model->tokenizer.error();
  return &*session->generator;
}

Result<StepLimits> make_limits(const tessera_step_desc* from) {
  TSR_TRY(const tessera_step_desc desc, sized(from, "tessera_step_desc"));
  if (!std::isfinite(desc.budget_us) || desc.budget_us < 0)
    return Error{Code::invalid_argument,
                 "budget_us must be a number of microseconds, or 0, not " + std::to_string(desc.budget_us)};
  if (desc.in_flight > kMostInFlight)
    return Error{Code::invalid_argument, "in_flight must be at most " + std::to_string(kMostInFlight) +
                                             ", not " + std::to_string(desc.in_flight)};
  return StepLimits{desc.budget_us, desc.in_flight == 0 ? 2 : desc.in_flight};
}

Result<void> report_step(const tessera_session& session, const Submitted& submitted,
                         tessera_step_result* result) {
  if (result == nullptr) return {};
  const Generator& generator = *session.generator;
  const Loading loading = session.session->loading();
  tessera_step_result out{};
  out.state = TESSERA_STEP_WAITING;
  if (submitted.value != 0) out.state = TESSERA_STEP_MORE;
  if (!generator.begun() || generator.ended()) out.state = TESSERA_STEP_DONE;
  if (generator.ended()) out.stop = static_cast<tessera_stop>(*generator.ended());
  if (submitted.loading) out.state = TESSERA_STEP_LOADING;
  out.tokens = generator.generated();
  out.idle = session.session->quiet();
  out.timeline = submitted.value;
  out.submitted_us = submitted.us;
  out.next_us = submitted.next.us;
  out.alone = submitted.alone;
  out.loaded_bytes = loading.done;
  out.total_bytes = loading.total;
  return sized_out(out, result, "tessera_step_result");
}

// Before anything is done.
Result<void> check_result(const tessera_step_result* result) {
  return result == nullptr ? Result<void>() : has_room(*result, "tessera_step_result");
}

// Runs a call's body that changes the session, unless a callback of another such call makes it.
template <typename Body>
tessera_status in_session(tessera_session* session, tessera_error* error, Body&& body) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(session, "session"));
    if (session->busy)
      return Error{Code::invalid_argument, "a callback of a session may not call the session"};
    struct Use {
      tessera_session& session;
      explicit Use(tessera_session& s) : session(s) { session.busy = true; }
      ~Use() { session.busy = false; }
    } const use(*session);
    return body();
  });
}

// tessera_session_poll with the time that it may take.
Result<void> wait(tessera_session* session, std::uint64_t timeout_ns, tessera_step_result* result) {
  TSR_TRY(Generator* const generator, generator_of(session));
  TSR_CHECK(check_result(result));
  TSR_CHECK(session->session->alive());
  TSR_CHECK(generator->poll(timeout_ns));
  return report_step(*session, {}, result);
}

}  // namespace
}  // namespace tessera::api

using namespace tessera;
using namespace tessera::api;

extern "C" {

tessera_status tessera_session_create(tessera_model* model, const tessera_session_desc* desc,
                                      tessera_session** session, tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(model, "model"));
    TSR_CHECK(require(session, "session"));
    TSR_TRY(const tessera_session_desc d, sized(desc, "tessera_session_desc"));
    TSR_TRY(DecoderOptions options, make_options(d.context, d.chunk, d.kv_type, d.precision));
    options.all_logits = d.logits != nullptr;
    const auto start = std::chrono::steady_clock::now();
    TSR_TRY(DecoderProgram decoder, build_decoder(model->file, options));
    const Progress progress = make_progress(d.progress, d.progress_user);
    TSR_TRY(auto walker, make_walker(*model->context, decoder.program, progress, d.stream_bytes != 0));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() -
                           walker->stats().pipeline_seconds;
    auto made = std::make_unique<tessera_session>();
    made->model = model;
    made->load_seconds = seconds;
    made->session =
        std::make_unique<DecoderSession>(std::move(walker), std::move(decoder), make_logits(d), progress);
    made->session->stream(d.stream_bytes);
    TSR_CHECK(api::set_sampler(*made->session, d.sampler));
    if (model->tokenizer.ok()) made->generator.emplace(*made->session, **model->tokenizer);
    *session = made.release();
    return {};
  });
}

void tessera_session_destroy(tessera_session* session) { delete session; }

tessera_status tessera_session_set_sampler(tessera_session* session, const tessera_sampler* sampler,
                                           tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_CHECK(require(sampler, "sampler"));
    return api::set_sampler(*session->session, sampler);
  });
}

tessera_status tessera_session_reset(tessera_session* session, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    if (session->generator) session->generator->forget();
    session->session->reset();
    return {};
  });
}

tessera_status tessera_session_append(tessera_session* session, const uint32_t* ids, size_t count,
                                      tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    if (count != 0) TSR_CHECK(require(ids, "ids"));
    return session->session->append({ids, count});
  });
}

tessera_status tessera_session_next(tessera_session* session, uint32_t* id, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_CHECK(require(id, "id"));
    TSR_TRY(*id, session->session->next());
    return {};
  });
}

tessera_status tessera_generate(tessera_session* session, const tessera_generate_desc* desc,
                                tessera_stop* stop, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_TRY(Generator* const generator, generator_of(session));
    TSR_TRY(GenerateOptions options, make_generate(desc));
    TSR_TRY(const Stop why, generator->run(std::move(options)));
    if (stop != nullptr) *stop = static_cast<tessera_stop>(why);
    return {};
  });
}

tessera_status tessera_session_begin(tessera_session* session, const tessera_generate_desc* desc,
                                     tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_TRY(Generator* const generator, generator_of(session));
    TSR_TRY(GenerateOptions options, make_generate(desc));
    TSR_CHECK(session->session->alive());
    return generator->begin(std::move(options));
  });
}

tessera_status tessera_session_step(tessera_session* session, const tessera_step_desc* desc,
                                    tessera_step_result* result, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_TRY(Generator* const generator, generator_of(session));
    TSR_TRY(const StepLimits limits, make_limits(desc));
    TSR_CHECK(check_result(result));
    TSR_CHECK(session->session->alive());
    if (!generator->begun() && session->session->loading().ready())
      return Error{Code::invalid_argument, "there is no generation to step: begin one first"};
    TSR_TRY(const Submitted submitted, generator->step(limits));
    return report_step(*session, submitted, result);
  });
}

tessera_status tessera_session_poll(tessera_session* session, tessera_step_result* result,
                                    tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> { return api::wait(session, 0, result); });
}

tessera_status tessera_session_wait(tessera_session* session, uint64_t timeout_ns,
                                    tessera_step_result* result, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> { return api::wait(session, timeout_ns, result); });
}

tessera_status tessera_session_cancel(tessera_session* session, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_TRY(Generator* const generator, generator_of(session));
    generator->cancel();
    return {};
  });
}

tessera_status tessera_session_release_weights(tessera_session* session, tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> { return session->session->release_weights(); });
}

tessera_status tessera_session_save(tessera_session* session, tessera_bytes_fn sink, void* user,
                                    tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_CHECK(require(reinterpret_cast<const void*>(sink), "sink"));
    const StateWriter::Sink write = [&](std::span<const std::byte> bytes) {
      sink(user, bytes.data(), bytes.size());
    };
    return session->generator ? session->generator->save(write) : session->session->save({}, write);
  });
}

tessera_status tessera_session_restore(tessera_session* session, const void* bytes, size_t count,
                                       tessera_error* error) {
  return in_session(session, error, [&]() -> Result<void> {
    TSR_CHECK(require(bytes, "bytes"));
    const std::span<const std::byte> all(static_cast<const std::byte*>(bytes), count);
    if (session->generator) return session->generator->restore(all);
    TSR_CHECK(session->session->restore(all));
    return {};
  });
}

tessera_status tessera_session_get_stats(const tessera_session* session, tessera_session_stats* stats,
                                         tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(session, "session"));
    const DecoderSession& s = *session->session;
    const SessionStats& from = s.stats();
    const WalkerStats walker = s.walker().stats();
    tessera_session_stats out{};
    out.position = s.position();
    out.context = s.decoder().context;
    out.load_seconds = session->load_seconds;
    out.pipeline_seconds = walker.pipeline_seconds;
    out.pipelines = walker.pipelines;
    out.prefill_tokens = from.prefill_tokens;
    out.prefill_seconds = from.prefill_seconds;
    out.decode_tokens = from.decode_tokens;
    out.decode_seconds = from.decode_seconds;
    out.prefill_submits = from.prefill_submits;
    out.decode_submits = from.decode_submits;
    out.records = walker.records;
    out.decode_records = from.decode_records;
    out.weight_bytes = walker.weight_bytes;
    out.cache_bytes = walker.cache_bytes;
    out.arena_bytes = walker.arena_bytes;
    const Device* device = session->model->context->device.get();
    if (device != nullptr) out.device_peak_bytes = device->memory_use().peak_bytes;
    return sized_out(out, stats, "tessera_session_stats");
  });
}

tessera_status tessera_session_print_schedule(tessera_session* session, tessera_bytes_fn sink, void* user,
                                              tessera_error* error) {
  return guarded(error, [&]() -> Result<void> {
    TSR_CHECK(require(session, "session"));
    TSR_CHECK(require(reinterpret_cast<const void*>(sink), "sink"));
    const auto* walker = dynamic_cast<const GpuWalker*>(&session->session->walker());
    if (walker == nullptr) return Error{Code::unsupported, "the reference has no schedule"};
    const std::string text = walker->print_schedule();
    sink(user, text.data(), text.size());
    return {};
  });
}

}  // extern "C"
