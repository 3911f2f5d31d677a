// Tessera for C++20: RAII handles, std::span, std::string and Result<T> over tessera.h. Header-only; works
// with -fno-exceptions -fno-rtti. Every member says what the C call of the same name says.
#ifndef TESSERA_HPP
#define TESSERA_HPP

#include <cassert>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera.h"

namespace tessera {

// A struct of tessera.h with its size set and the rest zero.
template <typename T>
constexpr T init() {
  T value{};
  value.size = sizeof(T);
  return value;
}

struct Failure {
  tessera_status status = TESSERA_INTERNAL;
  std::string message;  // one line for a person
};

// A value, or why there is none.
template <typename T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : value_(std::move(value)) {}
  Expected(Failure failure) : failure_(std::move(failure)) {}
  explicit operator bool() const { return value_.has_value(); }
  T& operator*() & { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const Failure& failure() const { return failure_; }

 private:
  std::optional<T> value_;
  Failure failure_;
};
struct Done {};  // the value of a call that has none

using ProgressFn = std::function<bool(std::string_view stage, std::uint64_t done, std::uint64_t total)>;

template <typename Handle, void (*destroy)(Handle*)>
struct Destroy {
  void operator()(Handle* handle) const { destroy(handle); }
};

namespace detail {

inline Failure failure(const tessera_error& error) { return {error.status, error.message}; }
inline Expected<Done> done(tessera_status status, const tessera_error& error) {
  if (status != TESSERA_OK) return failure(error);
  return Done{};
}
inline int progress(void* user, const char* stage, std::uint64_t done, std::uint64_t total) {
  return (*static_cast<const ProgressFn*>(user))(stage, done, total) ? 0 : 1;
}
inline void to_string(void* user, const void* bytes, std::size_t count) {
  static_cast<std::string*>(user)->assign(static_cast<const char*>(bytes), count);
}

}  // namespace detail

// "invalid argument", ...
inline std::string status_text(tessera_status status) { return tessera_status_text(status); }
// Of the library that runs: major << 16 | minor << 8 | patch.
inline std::uint32_t version() { return tessera_version(); }
inline Expected<Done> devices(const tessera_device_sink& sink,
                              const tessera_context_desc& desc = init<tessera_context_desc>()) {
  tessera_error error;
  return detail::done(tessera_devices(&desc, &sink, &error), error);
}
inline Expected<Done> ops(const tessera_op_list_sink& sink) {
  tessera_error error;
  return detail::done(tessera_ops(&sink, &error), error);
}

// A tensor that owns what tessera_tensor points at.
struct Tensor {
  std::string name, type;
  std::vector<std::uint64_t> shape;
  std::vector<std::byte> data;

  tessera_tensor view() const {  // of this object, while it lives and is not changed
    auto out = init<tessera_tensor>();
    out.name = name.c_str();
    out.type = type.c_str();
    out.shape = shape.data();
    out.dims = static_cast<std::uint32_t>(shape.size());
    out.data = data.empty() ? nullptr : data.data();
    out.bytes = data.size();
    return out;
  }
  // Room for its bytes when `from` has no data.
  static Tensor of(const tessera_tensor& from) {
    Tensor out{from.name, from.type, {from.shape, from.shape + from.dims}, {}};
    const auto* bytes = static_cast<const std::byte*>(from.data);
    if (bytes != nullptr)
      out.data.assign(bytes, bytes + from.bytes);
    else
      out.data.resize(from.bytes);
    return out;
  }
};

// An operation for the C calls; what it is made of must outlive it.
// tessera_op_desc::score_glsl and mask_glsl; empty: none.
struct UserGlsl {
  std::string score, mask;
};

class OpDesc {
 public:
  OpDesc(const std::string& name, std::span<const Tensor> inputs, std::span<const std::string> attributes,
         std::span<const std::string> outputs, const UserGlsl& functions = {})
      : user_(functions) {
    desc_.score_glsl = user_.score.c_str();
    desc_.mask_glsl = user_.mask.c_str();
    for (const Tensor& input : inputs) inputs_.push_back(input.view());
    for (const std::string& attribute : attributes) attributes_.push_back(attribute.c_str());
    for (const std::string& output : outputs) outputs_.push_back(output.c_str());
    desc_.op = name.c_str();
    desc_.inputs = inputs_.data();
    desc_.input_count = static_cast<std::uint32_t>(inputs_.size());
    desc_.attributes = attributes_.data();
    desc_.attribute_count = static_cast<std::uint32_t>(attributes_.size());
    desc_.outputs = outputs_.data();
    desc_.output_count = static_cast<std::uint32_t>(outputs_.size());
  }
  OpDesc(const OpDesc&) = delete;
  OpDesc& operator=(const OpDesc&) = delete;
  tessera_op_desc& operator*() { return desc_; }

