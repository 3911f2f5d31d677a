#include "api/glsl.h"

#include <cstdio>
#include <map>
#include <mutex>

#include "base/checksum.h"

namespace tessera::api {
namespace {

class HostModules final : public GlslModules {
 public:
  HostModules(tessera_compile_glsl_fn by, void* user) : compile_(by), user_(user) {}

  // No lock is held while the host compiles; two threads may do so for one text.
  Result<std::shared_ptr<const SpirvBytes>> module(std::string_view kernel, const std::string& source,
                                                   std::string& log) override {
    {
      const std::lock_guard lock(mutex_);
      if (const auto at = modules_.find(source); at != modules_.end()) return at->second;
    }
    TSR_TRY(auto made, compile(std::string(kernel), source, log));
    const std::lock_guard lock(mutex_);
    return modules_.emplace(source, std::move(made)).first->second;
  }

 private:
  struct Answer {
    SpirvBytes module;
    std::string log;
  };

  Result<std::shared_ptr<const SpirvBytes>> compile(const std::string& kernel, const std::string& source,
                                                    std::string& log) const {
    Answer answer;
    char key[17];
    std::snprintf(
        key, sizeof(key), "%016llx",
        static_cast<unsigned long long>(checksum(kChecksumStart, std::as_bytes(std::span(source)))));
    tessera_glsl_request request{};
    request.size = sizeof(request);
    request.kernel = kernel.c_str();
    request.source = source.c_str();
    request.bytes = source.size();
    request.key = key;
    request.answer = &answer;
    request.module = [](void* to, const void* spirv, size_t bytes) {
      const auto* from = static_cast<const std::uint8_t*>(spirv);
      static_cast<Answer*>(to)->module.assign(from, from + bytes);
    };
    request.log = [](void* to, const char* text) { static_cast<Answer*>(to)->log += text; };
    if (compile_(user_, &request) == 0) return std::make_shared<const SpirvBytes>(std::move(answer.module));
    log = std::move(answer.log);
    return Error{Code::invalid_argument, "compile_glsl failed for " + kernel + " without saying why"};
  }

  tessera_compile_glsl_fn compile_;
  void* user_;
  std::mutex mutex_;                                                  // guards modules_
  std::map<std::string, std::shared_ptr<const SpirvBytes>> modules_;  // by source
};

}  // namespace

std::shared_ptr<GlslModules> make_glsl_modules(const tessera_context_desc& desc) {
  if (desc.compile_glsl == nullptr) return nullptr;
  return std::make_shared<HostModules>(desc.compile_glsl, desc.compile_glsl_user);
}

}  // namespace tessera::api
