// What is behind the opaque handles of tessera.h, and how a Result crosses the C boundary.
#pragma once

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "formats/model_file.h"
#include "graph/walker.h"
#include "models/decoder.h"
#include "schedule/gpu_walker.h"
#include "session/generate.h"
#include "session/seq2seq_session.h"
#include "tessera/tessera.h"
#include "text/token_list.h"
#include "text/tokenizer.h"
#include "verify/verify.h"

struct tessera_context {
  std::unique_ptr<tessera::Device> device;  // null: the reference
  std::string device_name;
  std::string cache_key, rates_key;
  tessera::RunJobs run_jobs;
  std::shared_ptr<tessera::GlslModules> glsl;  // null: the host has no compiler
};

struct tessera_model {
  tessera_context* context = nullptr;
  std::shared_ptr<const tessera::ModelFile> file;
  // Each may fail alone: a vocabulary file has no graph, a bare checkpoint no tokenizer.
  tessera::Result<std::unique_ptr<tessera::Tokenizer>> tokenizer;
  tessera::Result<tessera::DecoderConfig> config;
  std::string architecture;
};

struct tessera_session {
  tessera_model* model = nullptr;
  std::unique_ptr<tessera::DecoderSession> session;
  std::optional<tessera::Generator> generator;  // none without a tokenizer
  double load_seconds = 0;
  bool busy = false;  // a call of it is under way
};

struct tessera_translator {
  tessera_context* context = nullptr;
  tessera::TokenList source, target;
  std::shared_ptr<const tessera::ModelFile> file;  // of the weights
  tessera::Precision precision{};
  std::unique_ptr<tessera::Seq2SeqSession> session;
};

namespace tessera::api {

tessera_status fill(tessera_error* error, Code code, const char* message);  // allocates nothing
// Runs a call's body, a callable that returns Result<void>; nothing is thrown across the ABI.
template <typename Body>
tessera_status guarded(tessera_error* error, Body&& body) {
  try {
    const Result<void> result = body();
    if (!result.ok()) return fill(error, result.error().code, result.error().message.c_str());
    if (error != nullptr) {
      error->status = TESSERA_OK;
      error->message[0] = '\0';
    }
    return TESSERA_OK;
  } catch (const std::bad_alloc&) {
    return fill(error, Code::out_of_memory, "not enough host memory");
  } catch (const std::exception& e) {
    return fill(error, Code::internal, e.what());
  } catch (...) {
    return fill(error, Code::internal, "a callback threw");
  }
}

// A sized struct from the caller: what it does not know yet is zero. invalid_argument without one.
template <typename T>
Result<T> sized(const T* from, const char* what) {
  if (from == nullptr || from->size < sizeof(size_t))
    return Error{Code::invalid_argument, std::string(what) + " is missing or its size is not set"};
  T copy{};
  __builtin_memcpy(&copy, from, from->size < sizeof(T) ? from->size : sizeof(T));
  return copy;
}
template <typename T>
Result<void> has_room(const T& to, const char* what) {
  if (to.size >= sizeof(size_t)) return {};
  return Error{Code::invalid_argument, std::string(what) + ": its size is not set"};
}

// The other way: writes no more than the caller has room for.
template <typename T>
Result<void> sized_out(const T& from, T* to, const char* what) {
  if (to == nullptr) return Error{Code::invalid_argument, std::string(what) + " is NULL"};
  TSR_CHECK(has_room(*to, what));
  const size_t size = to->size;
  __builtin_memcpy(to, &from, size < sizeof(T) ? size : sizeof(T));
  to->size = size;
  return {};
}

// An array of sized structs, which steps by its first element's size.
template <typename T>
Result<std::vector<T>> sized_array(const T* first, std::size_t count, const char* what) {
  std::vector<T> out;
  if (count == 0) return out;
  if (first == nullptr) return Error{Code::invalid_argument, std::string(what) + " is NULL"};
  const auto* at = reinterpret_cast<const std::byte*>(first);
  for (std::size_t i = 0; i < count; ++i, at += first->size) {
    TSR_TRY(const T element, sized(reinterpret_cast<const T*>(at), what));
    out.push_back(element);
  }
  return out;
}

inline Result<void> require(const void* pointer, const char* what) {
  if (pointer == nullptr) return Error{Code::invalid_argument, std::string(what) + " is NULL"};
  return {};
}

Result<std::vector<CapOverride>> parse_caps(const char* const* texts, uint32_t count);
// Of a host's; version 0 is 1.2.
void set_instance(VkInstance_T* handle, uint32_t api_version, Instance::Desc& instance);
// None without desc.host; sets what of `instance` is the host's.
Result<std::optional<HostDevice>> make_host_device(const tessera_context_desc& desc,
                                                   Instance::Desc& instance);
bool asks_for_reference(const tessera_context_desc& desc);
// Sets device, device_name and the keys. Makes nothing but instance and device.
Result<void> open_device(const tessera_context_desc& desc, tessera_context& context);
Progress make_progress(tessera_progress_fn callback, void* user);
Result<SamplerParams> make_sampler(const tessera_sampler& sampler);
Result<Precision> make_precision(tessera_precision precision);
Result<DecoderOptions> make_options(uint32_t context, uint32_t chunk, tessera_kv_type kv_type,
                                    tessera_precision precision);
// Both walkers of `unfused` on this script, the rows handed out; invalid_argument on the reference.
Result<void> run_verify(tessera_context& context, std::shared_ptr<const Program> unfused,
                        std::vector<ScriptPass> script, const tessera_verify_desc& desc);
// The one place that picks a Walker.
// stream: without its weights, which Walker::load brings.
Result<std::unique_ptr<Walker>> make_walker(tessera_context& context, std::shared_ptr<const Program> unfused,
                                            Progress progress, bool stream = false);

}  // namespace tessera::api