 private:
  std::vector<tessera_tensor> inputs_;
  std::vector<const char*> attributes_, outputs_;
  UserGlsl user_;
  tessera_op_desc desc_ = init<tessera_op_desc>();
};

struct GenerateOptions {
  std::uint32_t max_tokens = 256;
  bool ignore_eos = false;
  std::vector<std::string> stop_texts;
  std::function<bool(std::string_view)> on_text;  // true to go on
  std::function<bool(std::uint32_t)> on_token;    // true to go on
};

namespace detail {

// What points into options that outlive it.
struct GenerateDesc {
  explicit GenerateDesc(const GenerateOptions& options) {
    for (const std::string& text : options.stop_texts) stops.push_back(text.c_str());
    value.max_tokens = options.max_tokens;
    value.ignore_eos = options.ignore_eos;
    value.stop_texts = stops.data();
    value.stop_count = static_cast<std::uint32_t>(stops.size());
    value.user = const_cast<GenerateOptions*>(&options);
    if (options.on_text)
      value.on_text = [](void* user, const char* text, std::size_t bytes) {
        return static_cast<GenerateOptions*>(user)->on_text({text, bytes}) ? 0 : 1;
      };
    if (options.on_token)
      value.on_token = [](void* user, std::uint32_t id) {
        return static_cast<GenerateOptions*>(user)->on_token(id) ? 0 : 1;
      };
  }
  std::vector<const char*> stops;
  tessera_generate_desc value = init<tessera_generate_desc>();
};

}  // namespace detail

class Session {
 public:
  Expected<Done> append(std::span<const std::uint32_t> ids) {
    tessera_error error;
    return detail::done(tessera_session_append(handle_.get(), ids.data(), ids.size(), &error), error);
  }
  Expected<std::uint32_t> next() {
    tessera_error error;
    std::uint32_t id = 0;
    if (tessera_session_next(handle_.get(), &id, &error) != TESSERA_OK) return detail::failure(error);
    return id;
  }
  Expected<tessera_stop> generate(const GenerateOptions& options) {
    tessera_error error;
    tessera_stop stop = TESSERA_STOP_LENGTH;
    const detail::GenerateDesc desc(options);
    if (tessera_generate(handle_.get(), &desc.value, &stop, &error) != TESSERA_OK)
      return detail::failure(error);
    return stop;
  }
  Expected<Done> begin(GenerateOptions options) {
    tessera_error error;
    auto kept = std::make_unique<GenerateOptions>(std::move(options));
    const detail::GenerateDesc desc(*kept);
    auto done = detail::done(tessera_session_begin(handle_.get(), &desc.value, &error), error);
    if (done) generating_ = std::move(kept);
    return done;
  }
  Expected<tessera_step_result> step(double budget_us = 0, std::uint32_t in_flight = 0) {
    tessera_error error;
    auto desc = init<tessera_step_desc>();
    desc.budget_us = budget_us;
    desc.in_flight = in_flight;
    auto result = init<tessera_step_result>();
    if (tessera_session_step(handle_.get(), &desc, &result, &error) != TESSERA_OK)
      return detail::failure(error);
    return result;
  }
  Expected<tessera_step_result> poll() {
    tessera_error error;
    auto result = init<tessera_step_result>();
    if (tessera_session_poll(handle_.get(), &result, &error) != TESSERA_OK) return detail::failure(error);
    return result;
  }
  Expected<tessera_step_result> wait(std::uint64_t timeout_ns) {
    tessera_error error;
    auto result = init<tessera_step_result>();
    if (tessera_session_wait(handle_.get(), timeout_ns, &result, &error) != TESSERA_OK)
      return detail::failure(error);
    return result;
  }
  Expected<Done> cancel() {
    tessera_error error;
    return detail::done(tessera_session_cancel(handle_.get(), &error), error);
  }
  Expected<Done> set_sampler(const tessera_sampler& sampler) {
    tessera_error error;
    return detail::done(tessera_session_set_sampler(handle_.get(), &sampler, &error), error);
  }
  Expected<Done> reset() {
    tessera_error error;
    return detail::done(tessera_session_reset(handle_.get(), &error), error);
  }
  Expected<Done> release_weights() {
    tessera_error error;
    return detail::done(tessera_session_release_weights(handle_.get(), &error), error);
  }
  Expected<std::string> save() {
    tessera_error error;
    std::string bytes;
    const auto append = [](void* user, const void* part, std::size_t count) {
      static_cast<std::string*>(user)->append(static_cast<const char*>(part), count);
    };
    if (tessera_session_save(handle_.get(), append, &bytes, &error) != TESSERA_OK)
      return detail::failure(error);
    return bytes;
  }
  Expected<Done> restore(std::string_view bytes) {
    tessera_error error;
    return detail::done(tessera_session_restore(handle_.get(), bytes.data(), bytes.size(), &error), error);
  }
  tessera_session_stats stats() const {
    tessera_session_stats stats = init<tessera_session_stats>();
    tessera_session_get_stats(handle_.get(), &stats, nullptr);
    return stats;
  }
  tessera_session* get() const { return handle_.get(); }

 private:
  friend class Model;
  std::unique_ptr<ProgressFn> progress_;         // at a fixed address for the C callbacks
  std::unique_ptr<GenerateOptions> generating_;  // likewise
  std::unique_ptr<tessera_session, Destroy<tessera_session, tessera_session_destroy>> handle_;
};

class Model {
 public:
  Expected<std::vector<std::uint32_t>> tokenize(std::string_view text, bool special = true,
                                                bool parse_special = false) const {
    tessera_error error;
    std::vector<std::uint32_t> ids(text.size() + 8);
    std::size_t count = 0;
    for (int pass = 0; pass < 2; ++pass) {
      if (tessera_tokenize(handle_.get(), text.data(), text.size(), special, parse_special, ids.data(),
                           ids.size(), &count, &error) != TESSERA_OK)
        return detail::failure(error);
      const bool fitted = count <= ids.size();
      ids.resize(count);
      if (fitted) break;
    }
    return ids;
  }
  Expected<std::string> detokenize(std::span<const std::uint32_t> ids) const {
    tessera_error error;
    std::string text;
    if (tessera_detokenize(handle_.get(), ids.data(), ids.size(), detail::to_string, &text, &error) !=
        TESSERA_OK)
      return detail::failure(error);
    return text;
  }
  tessera_model_info info() const {
    tessera_model_info info = init<tessera_model_info>();
    tessera_model_get_info(handle_.get(), &info, nullptr);
    return info;
  }
  // desc.progress is replaced when `progress` is given.
  Expected<Session> session(tessera_session_desc desc = init<tessera_session_desc>(),
                            ProgressFn progress = {}) const {
    Session session;
    if (progress) {
      session.progress_ = std::make_unique<ProgressFn>(std::move(progress));
      desc.progress = detail::progress;
      desc.progress_user = session.progress_.get();
    }
    tessera_error error;
    tessera_session* handle = nullptr;
    if (tessera_session_create(handle_.get(), &desc, &handle, &error) != TESSERA_OK)
      return detail::failure(error);
    session.handle_.reset(handle);
    return session;
  }
  Expected<Done> verify(const tessera_verify_desc& desc) const {
    tessera_error error;
    return detail::done(tessera_verify(handle_.get(), &desc, &error), error);
  }
  tessera_model* get() const { return handle_.get(); }

 private:
  friend class Context;
  std::unique_ptr<tessera_model, Destroy<tessera_model, tessera_model_destroy>> handle_;
};

struct Hypothesis {  // tessera_hypothesis
  std::string text;
  std::vector<std::uint32_t> ids;
  double score = 0;
  bool finished = false;
};
struct Translation {
  std::vector<std::uint32_t> source_ids;
  std::vector<Hypothesis> hypotheses;  // the best first; at least one
};
struct TranslateOptions {
  std::string prefix = {};
  std::uint32_t beams = 0, max_tokens = 0;  // 0: the translator's
};

class Translator {
 public:
  Expected<Translation> translate(std::string_view text, const TranslateOptions& options = {}) {
    Translation out;
    tessera_translate_desc desc = init<tessera_translate_desc>();
    desc.prefix = options.prefix.c_str();
    desc.beams = options.beams;
    desc.max_tokens = options.max_tokens;
    desc.source = [](void* user, const std::uint32_t* ids, std::size_t count) {
      static_cast<Translation*>(user)->source_ids.assign(ids, ids + count);
    };
    desc.hypothesis = [](void* user, const tessera_hypothesis* h) {
      static_cast<Translation*>(user)->hypotheses.push_back(
          {h->text, {h->ids, h->ids + h->id_count}, h->score, h->finished != 0});
    };
    desc.user = &out;
    tessera_error error;
    if (tessera_translate(handle_.get(), text.data(), text.size(), &desc, &error) != TESSERA_OK)
      return detail::failure(error);
    return out;
  }
  Expected<Done> verify(const tessera_verify_desc& desc) {
    tessera_error error;
    return detail::done(tessera_translator_verify(handle_.get(), &desc, &error), error);
  }
  tessera_translator* get() const { return handle_.get(); }

 private:
  friend class Context;
  std::unique_ptr<ProgressFn> progress_;  // at a fixed address for the C callback
  std::unique_ptr<tessera_translator, Destroy<tessera_translator, tessera_translator_destroy>> handle_;
};

// What a host should enable on the device that it lends: tessera_requirements_info and the list behind it.
class Requirements {
 public:
  static Expected<Requirements> create(
      const tessera_requirements_desc& desc = init<tessera_requirements_desc>()) {
    tessera_error error;
    tessera_requirements* handle = nullptr;
    if (tessera_requirements_create(&desc, &handle, &error) != TESSERA_OK) return detail::failure(error);
    Requirements requirements;
    requirements.handle_.reset(handle);
    return requirements;
  }
  tessera_requirements_info info() const {
    auto info = init<tessera_requirements_info>();
    tessera_requirements_get_info(handle_.get(), &info, nullptr);
    return info;
  }
  // In a host's own chain of feature structs; how many features have no place in it.
  Expected<std::uint32_t> enable(void* chain) const {
    tessera_error error;
    std::uint32_t left = 0;
    if (tessera_requirements_enable(handle_.get(), chain, &left, &error) != TESSERA_OK)
      return detail::failure(error);
    return left;
  }
  std::vector<tessera_requirement> list() const {  // lives as long as this object
    std::vector<tessera_requirement> out;
    tessera_requirements_list(
        handle_.get(),
        [](void* user, const tessera_requirement* requirement) {
          static_cast<std::vector<tessera_requirement>*>(user)->push_back(*requirement);
        },
        &out, nullptr);
    return out;
  }
  tessera_requirements* get() const { return handle_.get(); }

 private:
  std::unique_ptr<tessera_requirements, Destroy<tessera_requirements, tessera_requirements_destroy>> handle_;
};

// A plan with memory. Recording allocates nothing.
class OpBinding {
 public:
  Expected<Done> record(const tessera_record_desc& desc) const {
    tessera_error error;
    return detail::done(tessera_record(handle_.get(), &desc, &error), error);
  }
  tessera_binding* get() const { return handle_.get(); }

 private:
  friend class OpPlan;
  std::unique_ptr<tessera_binding, Destroy<tessera_binding, tessera_binding_destroy>> handle_;
};

class OpPlan {
 public:
  Expected<Done> describe(const tessera_plan_sink& sink) const {
    tessera_error error;
    return detail::done(tessera_plan_describe(handle_.get(), &sink, &error), error);
  }
  // `out` has the tensor's bytes.
  Expected<Done> pack(const std::string& tensor, std::span<const Tensor> inputs,
                      std::span<std::byte> out) const {
    std::vector<tessera_tensor> views;
    for (const Tensor& input : inputs) views.push_back(input.view());
    tessera_error error;
    return detail::done(
        tessera_plan_pack(handle_.get(), tensor.c_str(), views.data(),
                          static_cast<std::uint32_t>(views.size()), out.data(), out.size(), &error),
        error);
  }
  Expected<OpBinding> bind(const tessera_bind_desc& desc) const {
    tessera_error error;
    tessera_binding* handle = nullptr;
    if (tessera_bind(handle_.get(), &desc, &handle, &error) != TESSERA_OK) return detail::failure(error);
    OpBinding binding;
    binding.handle_.reset(handle);
    return binding;
  }
  tessera_plan* get() const { return handle_.get(); }

 private:
  friend class Context;
  std::unique_ptr<tessera_plan, Destroy<tessera_plan, tessera_plan_destroy>> handle_;
};

class Context {
 public:
  static Expected<Context> create(const tessera_context_desc& desc = init<tessera_context_desc>()) {
    tessera_error error;
    tessera_context* handle = nullptr;
    if (tessera_context_create(&desc, &handle, &error) != TESSERA_OK) return detail::failure(error);
    Context context;
    context.handle_.reset(handle);
    return context;
  }
  Expected<Model> load(const tessera_model_desc& desc) const {
    tessera_error error;
    tessera_model* handle = nullptr;
    if (tessera_model_load(handle_.get(), &desc, &handle, &error) != TESSERA_OK)
      return detail::failure(error);
    Model model;
    model.handle_.reset(handle);
    return model;
  }
  Expected<Model> load(const std::string& path) const {
    tessera_model_desc desc = init<tessera_model_desc>();
    desc.path = path.c_str();
    return load(desc);
  }
  // One operation: its outputs, the optional ones that are named in `outputs` among them.
  Expected<std::vector<Tensor>> op(const std::string& name, std::span<const Tensor> inputs,
                                   std::span<const std::string> attributes = {},
                                   std::span<const std::string> outputs = {},
                                   const UserGlsl& functions = {}) const {
    std::vector<std::unique_ptr<Tensor>> made;
    OpDesc called(name, inputs, attributes, outputs, functions);
    tessera_op_desc& desc = *called;
    desc.user = &made;
    desc.output = [](void* user, const tessera_tensor* tensor) -> void* {
      auto& list = *static_cast<std::vector<std::unique_ptr<Tensor>>*>(user);
      list.push_back(std::make_unique<Tensor>(Tensor::of(*tensor)));
      return list.back()->data.data();
    };
    tessera_error error;
    if (tessera_op_run(handle_.get(), &desc, &error) != TESSERA_OK) return detail::failure(error);
    std::vector<Tensor> out;
    out.reserve(made.size());
    for (const auto& tensor : made) out.push_back(std::move(*tensor));
    return out;
  }
  Expected<OpPlan> plan(const std::string& name, std::span<const Tensor> inputs,
                        std::span<const std::string> attributes = {},
                        std::span<const std::string> outputs = {}, const UserGlsl& functions = {}) const {
    return plan(*OpDesc(name, inputs, attributes, outputs, functions));
  }
  Expected<OpPlan> plan(const tessera_op_desc& desc) const {
    tessera_error error;
    tessera_plan* handle = nullptr;
    if (tessera_plan_create(handle_.get(), &desc, &handle, &error) != TESSERA_OK)
      return detail::failure(error);
    OpPlan plan;
    plan.handle_.reset(handle);
    return plan;
  }
  // desc.progress is replaced when `progress` is given.
  Expected<Translator> translator(tessera_translator_desc desc, ProgressFn progress = {}) const {
    Translator translator;
    if (progress) {
      translator.progress_ = std::make_unique<ProgressFn>(std::move(progress));
      desc.progress = detail::progress;
      desc.progress_user = translator.progress_.get();
    }
    tessera_error error;
    tessera_translator* handle = nullptr;
    if (tessera_translator_create(handle_.get(), &desc, &handle, &error) != TESSERA_OK)
      return detail::failure(error);
    translator.handle_.reset(handle);
    return translator;
  }
  std::string device_name() const { return tessera_context_device_name(handle_.get()); }
  std::string cache_key() const { return tessera_context_cache_key(handle_.get()); }
  std::string rates_key() const { return tessera_context_rates_key(handle_.get()); }
  // What every submission of the context signals.
  Expected<tessera_vk_semaphore> timeline() const {
    tessera_error error;
    tessera_vk_semaphore semaphore{};
    if (tessera_context_timeline(handle_.get(), &semaphore, &error) != TESSERA_OK)
      return detail::failure(error);
    return semaphore;
  }
  Expected<std::string> pipeline_cache() const {
    tessera_error error;
    std::string blob;
    if (tessera_context_pipeline_cache(handle_.get(), detail::to_string, &blob, &error) != TESSERA_OK)
      return detail::failure(error);
    return blob;
  }
  tessera_context* get() const { return handle_.get(); }

 private:
  std::unique_ptr<tessera_context, Destroy<tessera_context, tessera_context_destroy>> handle_;
};

}  // namespace tessera

#endif
